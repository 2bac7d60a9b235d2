"""Behind a transaction pooler that keeps prepared statements: reads run alone there too, and what one unit leaves for the next.

A stand-in for such a pooler is always here; PgBouncer itself as well, from 1.22 on (Debian 12 has an older one).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import sqlalchemy as sa

from derwin_db import Database, ProjectSession, repos
from derwin_db.connection.ending import Ender
from derwin_db.connection.facts import probe_server
from derwin_db.isolation.preamble import APP_ROLE
from derwin_db.models import Project
from derwin_db.query.builders import scoped
from derwin_db.query.statement import scalars
from derwin_db.settings import ConnectionInfo, Settings
from derwin_db.testing import TestDatabase
from derwin_db.testing.server import url_of
from tests.pgbouncer import KEEPS_STATEMENTS, Pooler
from tests.repos.rows import a_ticket
from tests.scale.keeping import KeepingPooler
from tests.scale.test_pooled_verbs import Clients, new_project
from tests.unit.test_alone import sleeping

POOLERS = ["a stand-in", *(["PgBouncer"] if KEEPS_STATEMENTS else [])]


async def through(pooler: str, database: TestDatabase, stack: AsyncExitStack) -> ConnectionInfo:
    """Return the service's login through a new pooler of this kind, with one server connection."""
    if pooler == "PgBouncer":
        started = Pooler.of(database, size=1, keeps=True)
        stack.callback(started.remove)
        await asyncio.to_thread(started.start)
        return started.declared(database.service)
    opened = await stack.enter_async_context(KeepingPooler(database.owner.host, database.owner.port))
    return replace(database.service, host="127.0.0.1", port=opened.port, sslmode="disable", is_pooled=True)


@pytest.fixture(scope="module", params=POOLERS)
async def kept(request: pytest.FixtureRequest, migrated: TestDatabase) -> AsyncIterator[Clients]:
    """Two services on one server connection, each with one connection of its own."""
    async with AsyncExitStack() as stack:
        login = await through(request.param, migrated, stack)
        urls = {"url": url_of(login), "admin_url": url_of(migrated.operator)}
        one, two = [await stack.enter_async_context(Database(**urls, settings=Settings(pool_size=1))) for _ in range(2)]
        assert (await one.app_pool(read_only=False)).preamble.allows_alone
        project = await new_project(one)
        costs = [await round_trips(one, read(one, project, project)) for _ in range(3)]
        assert costs == [4, 1, 1]  # the first finds no role on the server connection, and runs again in a transaction
        yield one, two


async def round_trips(db: Database, run: Any) -> int:
    """Return how many round trips the pool's one connection makes for this."""
    connection: Any = await (pool := (await db.app_pool(read_only=False)).pool).acquire()
    await pool.release(connection)
    before = connection._protocol.queries_count
    await run
    return connection._protocol.queries_count - before


async def read(db: Database, project: UUID, id: UUID, **options: Any) -> Any:
    async with db.project(project, **options) as session:
        return await repos.qa_tickets.find(session, id)


SETTING = sa.func.current_setting("statement_timeout")
ROLE = scalars("projects.role", scoped(Project, sa.func.concat(sa.func.current_user(), " ", SETTING)))


class TestReads:
    async def test_take_one_round_trip(self, kept: Clients) -> None:
        one, two = kept
        project = await new_project(one)
        async with one.project(project) as session:
            ticket = await repos.qa_tickets.create(session, a_ticket())
        for db in kept:
            for _ in range(2):
                await read(db, project, ticket.id)
        for options in ({}, {"read_only": True}):
            for db in (one, two, two, one):
                assert await round_trips(db, read(db, project, ticket.id, **options)) == 1
        assert one.backend.misplaced == 0

    async def test_a_unit_that_writes_takes_three(self, kept: Clients) -> None:
        one, _ = kept
        project = await new_project(one)

        async def write() -> None:
            async with one.project(project) as session:
                await repos.qa_tickets.create(session, a_ticket())

        await write()
        assert await round_trips(one, write()) == 3

    async def test_stand_under_the_role_and_the_timeouts_of_a_unit(self, kept: Clients) -> None:
        one, two = kept
        project = await new_project(one)
        for db in (one, two, one, two):
            async with db.project(project) as session:
                assert await session.fetch(ROLE, {}) == ["derwin_app 25s"]

    async def test_hold_no_connection(self, kept: Clients) -> None:
        one, two = kept
        project = await new_project(one)
        await read(one, project, project)
        async with one.project(project) as first, two.project(project) as second:
            for session in (first, second, first):  # of one server connection, two units by turns
                assert await repos.qa_tickets.count(session) == 0


