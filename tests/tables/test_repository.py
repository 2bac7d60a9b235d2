"""A service's own table: its keys and names, and the verbs of its repository."""

from datetime import datetime
from typing import Annotated, Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import (
    Conflict,
    InvalidCursor,
    InvalidInput,
    InvalidReference,
    NotFound,
    ScopeError,
    StaleWrite,
    TooLarge,
)
from derwin_db.fields.own import OWN_REGISTRY
from derwin_db.fields.scalars import new_id
from derwin_db.filters import IS_NULL, not_
from derwin_db.models import BatchReport, Project, QATicket, QATicketCreate
from derwin_db.repos.own import repositories
from derwin_db.tables import Changing, Created, Id, Input, ProjectTable, Repository, ShortText, references, timestamp
from derwin_db.testing.factories import create_own
from examples.service.tables import Webhook, WebhookCreate, WebhookEvent, WebhookUpdate, webhooks
from tests.repos.rows import NOW, a_ticket


def a_webhook(number: int = 0, **more: Any) -> WebhookCreate:
    return WebhookCreate(**{"url": f"https://hooks.example.org/{number}", "event": WebhookEvent.TICKET_OPENED, **more})


class TestTable:
    def test_stands_in_metadata_of_its_own(self) -> None:
        assert Webhook.metadata is OWN_REGISTRY.metadata is not SQLModel.metadata
        assert "public.webhooks" in Webhook.metadata.tables
        assert "public.webhooks" not in SQLModel.metadata.tables

    def test_has_the_keys_of_ours(self) -> None:
        table = Webhook.__table__
        assert [column.name for column in table.primary_key] == ["project_id", "id"]
        keys = {key.name: [element.target_fullname for element in key.elements] for key in table.foreign_key_constraints}
        assert keys == {
            "fk_webhooks_project_id": ["public.projects.id"],
            "fk_webhooks_ticket_id": ["public.qa_tickets.project_id", "public.qa_tickets.id"],
        }
        assert {index.name for index in table.indexes} == {"ix_webhooks_created_at_id", "ix_webhooks_ticket_id"}
        assert {key.ondelete for key in table.foreign_key_constraints} == {"CASCADE"}

    @pytest.mark.parametrize(
        "name", ["projects", "qa_tickets", "derwin_alembic_version", "alembic_version", "Hooks", "x" * 31, "a b"]
    )
    def test_of_a_name_that_can_not_be_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="names no table here"):
            type(f"Taken_{name}", (Created, ProjectTable), {"__tablename__": name, "__module__": __name__}, table=True)

    def test_of_a_name_without_end_is_refused_by_its_first_64_signs(self) -> None:
        with pytest.raises(ValueError, match=f"^'{'x' * 64}' names no table here"):
            type("Endless", (Created, ProjectTable), {"__tablename__": "x" * 65, "__module__": __name__}, table=True)

    def test_without_a_time_has_no_index_of_it_and_keeps_one_of_its_own(self) -> None:
        columns = [sa.Column(name, sa.Uuid) for name in ("project_id", "id")]
        reference = sa.Column("ticket_id", sa.Uuid, info={"references": (QATicket, None)})
        own = sa.Index("ix_plain_ones_ticket_id", "ticket_id", unique=True)
        table = sa.Table("plain_ones", OWN_REGISTRY.metadata, *columns, reference, own)
        OWN_REGISTRY.metadata.remove(table)
        assert table.indexes == {own}
        assert [column.name for column in table.primary_key] == ["project_id", "id"]

    def test_names_that_the_server_would_cut_are_refused(self) -> None:
        column = sa.Column("a_column_whose_name_is_long", sa.Uuid, info={"references": (QATicket, None)})
        metadata = OWN_REGISTRY.metadata
        with pytest.raises(ValueError, match=r"fk_.* has more than 50 characters"):
            sa.Table("a_table_with_a_long_name", metadata, sa.Column("project_id", sa.Uuid), sa.Column("id", sa.Uuid), column)
        assert "public.a_table_with_a_long_name" not in metadata.tables

    def test_a_reference_is_to_a_row_of_a_project(self) -> None:
        with pytest.raises(ValueError, match="no rows of a project"):
            type(
                "Odd",
                (Created, ProjectTable),
                {"__tablename__": "odd_ones", "__annotations__": {"of": Id}, "of": references(Project), "__module__": __name__},
                table=True,
            )
        with pytest.raises(ValueError, match="SET NULL"):
            references(QATicket, ondelete="SET NULL")


