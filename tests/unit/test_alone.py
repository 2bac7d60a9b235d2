"""Reads that run alone: what they hold, what they survive, and when a unit begins a transaction all the same."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import sqlalchemy as sa

from derwin_db import Database, ProjectSession, repos
from derwin_db.connection.driver import PooledConnection
from derwin_db.errors import DatabaseTimeout, DatabaseUnavailable, DerwinError, NotFound, ProjectNotFound, ScopeError
from derwin_db.fields.scalars import new_id
from derwin_db.models import Project, QATicketUpdate
from derwin_db.observe.events import Observer, StatementEvent, UnitObserver
from derwin_db.query.builders import scoped
from derwin_db.query.statement import Statement, scalars
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase
from derwin_db.unit.alone import Reader
from tests.conftest import PATIENT
from tests.repos.rows import a_charge, a_ticket
from tests.repos.test_projects import a_project


@pytest.fixture
async def small(migrated: TestDatabase) -> AsyncIterator[Database]:
    """A `Database` of two connections."""
    async with Database(**migrated.urls, settings=PATIENT.model_copy(update={"pool_size": 2})) as db:
        if not (await db.app_pool(read_only=False)).preamble.allows_alone:
            pytest.skip("behind a transaction pooler each unit is a transaction")
        yield db


@pytest.fixture
async def ticket(small: Database, project: Project) -> Any:
    async with small.project(project.id) as session:
        return await repos.qa_tickets.create(session, a_ticket())


def sleeping(seconds: float) -> Statement[Any]:
    """A read that takes a while on the server."""
    return scalars("projects.sleep", scoped(Project, sa.func.count(sa.func.pg_sleep(seconds))))


async def backend(session: ProjectSession) -> int:
    return (await session.fetch(scalars("projects.backend", scoped(Project, sa.func.pg_backend_pid())), {}))[0]


class TestConnections:
    async def test_are_not_held_between_reads(self, small: Database, project: Project, ticket: Any) -> None:
        """200 units that read, think and read share two connections, and none waits for another's thinking."""
        thinking, goes_on = asyncio.Barrier(201), asyncio.Event()

        async def unit() -> int:
            async with small.project(project.id) as session:
                first = await repos.qa_tickets.get(session, ticket.id)
                await thinking.wait()  # all 200 think at once
                await goes_on.wait()
                return (await repos.qa_tickets.count(session)) + first.version

        units = [asyncio.create_task(unit()) for _ in range(200)]
        async with asyncio.timeout(60):
            await thinking.wait()
            assert small.connections_in_use() == 0
            goes_on.set()
            assert await asyncio.gather(*units) == [2] * 200

    async def test_are_not_held_while_a_unit_waits_before_its_first_write(self, small: Database, project: Project, ticket: Any):
        async with small.project(project.id) as session:
            row = await repos.qa_tickets.get(session, ticket.id)
            assert small.connections_in_use() == 0
            await repos.qa_tickets.update(session, row.id, QATicketUpdate(title="thought over"), expected_version=row.version)
            assert small.connections_in_use() == 1
            assert (await repos.qa_tickets.get(session, ticket.id)).title == "thought over"
            assert small.connections_in_use() == 1
        assert small.connections_in_use() == 0

    @pytest.mark.parametrize("way", ["sql", "stream", "savepoint", "lock", "snapshot"])
    async def test_are_held_from_what_needs_a_transaction(self, small: Database, project: Project, way: str) -> None:
        async with small.project(project.id, snapshot=way == "snapshot") as session:
            await repos.qa_tickets.count(session)
            if way == "sql":
                await session.sql.execute(sa.text("SELECT 1"))
            if way == "stream":
                _ = [row async for row in repos.qa_tickets.stream(session)]
            if way == "lock":
                await session.fetch(scalars("projects.lock", scoped(Project, sa.literal(1)).with_for_update()), {})
            if way == "savepoint":
                async with session.savepoint():
                    await repos.qa_tickets.count(session)
            assert small.connections_in_use() == 1
            begun = await backend(session)
            assert {await backend(session) for _ in range(3)} == {begun}

    async def test_see_what_the_unit_itself_wrote(self, small: Database, project: Project) -> None:
        async with small.project(project.id) as session:
            assert await repos.spend_ledger.count(session) == 0
            await repos.spend_ledger.append(session, a_charge("a"))
            assert await repos.spend_ledger.count(session) == 1
            async with small.project(project.id) as other:
                assert await repos.spend_ledger.count(other) == 0


