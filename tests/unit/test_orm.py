"""Changes through `session.sql`: they move versions and stamps like a repository's, lose no JSON, and take no naive time."""

import contextlib
import gc
from collections import deque
from datetime import UTC, datetime

import asyncpg
import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel, select

from derwin_db import Database, repos
from derwin_db.errors import InvalidInput, InvalidStatement, StaleWrite
from derwin_db.fields.scalars import new_id
from derwin_db.fields.table import OWN, VERSIONED, PydanticJson
from derwin_db.models import Project, QATicket, QATicketUpdate
from derwin_db.testing import factories
from derwin_db.testing.factories import create_ticket

NAIVE = datetime(2026, 1, 1, 12, 0)  # noqa: DTZ001  # what is refused


@pytest.fixture
async def ticket(db: Database, project: Project) -> QATicket:
    """A stored ticket."""
    async with db.project(project.id) as session:
        return await create_ticket(session, title="before", steps_to_reproduce=["one"])


async def stored(db: Database, ticket: QATicket) -> QATicket:
    async with db.project(ticket.project_id) as session:
        return await repos.qa_tickets.get(session, ticket.id)


def key_of(ticket: QATicket) -> tuple[object, object]:
    return ticket.project_id, ticket.id


class TestVersions:
    async def test_an_assignment_moves_version_and_stamp(self, db: Database, ticket: QATicket) -> None:
        async with db.project(ticket.project_id) as session:
            row = await session.sql.get(QATicket, key_of(ticket))
            row.title = "after"
        assert row.version == 2  # read back, so that nothing is loaded behind an attribute later
        now = await stored(db, ticket)
        assert (now.title, now.version) == ("after", 2)
        assert now.updated_at == row.updated_at > ticket.updated_at

    async def test_a_reader_of_the_old_version_is_told(self, db: Database, ticket: QATicket) -> None:
        async with db.project(ticket.project_id) as session:
            (await session.sql.get(QATicket, key_of(ticket))).description = "an important correction"
        with pytest.raises(StaleWrite):
            async with db.project(ticket.project_id) as session:
                await repos.qa_tickets.update(session, ticket.id, QATicketUpdate(title="late"), expected_version=ticket.version)

    async def test_the_orm_meets_the_lock_of_a_repository(self, db: Database, ticket: QATicket) -> None:
        with pytest.raises(StaleWrite):
            async with db.project(ticket.project_id) as session:
                row = await session.sql.get(QATicket, key_of(ticket))
                async with db.project(ticket.project_id) as other:
                    await repos.qa_tickets.update(other, ticket.id, QATicketUpdate(title="meanwhile"))
                row.title = "late"
        assert (await stored(db, ticket)).title == "meanwhile"

    @pytest.mark.parametrize(
        "update",
        [
            sa.update(QATicket).values(title="after"),
            sa.update(QATicket.__table__).values(title="after"),
            sa.update(QATicket).ordered_values((QATicket.description, "after"), (QATicket.title, "after")),
        ],
        ids=["class", "table", "ordered"],
    )
    async def test_an_update_that_is_written_by_hand(self, db: Database, ticket: QATicket, update: sa.Update) -> None:
        async with db.project(ticket.project_id) as session:
            await session.sql.execute(update)
        now = await stored(db, ticket)
        assert (now.title, now.version, now.updated_at > ticket.updated_at) == ("after", 2, True)

    async def test_a_version_that_is_set_by_hand_stays(self, db: Database, ticket: QATicket) -> None:
        async with db.project(ticket.project_id) as session:
            await session.sql.execute(sa.update(QATicket).values(version=7))
        assert (await stored(db, ticket)).version == 7

    async def test_a_list_of_rows_is_refused(self, db: Database, ticket: QATicket) -> None:
        with pytest.raises(InvalidStatement, match="list of rows"):
            async with db.project(ticket.project_id) as session:
                rows = [{"project_id": ticket.project_id, "id": ticket.id, "title": "after"}]
                await session.sql.execute(sa.update(QATicket), rows)

    def test_all_tables_whose_repositories_guard_a_version_are_among_them(self) -> None:
        starts_at_one = {m.local_table.name for m in OWN.mappers if "version" in m.columns and m.columns.version.server_default}
        assert starts_at_one == set(VERSIONED)