class TestReads:
    async def test_of_what_was_written(self, session: ProjectSession) -> None:
        ticket = await repos.qa_tickets.create(session, a_ticket())
        row = await webhooks.create(session, a_webhook(ticket_id=ticket.id))
        assert type(row) is Webhook
        assert (row.project_id, row.ticket_id, row.version) == (session.project_id, ticket.id, 1)
        assert await webhooks.get(session, row.id) == row
        assert await webhooks.find(session, new_id()) is None
        assert await webhooks.exists(session, row.id)
        assert await webhooks.get_many(session, [row.id, new_id()]) == {row.id: row}
        assert [one async for one in webhooks.stream(session)] == [row]

    async def test_of_a_factory_refer_to_what_the_project_has(self, session: ProjectSession) -> None:
        alone = await create_own(session, webhooks)
        ticket, other = await repos.qa_tickets.create(session, a_ticket()), await repos.qa_tickets.create(session, a_ticket())
        beside, given = (
            await create_own(session, webhooks),
            await create_own(session, webhooks, ticket_id=other.id, note="Mine"),
        )
        assert (alone.ticket_id, beside.ticket_id) == (None, ticket.id)
        assert (given.ticket_id, given.note) == (other.id, "Mine")

    async def test_of_a_factory_have_something_to_refer_to(
        self, session: ProjectSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(webhooks.table.c.ticket_id, "nullable", False)
        with pytest.raises(AssertionError, match=r"webhooks.ticket_id: qa_tickets has no row to refer to"):
            await create_own(session, webhooks)

    async def test_filters_are_those_of_its_columns(self, session: ProjectSession) -> None:
        ticket = await repos.qa_tickets.create(session, a_ticket())
        with_ticket = await webhooks.create(session, a_webhook(1, ticket_id=ticket.id))
        resolved = await webhooks.create(session, a_webhook(2, event=WebhookEvent.TICKET_RESOLVED, note="n"))
        found: dict[str, Any] = {
            "by value": await webhooks.list(session, event=WebhookEvent.TICKET_RESOLVED),
            "by none": await webhooks.list(session, ticket_id=IS_NULL),
            "all but": await webhooks.list(session, event=not_(WebhookEvent.TICKET_OPENED)),
            "by text": await webhooks.list(session, url=["https://hooks.example.org/2", "https://nowhere.example.org/"]),
            "by bounds": await webhooks.list(session, min_version=1, ticket_id=IS_NULL, since=resolved.created_at),
        }
        assert [page.items for page in found.values()] == [[resolved]] * len(found)
        assert (await webhooks.list(session, ticket_id=ticket.id)).items == [with_ticket]
        assert await webhooks.count(session, max_version=0) == 0

    async def test_pages_and_totals(self, session: ProjectSession) -> None:
        assert await webhooks.create_many(session, [a_webhook(number) for number in range(5)]) == 5
        page, seen = await webhooks.list(session, limit=2, with_total=True), []
        assert page.total == 5
        while True:
            seen += page.items
            if page.next_cursor is None:
                break
            page = await webhooks.list(session, limit=2, cursor=page.next_cursor)
        assert seen == [row async for row in webhooks.stream(session)]
        with pytest.raises(InvalidCursor):
            await repos.qa_tickets.list(session, cursor=(await webhooks.list(session, limit=1)).next_cursor)

    async def test_bad_input_is_refused_before_a_connection_is_taken(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as unit:
            wrong: Any = unit
            for call in (
                lambda: webhooks.list(unit, nonsense=1),
                lambda: webhooks.list(unit, project_id=new_id()),
                lambda: webhooks.list(unit, event="NO_SUCH"),
                lambda: webhooks.list(unit, event=IS_NULL),
                lambda: webhooks.list(unit, url="javascript:alert(1)"),
                lambda: webhooks.list(unit, order="url"),
                lambda: webhooks.get(unit, "x"),  # type: ignore[arg-type]
                lambda: webhooks.create(unit, a_ticket()),  # type: ignore[arg-type]
                lambda: webhooks.create_many(unit, [a_ticket()]),  # type: ignore[list-item]
                lambda: webhooks.create_many(wrong, [a_webhook()], on_error="skip"),  # type: ignore[call-overload]
                lambda: webhooks.update(unit, new_id(), a_webhook()),  # type: ignore[arg-type]
                lambda: webhooks.update(unit, new_id(), WebhookUpdate(note="x"), expected_version=0),
                lambda: webhooks.update_many(unit, WebhookUpdate(note="x")),
            ):
                with pytest.raises(InvalidInput):
                    await call()
            assert unit._connection is None
        with pytest.raises(TooLarge):
            async with db.project(project.id) as unit:
                await webhooks.get_many(unit, [new_id() for _ in range(1001)])

    async def test_the_session_is_of_a_project(self, db: Database) -> None:
        async with db.admin(reason="a test") as admin:
            wrong: Any = admin
            with pytest.raises(ScopeError):
                await webhooks.list(wrong)


class TestWrites:
    async def test_update_and_its_versions(self, session: ProjectSession) -> None:
        row = await webhooks.create(session, a_webhook())
        changed = await webhooks.update(session, row.id, WebhookUpdate(note="x"), expected_version=1)
        assert (changed.note, changed.version) == ("x", 2)
        with pytest.raises(StaleWrite):
            await webhooks.update(session, row.id, WebhookUpdate(note="y"), expected_version=1)
        with pytest.raises(NotFound):
            await webhooks.update(session, new_id(), WebhookUpdate(note="y"))

    async def test_update_many_and_delete(self, session: ProjectSession) -> None:
        await webhooks.create_many(session, [a_webhook(number) for number in range(3)])
        row = await webhooks.create(session, a_webhook(9, event=WebhookEvent.TICKET_RESOLVED))
        assert await webhooks.update_many(session, WebhookUpdate(note="x"), event=WebhookEvent.TICKET_OPENED) == 3
        await webhooks.delete(session, row.id)
        with pytest.raises(NotFound):
            await webhooks.delete(session, row.id)

    async def test_a_report_says_which_row_and_which_rule(self, session: ProjectSession) -> None:
        await webhooks.create(session, a_webhook(1))
        rows = [a_webhook(0), a_webhook(1), a_webhook(2), a_webhook(2), a_webhook(3, ticket_id=new_id()), a_webhook(4)]
        report = await webhooks.create_many(session, [*rows, {"url": "ftp://x"}], on_error="report")
        assert isinstance(report, BatchReport)
        assert report.inserted == 3
        assert [(failure.row, failure.code) for failure in report.failures] == [
            (1, "conflict"), (3, "conflict"), (4, "invalid_reference"), (6, "invalid_input")
        ]  # fmt: skip
        assert report.failures[2].message == "ticket_id: no such row in this project."

    async def test_all_or_none_unless_said(self, db: Database, project: Project) -> None:
        with pytest.raises(Conflict):
            async with db.project(project.id) as unit:
                await webhooks.create_many(unit, [a_webhook(0), a_webhook(1), a_webhook(1)])
        async with db.project(project.id) as unit:
            assert await webhooks.count(unit) == 0

    async def test_a_reference_is_to_a_row_of_the_project(self, db: Database, project: Project, other_project: Project) -> None:
        async with db.project(other_project.id) as other:
            foreign = await repos.qa_tickets.create(other, a_ticket())
        said = set()
        for id in (foreign.id, new_id()):
            with pytest.raises(InvalidReference) as caught:
                async with db.project(project.id) as unit:
                    await webhooks.create(unit, a_webhook(ticket_id=id))
            said.add(str(caught.value))
        assert len(said) == 1

    async def test_goes_with_its_ticket(self, session: ProjectSession) -> None:
        ticket = await repos.qa_tickets.create(session, a_ticket())
        row = await webhooks.create(session, a_webhook(ticket_id=ticket.id))
        await repos.qa_tickets.delete(session, ticket.id)
        assert not await webhooks.exists(session, row.id)

    async def test_through_session_sql_it_is_scoped_too(
        self, db: Database, session: ProjectSession, other_project: Project
    ) -> None:
        async with db.project(other_project.id) as other:
            await webhooks.create(other, a_webhook())
        row = await webhooks.create(session, a_webhook())
        rows = (await session.sql.execute(sa.select(Webhook))).scalars().all()
        assert [one.id for one in rows] == [row.id]
        assert (await session.sql.execute(sa.text("SELECT count(*) FROM webhooks"))).scalar() == 1


class TestFit:
    def test_an_input_of_another_table_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no column of webhooks"):
            Repository(Webhook, create=QATicketCreate)

    def test_nobody_sets_a_key(self) -> None:
        class Smuggling(WebhookCreate):
            project_id: Id

        with pytest.raises(ValueError, match=r"Smuggling\.project_id"):
            Repository(Webhook, create=Smuggling)

    @pytest.mark.parametrize("order", ["note", "ticket_id", "event", "no_such"])
    def test_an_order_is_a_column_that_always_has_a_value(self, order: str) -> None:
        with pytest.raises(ValueError, match=f"orders: {order}"):
            Repository(Webhook, create=WebhookCreate, update=WebhookUpdate, orders=[order])

    async def test_an_order_of_its_own_pages(self, session: ProjectSession) -> None:
        by_url = Repository(Webhook, create=WebhookCreate, update=WebhookUpdate, orders=["url"])
        try:
            await by_url.create_many(session, [a_webhook(number) for number in (2, 0, 1)])
            first = await by_url.list(session, limit=2, order="-url")
            rest = await by_url.list(session, limit=2, order="-url", cursor=first.next_cursor)
            assert [row.url[-1] for row in (*first.items, *rest.items)] == ["2", "1", "0"]
        finally:
            Repository(Webhook, create=WebhookCreate, update=WebhookUpdate)

    def test_rows_say_when_they_were_written(self) -> None:
        class Timeless(ProjectTable, table=True):
            __tablename__: ClassVar[str] = "timeless_ones"
            text: Annotated[str, *ShortText.__metadata__]  # type: ignore[attr-defined]

        class TimelessInput(Input):
            text: ShortText

        with pytest.raises(ValueError, match="timeless_ones: derive from Created or Changing"):
            Repository(Timeless, create=TimelessInput)
        Timeless.metadata.remove(Timeless.__table__)

    async def test_a_version_is_expected_of_rows_that_have_one(self, session: ProjectSession) -> None:
        class Plain(Changing, ProjectTable, table=True):
            __tablename__: ClassVar[str] = "plain_ones"
            text: Annotated[str, *ShortText.__metadata__]  # type: ignore[attr-defined]
            due: datetime = timestamp()

        class PlainInput(Input):
            text: ShortText

        class PlainUpdate(Input):
            text: ShortText = ""

        plain = Repository(Plain, create=PlainInput, update=PlainUpdate)
        try:
            with pytest.raises(InvalidInput, match="expected_version: plain_ones has no versions"):
                await plain.update(session, new_id(), PlainUpdate(text="x"), expected_version=1)
            with pytest.raises(InvalidInput, match="due"):  # bounds of a time are named after its _at
                await plain.list(session, due_since=NOW)
        finally:
            Plain.metadata.remove(Plain.__table__)
            del repositories["plain_ones"]

    def test_a_table_that_changes_says_when(self) -> None:
        class Still(Created, ProjectTable, table=True):
            __tablename__: ClassVar[str] = "still_ones"
            text: Annotated[str, *ShortText.__metadata__]  # type: ignore[attr-defined]

        class StillInput(Input):
            text: ShortText

        with pytest.raises(ValueError, match="derive from Changing"):
            Repository(Still, create=StillInput, update=StillInput)
        Still.metadata.remove(Still.__table__)