class TestErrors:
    async def test_fail_the_unit_as_ever(self, small: Database, project: Project) -> None:
        broken = scalars("projects.broken", scoped(Project, sa.cast(Project.__table__.c.slug, sa.Integer())))
        with pytest.raises(DerwinError):
            async with small.project(project.id) as session:
                with pytest.raises(DerwinError):
                    await session.fetch(broken, {})
                with pytest.raises(ScopeError, match="earlier statement"):
                    await repos.qa_tickets.count(session)
        assert session.outcome == "rolled back"
        assert small.connections_in_use() == 0
        async with small.project(project.id) as session:
            assert await repos.qa_tickets.count(session) == 0

    async def test_a_write_in_a_unit_that_only_reads_is_refused_before_any_sql(self, small: Database, project: Project) -> None:
        with pytest.raises(ScopeError, match="read-only"):
            async with small.project(project.id, read_only=True) as session:
                await repos.qa_tickets.create(session, a_ticket())
        assert small.connections_in_use() == 0

    async def test_a_unit_used_by_two_tasks(self, small: Database, project: Project) -> None:
        async with small.project(project.id) as session:
            slow = asyncio.create_task(session.fetch(sleeping(0.3), {}))
            await asyncio.sleep(0)
            with pytest.raises(ScopeError):
                await repos.qa_tickets.count(session)
            await slow

    @pytest.mark.parametrize("unknown", [new_id(), "never-made"])
    @pytest.mark.parametrize("read", ["count", "list", "find"])
    async def test_an_unknown_project(self, small: Database, unknown: UUID | str, read: str) -> None:
        with pytest.raises(ProjectNotFound):
            async with small.project(unknown) as session:
                await getattr(repos.qa_tickets, read)(session, *([new_id()] if read == "find" else []))

    async def test_a_project_that_was_deleted_here(self, small: Database) -> None:
        async with small.admin(reason="a test") as admin:
            id = (await repos.projects.create(admin, a_project())).id
        async with small.project(id) as session:
            assert await repos.qa_tickets.count(session) == 0
        async with small.admin(reason="a test") as admin:
            await repos.projects.delete(admin, id)
        with pytest.raises(ProjectNotFound):
            async with small.project(id) as session:
                await repos.qa_tickets.count(session)

    async def test_a_project_that_was_deleted_elsewhere_reads_empty_and_is_not_written(
        self, small: Database, migrated: TestDatabase
    ) -> None:
        async with small.admin(reason="a test") as admin:
            id = (await repos.projects.create(admin, a_project())).id
        async with small.project(id) as session:
            await repos.qa_tickets.create(session, a_ticket())
        async with Database(**migrated.urls) as other, other.admin(reason="a test") as admin:
            await repos.projects.delete(admin, id)
        async with small.project(id) as session:
            assert (await repos.qa_tickets.list(session)).items == []
            with pytest.raises(NotFound):
                await repos.qa_tickets.get(session, new_id())
        with pytest.raises(ProjectNotFound):
            async with small.project(id) as session:
                await repos.qa_tickets.create(session, a_ticket())