class TestJson:
    async def test_changed_in_place_is_stored(self, db: Database, ticket: QATicket) -> None:
        async with db.project(ticket.project_id) as session:
            row = await session.sql.get(QATicket, key_of(ticket))
            row.steps_to_reproduce.append("two")
        now = await stored(db, ticket)
        assert (now.steps_to_reproduce, now.version) == (["one", "two"], 2)

    async def test_changed_in_place_and_then_assigned_is_what_was_assigned(self, db: Database, ticket: QATicket) -> None:
        async with db.project(ticket.project_id) as session:
            row = await session.sql.get(QATicket, key_of(ticket))
            row.steps_to_reproduce.append("two")
            row.steps_to_reproduce = ["three"]
        now = await stored(db, ticket)
        assert (now.steps_to_reproduce, now.version) == (["three"], 2)

    async def test_changed_in_place_and_then_expired_is_forgotten(self, db: Database, ticket: QATicket) -> None:
        async with db.project(ticket.project_id) as session:
            row = await session.sql.get(QATicket, key_of(ticket))
            row.steps_to_reproduce.append("two")
            session.sql.expire(row)
        now = await stored(db, ticket)
        assert (now.steps_to_reproduce, now.version) == (["one"], 1)

    async def test_again_after_a_flush_and_a_query(self, db: Database, ticket: QATicket) -> None:
        async with db.project(ticket.project_id) as session:
            row = (await session.sql.execute(select(QATicket))).scalar_one()
            for step in ("two", "three"):
                row.steps_to_reproduce.append(step)
                seen = await session.sql.execute(sa.text("SELECT jsonb_array_length(steps_to_reproduce) FROM qa_tickets"))
                await session.sql.flush()
                assert len(row.steps_to_reproduce) >= seen.scalar_one()
        assert (await stored(db, ticket)).steps_to_reproduce == ["one", "two", "three"]

    async def test_of_a_row_that_was_just_added(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            row = QATicket(project_id=project.id, **factories.ticket(steps_to_reproduce=["one"]).model_dump())
            session.sql.add(row)
            await session.sql.flush()
            row.steps_to_reproduce.append("two")
        assert (await stored(db, row)).steps_to_reproduce == ["one", "two"]

    async def test_of_a_row_that_nobody_holds_is_refused(self, db: Database, ticket: QATicket) -> None:
        async def change(session) -> None:
            row = await session.sql.get(QATicket, key_of(ticket))
            row.steps_to_reproduce.append("lost")

        with pytest.raises(InvalidStatement, match=r"qa_tickets.steps_to_reproduce was changed in place"):
            async with db.project(ticket.project_id) as session:
                await change(session)
                gc.collect()

    async def test_changed_in_place_after_it_was_read_again_is_stored(self, db: Database, ticket: QATicket) -> None:
        async def refreshed(sql, row) -> None:
            await sql.refresh(row)

        async def column_refreshed(sql, row) -> None:
            await sql.refresh(row, ["steps_to_reproduce"])

        async def queried(sql, _) -> None:
            await sql.execute(select(QATicket).execution_options(populate_existing=True))

        async def changed_and_refreshed_in_other_columns(sql, row) -> None:
            row.steps_to_reproduce.append("before")
            await sql.refresh(row, ["title"])

        async def changed_and_undone(sql, row) -> None:
            with contextlib.suppress(KeyError):
                async with sql.begin_nested():
                    row.title = "after"
                    await sql.flush()
                    raise KeyError
            await sql.refresh(row)

        async def deleted_and_undone(sql, row) -> None:
            with contextlib.suppress(KeyError):
                async with sql.begin_nested():
                    await sql.delete(row)
                    await sql.flush()
                    raise KeyError

        ways = [
            refreshed,
            column_refreshed,
            queried,
            changed_and_refreshed_in_other_columns,
            changed_and_undone,
            deleted_and_undone,
        ]
        for way in ways:
            async with db.project(ticket.project_id) as session:
                row = await session.sql.get(QATicket, key_of(ticket))
                await way(session.sql, row)
                row.steps_to_reproduce.append(way.__name__)
        assert (await stored(db, ticket)).steps_to_reproduce == [
            *("one", "refreshed", "column_refreshed", "queried", "before", "changed_and_refreshed_in_other_columns"),
            *("changed_and_undone", "deleted_and_undone"),
        ]

    @pytest.mark.parametrize("is_kept", [True, False], ids=["row is kept", "row is let go"])
    @pytest.mark.parametrize("kind", ["savepoint", "begin_nested"])
    async def test_changed_in_place_in_a_savepoint_that_is_undone_is_as_it_was(
        self, db: Database, ticket: QATicket, kind: str, is_kept: bool
    ) -> None:
        kept: list[QATicket] = []

        async def change(session) -> None:
            row = await session.sql.get(QATicket, key_of(ticket))
            row.steps_to_reproduce.append("two")
            kept.extend([row] * is_kept)

        async with db.project(ticket.project_id) as session:
            with contextlib.suppress(KeyError):
                async with session.savepoint() if kind == "savepoint" else session.sql.begin_nested():
                    await change(session)
                    gc.collect()
                    raise KeyError
            kept.clear()
            gc.collect()
            row = await session.sql.get(QATicket, key_of(ticket))
            row.title = "after"
        now = await stored(db, ticket)
        assert (now.title, now.steps_to_reproduce) == ("after", ["one"])

    async def test_of_a_row_that_the_session_holds_no_longer_is_nobody_s_affair(self, db: Database, ticket: QATicket) -> None:
        async def expunged(sql, row) -> None:
            sql.expunge(row)
            row.steps_to_reproduce.append("two")

        async def refreshed(sql, row) -> None:
            row.steps_to_reproduce.append("two")
            await sql.refresh(row)

        async def deleted(sql, row) -> None:
            await sql.delete(row)
            await sql.flush()
            row.steps_to_reproduce.append("two")

        for way in (expunged, refreshed, deleted):
            async with db.project(ticket.project_id) as session:
                await way(session.sql, await session.sql.get(QATicket, key_of(ticket)))
                gc.collect()
                await session.sql.flush()
                if way is not deleted:
                    assert (await repos.qa_tickets.get(session, ticket.id)).steps_to_reproduce == ["one"]
            assert session.outcome == "committed"

    async def test_that_can_not_be_written_is_refused(self, db: Database, ticket: QATicket) -> None:
        with pytest.raises(InvalidInput):
            async with db.project(ticket.project_id) as session:
                row = await session.sql.get(QATicket, key_of(ticket))
                row.steps_to_reproduce.append(object())
        assert (await stored(db, ticket)).steps_to_reproduce == ["one"]

    async def test_unchanged_writes_nothing(self, db: Database, ticket: QATicket) -> None:
        async with db.project(ticket.project_id) as session:
            row = await session.sql.get(QATicket, key_of(ticket))
            assert row.steps_to_reproduce == ["one"]
        assert (await stored(db, ticket)).version == 1

    def test_every_json_column_is_watched(self) -> None:
        kinds = {type(column.type) for m in OWN.mappers for column in m.columns if "JSON" in str(column.type).upper()}
        assert kinds == {PydanticJson}


class TestTimes:
    async def test_without_an_offset_are_refused_everywhere(self, db: Database, ticket: QATicket) -> None:
        async def by_orm(session) -> None:
            (await session.sql.get(QATicket, key_of(ticket))).resolved_at = NAIVE
            await session.sql.flush()

        async def by_core(session) -> None:
            await session.sql.execute(sa.update(QATicket).values(resolved_at=NAIVE))

        async def by_text(session) -> None:
            await session.sql.execute(sa.text("UPDATE qa_tickets SET resolved_at = :at"), {"at": NAIVE})

        async def by_many(session) -> None:
            rows = [{"at": datetime.now(UTC)}, {"at": NAIVE}]
            await session.sql.execute(sa.text("UPDATE qa_tickets SET resolved_at = :at"), rows)

        async def by_query(session) -> None:
            await session.sql.execute(select(QATicket).where(QATicket.created_at > NAIVE))

        async def by_driver(session) -> None:
            connection = await (await session.sql.connection()).get_raw_connection()
            await connection.driver_connection.fetch("SELECT $1::timestamptz", NAIVE)

        async def by_prepared(session) -> None:
            raw = await (await session.sql.connection()).get_raw_connection()
            prepared = await raw.driver_connection.prepare("UPDATE qa_tickets SET resolved_at = $1")
            await prepared.executemany([[datetime.now(UTC)], [NAIVE]])

        async def by_date(session) -> None:  # midnight, where this machine is
            await session.sql.execute(sa.update(QATicket).values(resolved_at=NAIVE.date()))

        async def by_range(session) -> None:
            await session.sql.execute(sa.text("SELECT CAST(:at AS tstzrange)"), {"at": asyncpg.Range(NAIVE, None)})

        for way in (by_orm, by_core, by_text, by_many, by_query, by_driver, by_prepared, by_date, by_range):
            with pytest.raises(InvalidInput, match="without an offset"):
                async with db.project(ticket.project_id) as session:
                    await way(session)
        assert (await stored(db, ticket)).resolved_at is None

    async def test_without_an_offset_are_refused_in_whatever_way_the_driver_is_called(
        self, db: Database, project: Project
    ) -> None:
        one, many = "SELECT $1::timestamptz", "SELECT $1::timestamptz[]"

        async def iterated(raw) -> None:
            async for _ in raw.cursor(one, NAIVE):
                pass

        async def explained(raw) -> None:
            await (await raw.prepare(one)).explain(NAIVE)

        async def prepared(raw) -> None:
            await (await raw.prepare(one)).executemany(args=[[NAIVE]])

        ways = [
            *(lambda raw: raw.executemany(one, args=[[NAIVE]]), lambda raw: raw.fetchmany(one, args=iter([[NAIVE]]))),
            *(lambda raw: raw.fetch(many, {NAIVE}), lambda raw: raw.fetchval(many, deque([NAIVE]), column=0)),
            *(lambda raw: raw.cursor(one, NAIVE), lambda raw: raw.copy_from_query(one, NAIVE, output="nowhere")),
            *(iterated, explained, prepared),
        ]
        async with db.project(project.id) as session:
            raw = (await (await session.sql.connection()).get_raw_connection()).driver_connection
            for way in ways:
                with pytest.raises(InvalidInput, match=r"^Argument 1 is a date, or a time without an offset"):
                    await way(raw)

    async def test_where_the_server_wants_none_they_pass(self, db: Database, ticket: QATicket) -> None:
        async with db.project(ticket.project_id) as session:
            seen = await session.sql.execute(sa.text("SELECT CAST(:at AS timestamp)"), {"at": NAIVE})
            assert seen.scalar_one() == NAIVE
            seen = await session.sql.execute(sa.text("SELECT CAST(:day AS date)"), {"day": NAIVE.date()})
            assert seen.scalar_one() == NAIVE.date()
            raw = (await (await session.sql.connection()).get_raw_connection()).driver_connection
            assert await raw.fetchval("SELECT $1::timestamp", NAIVE) == NAIVE


class TestNames:
    """Classes and tables of a service, named like ours."""

    def test_a_class_meets_nothing_of_ours(self) -> None:
        from sqlmodel import Field, Relationship

        class Policy(SQLModel, table=True):
            __tablename__ = "insured_policies"
            id: int | None = Field(default=None, primary_key=True)
            items: list["PolicyItem"] = Relationship(back_populates="policy")

        class PolicyItem(SQLModel, table=True):
            __tablename__ = "insured_items"
            id: int | None = Field(default=None, primary_key=True)
            policy_id: int | None = Field(default=None, foreign_key="insured_policies.id")
            policy: "Policy" = Relationship(back_populates="items")

        assert PolicyItem(policy=Policy(id=3)).policy.id == 3

    def test_a_table_in_another_schema_keeps_its_defaults(self) -> None:
        from sqlmodel import Field

        class Plan(SQLModel, table=True):
            __tablename__ = "policies"
            __table_args__ = {"schema": "insurance"}
            id: object = Field(default_factory=new_id, primary_key=True, sa_type=sa.Uuid)
            version: int = 5

        table = SQLModel.metadata.tables["insurance.policies"]
        assert (table.c.version.default.arg, table.c.id.default is not None) == (5, True)
        SQLModel.metadata.remove(table)

    async def test_a_broken_class_of_a_service_breaks_nothing_of_ours(self, db: Database, project: Project) -> None:
        from sqlalchemy.orm import registry
        from sqlmodel import Field, Relationship

        class Apart(SQLModel, registry=registry()):
            pass

        class Broken(Apart, table=True):
            id: int | None = Field(default=None, primary_key=True)
            other: "Nowhere" = Relationship()  # noqa: F821  # it does not resolve

        async with db.project(project.id) as session:
            assert (await session.sql.execute(select(QATicket))).all() == []
        with pytest.raises(InvalidStatement, match=r"A mapped class of this service Broken can't be set up") as caught:
            async with db.project(project.id) as session:
                await session.sql.execute(select(Broken))
        assert "Nowhere" in str(caught.value.__cause__)
        Apart._sa_registry.dispose()