class TestFaults:
    async def test_a_read_that_is_cancelled_leaves_the_server_connection_to_the_next(
        self, kept: Clients, migrated: TestDatabase
    ) -> None:
        one, two = kept
        project = await new_project(one)
        await read(two, project, project)

        async def sleep() -> None:
            async with one.project(project) as session:
                await session.fetch(sleeping(30), {})

        owner = await asyncpg.connect(**migrated.owner.connect_arguments())
        running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active' AND usename = $1"
        task = asyncio.create_task(sleep())
        async with asyncio.timeout(60):
            while not await owner.fetchval(running, migrated.service.user):
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert one.connections_in_use() == 0
            assert await read(two, project, project) is None
            assert await read(one, project, project) is None
            assert await owner.fetchval(running, migrated.service.user) == 0
        await owner.close()

    async def test_a_server_connection_that_dies_under_a_read_is_not_noticed(
        self, kept: Clients, migrated: TestDatabase
    ) -> None:
        one, _ = kept
        project = await new_project(one)
        await read(one, project, project)
        owner = await asyncpg.connect(**migrated.owner.connect_arguments())
        dying = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND usename = $1"
        async with asyncio.timeout(60), one.project(project) as session:
            reading = asyncio.create_task(session.fetch(sleeping(0.4), {}))
            while not await owner.fetch(f"{dying} AND state = 'active'", migrated.service.user):
                await asyncio.sleep(0.01)
            assert await reading == [1]
        assert one.connections_in_use() == 0
        await owner.close()

    async def test_a_stray_is_ended_though_the_server_connection_is_still_under_a_role(
        self, kept: Clients, migrated: TestDatabase
    ) -> None:
        """The role of units sees of other sessions neither when they began, nor what they do."""
        one, _ = kept
        project = await new_project(one)
        await read(one, project, project)
        pool = (await one.app_pool(read_only=False)).pool
        stray = await asyncpg.connect(**migrated.service.connect_arguments())
        await stray.execute("BEGIN")
        await stray.execute("SELECT pg_sleep(0.01)")  # older than what a unit's own limits allow
        hasty = Settings(_env_file=None, stray_timeout=0.001, transaction_timeout=0.001, cleanup_timeout=0.001)
        assert await Ender(pool._info, hasty, pool._ender._keys, APP_ROLE).look() == 1
        async with asyncio.timeout(60):
            while not stray.is_closed():
                await asyncio.sleep(0.01)


