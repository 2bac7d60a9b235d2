"""A foreign key to an id of ours, as SQLModel's own tutorial writes it, ends in a sentence that says what to write instead."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from derwin_db.errors import ConfigurationError
from derwin_db.fields.own import OWN_REGISTRY, own_logs, own_tables
from derwin_db.models import QATicket
from derwin_db.tables import Created, Id, ProjectTable
from examples.service.tables import webhooks


def definer(own: registry) -> Any:
    """Return what makes classes of a service in this registry."""

    class Base(SQLModel, registry=own):
        pass

    def define(name: str, *keys: sa.ForeignKeyConstraint, **fields: Any) -> Any:
        hints = {"id": int | None, **dict.fromkeys(fields, UUID)}
        columns = {"id": Field(default=None, primary_key=True), **fields}
        more = {"__annotations__": hints, "__module__": __name__, "__table_args__": keys}
        return type(name, (Base,), {**more, **columns}, table=True)

    define.registry = own  # type: ignore[attr-defined]
    return define


@pytest.fixture
def service() -> Iterator[Any]:
    """Makes classes of a service, in SQLModel's own metadata, and takes them out again."""
    before, own = set(SQLModel.metadata.tables), registry(metadata=SQLModel.metadata)
    yield definer(own)
    own.dispose()
    for name in set(SQLModel.metadata.tables) - before:
        SQLModel.metadata.remove(SQLModel.metadata.tables[name])


@pytest.fixture
def apart() -> Iterator[Any]:
    """Makes classes of a service whose metadata are its own, where our tables are known by their names alone."""
    own = registry(metadata=sa.MetaData())
    yield definer(own)
    own.dispose()


def of_both(*names: str) -> sa.ForeignKeyConstraint:
    """Return the key of a ticket, by its name."""
    return sa.ForeignKeyConstraint(names, ["public.qa_tickets.project_id", "public.qa_tickets.id"])


class TestForeignKey:
    @pytest.mark.parametrize("target", ["qa_tickets.id", "public.qa_tickets.id"])
    def test_to_an_id_alone_says_what_the_key_is(self, service, target):
        service("Note", ticket_id=Field(foreign_key=target))
        with pytest.raises(
            ConfigurationError, match=r"note.ticket_id: the key .* `ticket_id: Id = references\(QATicket\)`; or give"
        ):
            service.registry.configure()

    def test_to_the_root_names_its_schema(self, service):
        service("Note", project=Field(foreign_key="projects.id"))
        with pytest.raises(ConfigurationError, match=r"note.project: write foreign_key='public.projects.id'"):
            service.registry.configure()

    def test_to_the_root_is_taken_with_its_schema(self, service):
        service("Note", project=Field(foreign_key="public.projects.id"))
        service.registry.configure()

    def test_to_a_table_of_the_service_with_a_name_of_ours_is_its_own_business(self, service):
        service("Item", policy_id=Field(foreign_key="policies.id"))
        service("Policies")  # defined later
        service.registry.configure()

    def test_of_project_and_id_is_taken(self, service):
        note = service("Note", project_id=Field(), ticket_id=Field())
        there = QATicket.__table__.c  # type: ignore[attr-defined]
        note.__table__.append_constraint(sa.ForeignKeyConstraint(["project_id", "ticket_id"], [there.project_id, there.id]))
        service.registry.configure()

    @pytest.mark.parametrize("target", ["qa_tickets.id", "public.qa_tickets.id"])
    def test_to_an_id_alone_is_refused_in_other_metadata_too(self, apart, target):
        apart("Note", ticket_id=Field(foreign_key=target))
        with pytest.raises(ConfigurationError, match=r"note.ticket_id: the key .* `ticket_id: Id = references\(QATicket\)`"):
            apart.registry.configure()

    def test_of_project_and_id_is_taken_in_other_metadata(self, apart):
        apart("Note", of_both("project_id", "ticket_id"), project_id=Field(), ticket_id=Field())
        apart.registry.configure()

    def test_to_the_root_is_taken_in_other_metadata_with_its_schema_alone(self, apart):
        apart("Note", project=Field(foreign_key="public.projects.id"))
        apart.registry.configure()
        apart("Memo", project=Field(foreign_key="projects.id"))
        with pytest.raises(ConfigurationError, match=r"memo.project: write foreign_key='public.projects.id'"):
            apart.registry.configure()

    def test_of_project_and_id_is_taken_in_a_fenced_table(self):
        """Written out, as a service does that wants ON DELETE of its own."""

        class Remark(Created, ProjectTable, table=True):
            __tablename__ = "remarks_of_tickets"
            __table_args__ = (of_both("project_id", "ticket_id"),)
            ticket_id: Id

        try:
            keys = {tuple(key.column_keys) for key in Remark.__table__.foreign_key_constraints}
        finally:
            OWN_REGISTRY.metadata.remove(Remark.__table__)
        assert keys == {("project_id",), ("project_id", "ticket_id")}

    def test_of_a_fenced_table_is_taken(self):
        assert webhooks.table.foreign_keys
        OWN_REGISTRY.configure()

    def test_in_a_fenced_table_is_refused_as_it_is_defined(self):
        with pytest.raises(ConfigurationError, match=r"references\(QARun\)") as caught:

            class Note(ProjectTable, table=True):
                __tablename__ = "notes_of_runs"
                run_id: Id = Field(foreign_key="qa_runs.id")

        assert caught.tb is not None  # it keeps what is left of the class
        assert "notes_of_runs" not in {*own_logs(), *(table.name for table in own_tables())}
