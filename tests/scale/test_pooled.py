"""Through PgBouncer in transaction mode, two services by turns on one server connection: what is more than one statement.

`make test-pooled` leads the whole suite through one; here is what runs always. tests/faults has what happens when it dies.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.connection.driver import PooledConnection
from derwin_db.deploy import migrations
from derwin_db.doctor import examine
from derwin_db.errors import ConfigurationError, Conflict, DerwinError, NotFound, ScopeError
from derwin_db.models import RAGCorpus
from derwin_db.testing import TestDatabase, TestServer
from derwin_db.testing.server import url_of
from tests.pgbouncer import Pooler
from tests.repos.rows import a_charge, a_fix, a_run, a_ticket, axis, signals
from tests.scale.cluster import Cluster
from tests.scale.test_pooled_verbs import Clients, new_project


async def backend(db: Database, project: UUID) -> int:
    """The server process that a unit runs on."""
    async with db.project(project) as session:
        return (await session.sql.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one()


class TestOneServerConnection:
    async def test_is_what_both_services_run_on(self, clients: Clients):
        project = await new_project(clients[0])
        backends = Counter([await backend(db, project) for db in clients * 5])
        assert len(backends) == 1

    async def test_a_hundred_units_at_once_wait_for_their_turn(self, clients: Clients):
        projects = [await new_project(clients[0]) for _ in range(4)]

        async def unit(number: int) -> None:
            async with clients[number % 2].project(projects[number % 4]) as session:
                await repos.spend_ledger.append(session, a_charge(f"key {number}"))

        await asyncio.gather(*(unit(number) for number in range(100)))
        for project in projects:
            async with clients[0].project(project) as session:
                assert await repos.spend_ledger.count(session) == 25


class TestVectors:
    async def test_are_compared_without_a_codec(self, clients: Clients):
        projects = [await new_project(clients[0]) for _ in range(2)]
        for db, project in zip(clients, projects, strict=True):
            async with db.project(project) as session:
                await repos.rag_corpus.add_many(session, [a_fix(problem=f"{n}", embedding=axis(1.0, n)) for n in range(3)])
        for db, project in zip(clients, reversed(projects), strict=True):
            async with db.project(project) as session:
                embedding: Any = RAGCorpus.embedding
                query = sa.select(RAGCorpus.problem).order_by(embedding.l2_distance(axis(1.0, 2.0)))
                assert (await session.sql.scalars(query)).all() == ["2", "1", "0"]


class TestIsolation:
    async def test_the_next_client_sees_its_own_project_alone(self, clients: Clients):
        projects = [await new_project(clients[0]) for _ in range(2)]
        rows = []
        for db, project in zip(clients, projects, strict=True):
            async with db.project(project) as session:
                rows.append(await repos.qa_tickets.create(session, a_ticket()))
        for mine, db in enumerate(clients * 3):
            async with db.project(projects[mine % 2]) as session:
                assert await repos.qa_tickets.find(session, rows[1 - mine % 2].id) is None
                seen = await session.sql.execute(sa.text("SELECT DISTINCT project_id FROM public.qa_tickets"))
                assert list(seen.scalars()) == [projects[mine % 2]]

    SCOPE = "SELECT current_setting('role'), coalesce(current_setting('derwin.project_id', true), '')"
    CHANGED = "SELECT name FROM pg_settings WHERE source = 'session' AND setting IS DISTINCT FROM reset_val"

    @pytest.mark.parametrize("end", ["commit", "rollback", "failure"])
    async def test_no_setting_of_a_unit_outlives_it(self, clients: Clients, narrow: Pooler, migrated: TestDatabase, end: str):
        project = await new_project(clients[0])
        try:
            async with clients[0].project(project) as session:
                await repos.rag_corpus.search(session, axis(1.0))
                role, scope = (await session.sql.execute(sa.text(self.SCOPE))).one()
                assert role == "derwin_app"
                assert scope.startswith(str(project))
                assert (await session.sql.execute(sa.text(self.CHANGED))).scalars().all()
                if end == "failure":
                    await session.sql.execute(sa.text("SELECT 1/0"))
                if end == "rollback":
                    raise KeyError
        except (KeyError, DerwinError):
            assert end != "commit"
        stranger = await asyncpg.connect(**narrow.before(migrated.service).connect_arguments(), statement_cache_size=0)
        try:
            assert tuple(await stranger.fetchrow(self.SCOPE)) == ("none", "")
            changed = {row["name"] for row in await stranger.fetch(self.CHANGED)}
        finally:
            await stranger.close()
        assert changed <= {"application_name"}  # PgBouncer itself keeps that one by client

    async def test_a_scope_that_was_seen_opens_nothing_for_the_next_client(self, clients: Clients):
        one, two = [await new_project(clients[0]) for _ in range(2)]
        async with clients[0].project(one) as session:
            await repos.qa_tickets.create(session, a_ticket())
            scope = (await session.sql.execute(sa.text("SELECT current_setting('derwin.project_id')"))).scalar_one()
        with pytest.raises(DerwinError) as caught:
            async with clients[1].project(two) as session:
                await session.sql.execute(sa.text("SELECT set_config('derwin.project_id', :scope, true)"), {"scope": scope})
                await session.sql.execute(sa.text("SELECT title FROM public.qa_tickets"))
        assert caught.value.sqlstate == "42501"


class TestLeftovers:
    @pytest.fixture
    async def lone(self, own_database: TestDatabase) -> AsyncIterator[tuple[Database, Database]]:
        """Two services on one server connection of a database that allows temporary tables."""
        owner = await asyncpg.connect(**own_database.owner.connect_arguments())
        await owner.execute(f'GRANT TEMPORARY ON DATABASE "{own_database.owner.database}" TO PUBLIC')
        await owner.close()
        pooler = Pooler.of(own_database, size=1)
        await asyncio.to_thread(pooler.start)
        urls = {**own_database.urls, "url": url_of(pooler.declared(own_database.service))}
        async with Database(**urls) as one, Database(**urls) as two:
            yield one, two
        pooler.remove()

    LEAVE = {
        "a temporary table": "CREATE TEMP TABLE qa_tickets AS SELECT * FROM public.qa_tickets",
        "a role": "SET ROLE derwin_app",
        "a search path": "SET search_path = pg_temp",
    }

    @pytest.mark.parametrize("end", ["commit", "rollback"])
    @pytest.mark.parametrize("what", LEAVE)
    async def test_do_not_reach_the_next_client(self, lone: Clients, what: str, end: str):
        one, two = [await new_project(lone[0]) for _ in range(2)]
        for db, project in zip(lone, (one, two), strict=True):
            async with db.project(project) as session:
                await repos.qa_tickets.create(session, a_ticket())
        with contextlib.suppress(KeyError):
            async with lone[0].project(one) as session:
                await session.sql.execute(sa.text(self.LEAVE[what]))
                if end == "rollback":
                    raise KeyError
        pool, _ = await lone[1].app_pool(read_only=False)
        connection = await pool.acquire()
        assert await connection.fetchval("SELECT current_setting('role')") == "none"
        await pool.release(connection)
        async with lone[1].project(two) as session:
            seen = await session.sql.execute(sa.text("SELECT project_id FROM qa_tickets"))
            assert list(seen.scalars()) == [two]

    async def test_what_a_caller_kept_of_the_driver_is_refused(self, clients: Clients):
        one, two = [await new_project(clients[0]) for _ in range(2)]
        async with clients[0].project(one) as session:
            raw: Any = (await (await session.sql.connection()).get_raw_connection()).driver_connection
            kept = [raw.fetch, (await raw.prepare("SELECT 1")).fetch, raw.fetchval]
        async with clients[0].project(two) as session:
            assert await repos.qa_tickets.count(session) == 0
            for late, arguments in zip(kept, (("SELECT 1",), (), ("SELECT 1",)), strict=True):
                with pytest.raises((ScopeError, asyncpg.InterfaceError)):
                    await late(*arguments)


class TestEndedTransactions:
    """Of two server connections a unit that ended its transaction would hand its own on, with all that it had set."""

    @pytest.fixture
    async def pair(self, migrated: TestDatabase) -> AsyncIterator[tuple[Database, Database]]:
        pooler = Pooler.of(migrated, size=2)
        await asyncio.to_thread(pooler.start)
        urls = {**migrated.urls, "url": url_of(pooler.declared(migrated.service))}
        async with Database(**urls) as one, Database(**urls) as two:
            yield one, two
        pooler.remove()

    SEEN = "SELECT current_setting('work_mem') || ' ' || current_setting('default_transaction_isolation')"
    POISONS = (
        "COMMIT; SET work_mem = '1234kB'",
        "SELECT 1; COMMIT; SET work_mem = '1234kB'; SET default_transaction_isolation = 'serializable'",
        "SET work_mem = '1234kB'; COMMIT AND CHAIN",
        "/**/ ;ROLLBACK/**/; SET work_mem = '1234kB'",
    )

    @pytest.mark.parametrize("poison", POISONS)
    async def test_leave_nothing_on_a_server_connection(self, pair: Clients, poison: str):
        one, two = pair
        mine, other = [await new_project(one) for _ in range(2)]
        async with one.project(mine) as first, two.project(other) as second:  # both server connections are there
            clean = (await first.sql.execute(sa.text(self.SEEN))).scalar_one()
            assert (await second.sql.execute(sa.text(self.SEEN))).scalar_one() == clean
        with pytest.raises(DerwinError):
            async with one.project(mine) as session:
                await repos.qa_tickets.create(session, a_ticket())
                raw: Any = (await (await session.sql.connection()).get_raw_connection()).driver_connection
                for statement in poison.split("; "):
                    with contextlib.suppress(DerwinError, asyncpg.PostgresError):
                        await raw.execute(statement)
                await raw.execute(poison)
        assert session.outcome == "rolled back"
        for _ in range(3):
            async with one.project(mine) as first, two.project(other) as second:
                seen = [(await unit.sql.execute(sa.text(self.SEEN))).scalar_one() for unit in (first, second)]
                assert seen == [clean, clean]
                assert await repos.qa_tickets.count(first) == 0

    async def test_one_statement_at_a_time_and_no_copy(self, pair: Clients):
        project = await new_project(pair[0])
        async with pair[0].project(project) as session:
            raw: Any = (await (await session.sql.connection()).get_raw_connection()).driver_connection
            assert await raw.execute("SELECT 1") == "SELECT 1"
            with pytest.raises(ScopeError, match="one statement at a time"):
                await raw.copy_from_query("SELECT 1", output=bytes)
            await raw.execute("SAVEPOINT a")
            with pytest.raises(asyncpg.PostgresSyntaxError, match="multiple commands"):
                await raw.execute("SELECT 1; SELECT 2")
            await raw.execute("ROLLBACK TO a")


class TestLargerThings:
    async def test_a_stream_keeps_its_place_while_the_unit_does_other_things(self, clients: Clients):
        project = await new_project(clients[0])
        async with clients[0].project(project) as session:
            await repos.qa_tickets.create_many(session, [a_ticket() for _ in range(1200)])
        async with clients[1].project(project) as session:
            seen = set()
            async for row in repos.qa_tickets.stream(session):
                if len(seen) % 400 == 0:
                    assert await repos.qa_tickets.exists(session, row.id)
                seen.add(row.id)
            assert len(seen) == 1200

    async def test_bulk_writes(self, clients: Clients):
        project = await new_project(clients[0])
        async with clients[0].project(project) as session:
            run = await repos.qa_runs.enqueue(session, a_run())
            many = signals(*(f"{number}" for number in range(6000)))
            assert (await repos.raw_signals.ingest(session, run.id, iter(many))).inserted == 6000
        async with clients[1].project(project) as session:
            assert (await repos.raw_signals.ingest(session, run.id, many)).duplicates == 6000

    async def test_a_search_finds_what_the_other_service_added(self, clients: Clients):
        project, other = [await new_project(clients[0]) for _ in range(2)]
        async with clients[0].project(project) as session:
            near = await repos.rag_corpus.add(session, a_fix(embedding=axis(1.0)))
        async with clients[1].project(project) as session:
            assert [match.entry.id for match in await repos.rag_corpus.search(session, axis(1.0))] == [near.id]
        async with clients[1].project(other) as session:
            assert await repos.rag_corpus.search(session, axis(1.0)) == []

    async def test_a_savepoint_undoes_its_part_alone(self, clients: Clients):
        project = await new_project(clients[0])
        async with clients[0].project(project) as session:
            await repos.spend_ledger.append(session, a_charge("kept"))
            with pytest.raises(Conflict):
                async with session.savepoint():
                    await repos.spend_ledger.append(session, a_charge("undone"))
                    await repos.spend_ledger.append(session, a_charge("undone", amount_usd="7"))
            with pytest.raises(NotFound):
                async with session.savepoint():
                    await repos.qa_tickets.get(session, project)
        async with clients[1].project(project) as session:
            assert [row.idempotency_key async for row in repos.spend_ledger.stream(session)] == ["kept"]

    async def test_objects_of_the_sql_session_are_flushed_and_read(self, clients: Clients):
        project = await new_project(clients[0])
        async with clients[0].project(project) as session:
            row = await repos.qa_tickets.create(session, a_ticket())
            loaded: Any = await session.sql.merge(row)
            loaded.title = "changed"
        async with clients[1].project(project) as session:
            assert (await repos.qa_tickets.get(session, row.id)).title == "changed"


class TestCancellation:
    @pytest.mark.parametrize("moment", [0.0, 0.02, 0.2])
    async def test_leaves_the_server_connection_to_the_next_client(self, clients: Clients, moment: float):
        project = await new_project(clients[0])

        async def unit() -> None:
            async with clients[0].project(project) as session:
                await repos.qa_tickets.create(session, a_ticket())
                await session.sql.execute(sa.text("SELECT pg_sleep(30)"))

        task = asyncio.create_task(unit())
        await asyncio.sleep(moment)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(10), clients[1].project(project) as session:
            assert await repos.qa_tickets.count(session) == 0

    async def test_of_one_who_waits_for_the_pooler_takes_nothing_from_the_others(self, clients: Clients):
        project = await new_project(clients[0])
        await backend(clients[1], project)  # its start and its first connection would wait for the pooler, too

        async def waiting() -> None:
            async with clients[1].project(project) as session:
                await repos.qa_tickets.create(session, a_ticket())

        async with clients[0].project(project) as session:
            assert await repos.qa_tickets.count(session) == 0
            task = asyncio.create_task(waiting())
            while not clients[1].connections_in_use():
                assert not task.done()
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await repos.qa_tickets.create(session, a_ticket())
        async with asyncio.timeout(10), clients[1].project(project) as session:
            assert await repos.qa_tickets.count(session) == 1


class TestReplica:
    async def test_is_read_through_a_pooler_too(self, pair: Cluster):
        pooler = Pooler.of(pair.on_replica, size=1)
        await asyncio.to_thread(pooler.start)
        try:
            read_url = url_of(pooler.declared(pair.on_replica.service))
            async with Database(**pair.database.urls, read_url=read_url) as db:
                project = await new_project(db)
                async with db.project(project) as session:
                    row = await repos.qa_tickets.create(session, a_ticket())
                after, seen = await db.position(), []
                for _ in range(3):
                    async with db.project(project, read_only=True, after=after) as session:
                        assert [found.id for found in (await repos.qa_tickets.list(session)).items] == [row.id]
                        answer = await session.sql.execute(sa.text("SELECT pg_is_in_recovery(), pg_backend_pid()"))
                        seen.append(tuple(answer.one()))
        finally:
            pooler.remove()
        assert {is_standby for is_standby, _ in seen} == {True}
        assert len(set(seen)) == 1  # what session.sql leaves is undone there as well: the connection goes on


class TestPositions:
    """What is prepared without a name may be another client's after a transaction: nothing is asked outside of one."""

    async def test_are_asked_for_in_a_transaction(self, monkeypatch: pytest.MonkeyPatch, clients: Clients):
        asked: list[bool] = []
        fetchval = PooledConnection.fetchval

        async def ask(self: Any, *arguments: Any, **options: Any) -> Any:
            asked.append(self.is_in_transaction())
            return await fetchval(self, *arguments, **options)

        monkeypatch.setattr(PooledConnection, "fetchval", ask)
        after = await clients[0].position()
        assert asked == [True]
        project = await new_project(clients[0])
        async with clients[0].project(project, read_only=True, after=after) as session:
            assert await repos.qa_tickets.count(session) == 0
        assert asked == [True, True]