class TestLeftovers:
    """What SQL of a caller left on the server connection is met by a read of another project that runs alone there."""

    @pytest.fixture
    async def projects(self, kept: Clients) -> list[UUID]:
        found = [await new_project(db) for db in kept]
        for db, project in zip(kept, found, strict=True):
            async with db.project(project) as session:
                await repos.qa_tickets.create(session, a_ticket(title=str(project)))
        return found

    async def seen(self, db: Database, project: UUID) -> list[str]:
        async with db.project(project) as session:
            return [row.title for row in (await repos.qa_tickets.list(session)).items]

    LEAVE = (
        "SET ROLE none",
        "SET search_path = pg_temp",
        "SET row_security = off",
        "SET statement_timeout = '20s'",
        "SET default_transaction_isolation = 'serializable'",
        "SET default_transaction_read_only = on",
        "DEALLOCATE ALL",
        "SELECT set_config('derwin.project_id', current_setting('derwin.project_id'), false)",
    )

    @pytest.mark.parametrize("end", ["commit", "rollback"])
    async def test_of_a_unit_do_not_reach_it(self, kept: Clients, projects: list[UUID], end: str) -> None:
        for sql in self.LEAVE:
            try:
                async with kept[0].project(projects[0]) as session:
                    await session.sql.execute(sa.text(sql))
                    if end == "rollback":
                        raise KeyError
            except KeyError:
                assert end == "rollback"
            for db, project in zip(kept, projects, strict=True):
                assert await self.seen(db, project) == [str(project)], sql
            async with kept[1].project(projects[1]) as session:
                assert await session.fetch(ROLE, {}) == ["derwin_app 25s"], sql
            assert await round_trips(kept[1], self.seen(kept[1], projects[1])) == 1, sql

    async def test_a_statement_in_the_place_of_ours_is_gone(self, kept: Clients, projects: list[UUID]) -> None:
        """The pooler's names can be seen and taken: whoever runs such a statement would hand its token on."""
        one, two = kept
        for _ in range(2):
            await self.seen(two, projects[1])
        async with one.project(projects[0]) as session:
            found = await session.sql.execute(sa.text("SELECT name, statement FROM pg_catalog.pg_prepared_statements"))
            ours = [row.name for row in found if "derwin.project_id" in row.statement and "qa_tickets" in row.statement]
            assert ours
            for name in ours:
                await session.sql.execute(sa.text(f'DEALLOCATE "{name}"'))
                await session.sql.execute(sa.text(f"PREPARE \"{name}\" AS SELECT 'taken' WHERE $1::text IS NOT NULL"))
        assert await self.seen(two, projects[1]) == [str(projects[1])]


class TestOtherPoolers:
    async def test_one_that_loses_count_of_what_it_kept_is_taken_for_one_that_keeps_nothing(
        self, migrated: TestDatabase
    ) -> None:
        async with KeepingPooler(migrated.owner.host, migrated.owner.port, forgets=True) as pooler:
            led = replace(migrated.service, host="127.0.0.1", port=pooler.port, sslmode="disable", is_pooled=True)
            assert not (await probe_server(led, Settings(_env_file=None), APP_ROLE)).keeps_statements
            async with asyncio.timeout(10):
                while pooler.known:  # the server connection of which it lost count is ended
                    await asyncio.sleep(0.01)

    async def test_one_that_hands_names_through_keeps_nothing_and_has_nothing_left(
        self, narrow: Pooler, migrated: TestDatabase
    ) -> None:
        for _ in range(2):
            facts = await probe_server(narrow.declared(migrated.service), Settings(_env_file=None), APP_ROLE)
            assert not facts.keeps_statements
        stranger = await asyncpg.connect(**narrow.before(migrated.service).connect_arguments(), statement_cache_size=0)
        try:
            left = await stranger.fetch("SELECT name FROM pg_prepared_statements")
        finally:
            await stranger.close()
        assert [row["name"] for row in left if row["name"]] == []

    async def test_a_login_that_is_more_than_the_role_is_not_put_under_it(self, migrated: TestDatabase) -> None:
        """It may be asked for the key of the seal, which the role may not read."""
        async with KeepingPooler(migrated.owner.host, migrated.owner.port) as pooler:
            led = replace(migrated.owner, host="127.0.0.1", port=pooler.port, sslmode="disable", is_pooled=True)
            for _ in range(2):
                async with Database(url_of(led)) as db:
                    assert not (await db.app_pool(read_only=False)).preamble.allows_alone
                    async with db.project(await new_project(db)) as session:
                        assert await repos.qa_tickets.count(session) == 0

    async def test_no_statement_is_too_long_to_be_kept(self, kept: Clients) -> None:
        """One that had no name would be run where another client may have prepared one without a name."""
        pool = (await kept[0].app_pool(read_only=False)).pool
        connection: Any = await pool.acquire()
        await pool.release(connection)
        assert connection._config.max_cacheable_statement_size == 0
        assert isinstance(kept[0].project("any"), ProjectSession)
