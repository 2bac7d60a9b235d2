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
from derwin_db.tables import Id, ProjectTable
from examples.service.tables import webhooks


@pytest.fixture
def service() -> Iterator[Any]:
    """Makes classes of a service, in SQLModel's own metadata, and takes them out again."""
    before, own = set(SQLModel.metadata.tables), registry(metadata=SQLModel.metadata)

    class Base(SQLModel, registry=own):
        pass

    def define(name: str, **fields: Any) -> Any:
        hints = {"id": int | None, **dict.fromkeys(fields, UUID)}
        columns = {"id": Field(default=None, primary_key=True), **fields}
        return type(name, (Base,), {"__annotations__": hints, "__module__": __name__, **columns}, table=True)

    define.registry = own  # type: ignore[attr-defined]
    yield define
    own.dispose()
    for name in set(SQLModel.metadata.tables) - before:
        SQLModel.metadata.remove(SQLModel.metadata.tables[name])


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