class TestUndeclared:
    async def test_a_migration_refuses_it_by_name(self, narrow: Pooler, migrated: TestDatabase):
        with pytest.raises(ConfigurationError, match="transaction pooler"):
            await migrations.refuse_transaction_pooler(narrow.before(migrated.owner))

    async def test_the_doctor_names_it(self, server: TestServer, migrated: TestDatabase):
        roomy = Pooler.of(migrated, size=2)  # it looks with two logins at once, which may be one
        await asyncio.to_thread(roomy.start)
        try:
            silent = replace(migrated.service, is_pooled=False)
            reports = [await examine(login(silent)) for login in (roomy.before, roomy.declared)]
        finally:
            roomy.remove()
        assert [[check.name for check in report.checks if not check.ok] for report in reports] == [["pooler"], []]

    async def test_one_in_session_mode_is_no_obstacle(self, server: TestServer):
        database = await asyncio.to_thread(server.empty)
        pooler = Pooler.of(database, size=5, mode="session")
        await asyncio.to_thread(pooler.start)
        try:
            settings = migrations.MigrationSettings(pooler.before(database.owner))
            status = await asyncio.to_thread(migrations.upgrade, settings)
        finally:
            pooler.remove()
            await asyncio.to_thread(server.drop, database)
        assert status.current == status.head