class Seen(Observer, UnitObserver):
    """What one unit is told to observers: each call of the driver, with its error, and how the unit ended."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str | None]] = []
        self.outcome = ""

    def entered(self, project_id: UUID | None) -> UnitObserver:
        return self

    def ran(self, call: StatementEvent) -> None:
        assert call.server.database
        self.calls.append((call.name, call.error))

    def left(self, outcome: str, error: str | None) -> None:
        self.outcome = outcome


class TestObservers:
    @pytest.fixture
    async def seen(self, small: Database) -> AsyncIterator[Seen]:
        seen = Seen()
        small.observers.append(seen)
        yield seen
        small.observers.remove(seen)

    async def test_are_told_of_the_reads_and_of_no_transaction(
        self, small: Database, project: Project, ticket: Any, seen: Seen
    ):
        async with small.project(project.id) as session:
            await repos.qa_tickets.get(session, ticket.id)
            await repos.qa_tickets.count(session)
        assert seen.calls == [("qa_tickets.get", None), ("qa_tickets.count", None)]
        assert seen.outcome == "committed"

    async def test_are_told_when_the_transaction_begins(self, small: Database, project: Project, ticket: Any, seen: Seen):
        async with small.project(project.id) as session:
            await repos.qa_tickets.get(session, ticket.id)
            await repos.qa_tickets.update(session, ticket.id, QATicketUpdate(title="seen"))
            await repos.qa_tickets.get(session, ticket.id)
        names = [name for name, _ in seen.calls]
        assert names == ["qa_tickets.get", "BEGIN", "qa_tickets.update", "qa_tickets.get", "COMMIT"]

    async def test_are_told_of_both_runs_where_the_connection_was_lost(
        self, small: Database, project: Project, seen: Seen, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fetch, lost = PooledConnection.fetch, [ConnectionResetError()]

        async def lose(self: Any, *arguments: Any, **options: Any) -> Any:
            if lost:
                raise lost.pop()
            return await fetch(self, *arguments, **options)

        async with small.project(project.id) as session:
            await repos.qa_tickets.count(session)
            monkeypatch.setattr(PooledConnection, "fetch", lose)
            assert await repos.qa_tickets.count(session) == 0
        assert seen.calls[-2:] == [("qa_tickets.count", "ConnectionResetError"), ("qa_tickets.count", None)]


class TestFaults:
    async def running(self, owner: asyncpg.Connection) -> int:
        """Return who runs the slow read."""
        async with asyncio.timeout(30):
            while not (pid := await owner.fetchval(
                "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active'"
                " AND pid <> pg_backend_pid() AND datname = current_database()"
            )):  # fmt: skip
                await asyncio.sleep(0.01)
        return pid

    @pytest.fixture
    async def known(self, own_db: Database) -> UUID:
        async with own_db.admin(reason="a test") as admin:
            id = (await repos.projects.create(admin, a_project())).id
        async with own_db.project(id) as session:
            await repos.qa_tickets.count(session)
        return id

    async def test_a_connection_that_dies_once_is_not_noticed(self, own_db: Database, owner: Any, known: UUID) -> None:
        async with own_db.project(known) as session:
            reading = asyncio.create_task(session.fetch(sleeping(0.5), {}))
            await owner.execute("SELECT pg_terminate_backend($1)", await self.running(owner))
            assert await reading == [1]
            assert await repos.qa_tickets.count(session) == 0

    async def test_one_that_dies_twice_is(self, own_db: Database, owner: Any, known: UUID) -> None:
        with pytest.raises(DatabaseUnavailable):
            async with own_db.project(known) as session:
                reading = asyncio.create_task(session.fetch(sleeping(20), {}))
                first = await self.running(owner)
                await owner.execute("SELECT pg_terminate_backend($1)", first)
                while (second := await self.running(owner)) == first:
                    await asyncio.sleep(0.01)
                await owner.execute("SELECT pg_terminate_backend($1)", second)
                await reading
        assert own_db.connections_in_use() == 0
        async with own_db.project(known) as session:
            assert await repos.qa_tickets.count(session) == 0

    async def test_idle_connections_that_died_meanwhile(self, own_db: Database, owner: Any, known: UUID) -> None:
        ended = await owner.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert ended
        async with own_db.project(known) as session:
            assert await repos.qa_tickets.count(session) == 0

    async def test_a_read_that_is_cancelled_leaves_a_clean_connection(
        self, own_database: TestDatabase, owner: Any, known: UUID
    ) -> None:
        patient = Settings(_env_file=None, cleanup_timeout=60)  # a busy server takes its time to see the cancel
        async with Database(**own_database.urls, settings=patient) as db:

            async def read() -> None:
                async with db.project(known) as session:
                    await session.fetch(sleeping(30), {})

            task = asyncio.create_task(read())
            pid = await self.running(owner)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert db.connections_in_use() == 0
            async with db.project(known) as session:
                assert await backend(session) == pid
            assert await owner.fetchval("SELECT state FROM pg_stat_activity WHERE pid = $1", pid) == "idle"

    @pytest.mark.parametrize("limit", ["statement_timeout", "command_timeout"])
    async def test_a_read_that_takes_too_long_is_ended_by_either_side(self, own_database: TestDatabase, limit: str) -> None:
        settings = Settings(_env_file=None, **{limit: 0.3})
        async with Database(**own_database.urls, settings=settings) as db:
            async with db.admin(reason="a test") as admin:
                id = (await repos.projects.create(admin, a_project())).id
            with pytest.raises(DatabaseTimeout):
                async with db.project(id) as session:
                    await session.fetch(sleeping(30), {})
            assert db.connections_in_use() == 0
            async with db.project(id) as session:
                assert await repos.qa_tickets.count(session) == 0

    async def test_where_a_transaction_sees_one_moment_by_the_server_s_settings_none_is_left_out(
        self, own_db: Database, known: UUID
    ) -> None:
        """The administrator asked for it, in postgresql.conf: then reads of a unit are its transaction's."""
        source = await own_db.app_pool(read_only=False)
        connection = await source.pool.acquire()
        connection.is_read_committed = False
        await source.pool.release(connection)
        async with own_db.project(known) as session:
            assert await repos.qa_tickets.count(session) == 0
            assert own_db.connections_in_use() == 1

    async def test_one_that_is_answered_when_the_unit_was_left_says_so(
        self, own_db: Database, known: UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another task left it meanwhile: what was read is of no unit any more."""
        read, answered, left = Reader.read, asyncio.Event(), asyncio.Event()

        async def late(*given: Any) -> Any:
            records = await read(*given)
            answered.set()
            await left.wait()
            return records

        monkeypatch.setattr(Reader, "read", late)
        session = await own_db.project(known).__aenter__()
        reading = asyncio.create_task(repos.qa_tickets.count(session))
        await answered.wait()
        await session._abandon()
        left.set()
        with pytest.raises(ScopeError, match="not open"):
            await reading

    async def test_the_role_is_taken_again_after_a_caller_changed_it(self, own_db: Database, known: UUID) -> None:
        async with own_db.project(known) as session:
            connection = await session._connected()
            await session.sql.execute(sa.text("RESET ROLE"))
        async with own_db.project(known) as session:
            assert await session.fetch(scalars("projects.role", scoped(Project, sa.func.current_user())), {}) == ["derwin_app"]
            assert await backend(session) == connection.get_server_pid()
