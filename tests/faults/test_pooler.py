"""Faults 34 to 36: PgBouncer in transaction mode, killed and not. Collected where the program is installed."""

import asyncio

import asyncpg
import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.deploy import migrations
from derwin_db.errors import ConfigurationError, DatabaseTimeout, NotFound
from derwin_db.models import QATicketUpdate
from tests.docs.blocks import ROOT, blocks
from tests.faults.load import Traffic, entry, make_ticket, new_project, raised, spend, titles_of
from tests.faults.test_given_up import hold, until
from tests.faults.victim import Victim
from tests.pgbouncer import Pooler

POOLED = "pgbouncer=true"
LOCK = "EXECUTE ON FUNCTION pg_catalog.pg_advisory_lock(bigint)"


@pytest.fixture
async def pooler(victim: Victim, database):
    """A pooler with two server connections for the service's login."""
    pooler = Pooler.of(database, size=2)
    await asyncio.to_thread(pooler.start)
    yield pooler
    pooler.remove()


@pytest.fixture
async def narrow(victim: Victim, database):
    """A pooler with one server connection for all clients."""
    pooler = Pooler.of(database, size=1)
    await asyncio.to_thread(pooler.start)
    yield pooler
    pooler.remove()


class TestKilled:
    async def test_nothing_is_lost_or_doubled_and_clients_are_back_at_once(self, make_db, database, pooler: Pooler, project):
        db = make_db(pooler.before_all(database), parameters=POOLED)
        async with Traffic(db, project) as traffic:
            for _ in range(2):
                await traffic.until_more(20)
                await asyncio.to_thread(pooler.kill)
                refused = traffic.refused
                await traffic.until(lambda: traffic.refused > refused)  # noqa: B023  # awaited at once
                before = len(traffic.acknowledged)
                await asyncio.to_thread(pooler.start)
                await traffic.until(lambda: len(traffic.acknowledged) > before)  # noqa: B023  # awaited at once
        await traffic.check()


class TestTransactionMode:
    @pytest.mark.parametrize("parameters", [POOLED, ""])
    async def test_works_declared_and_undeclared(self, make_db, database, pooler: Pooler, project, parameters):
        db = make_db(pooler.before_all(database), parameters=parameters)

        async def unit(name: int) -> None:
            async with db.project(project) as session:
                row = await make_ticket(session, f"{name}")
                await repos.qa_tickets.update(session, row.id, QATicketUpdate(classification="other"))
                assert [found.id async for found in repos.qa_tickets.stream(session)]
                async with session.savepoint():
                    await repos.spend_ledger.append(session, entry())
                await session.sql.execute(sa.text("SELECT count(*) FROM public.qa_tickets"))

        for _ in range(5):
            await asyncio.gather(*(unit(name) for name in range(10)))
        assert len(await titles_of(db, project)) == 50

    async def test_timeouts_hold_in_each_unit(self, make_db, database, pooler: Pooler, project):
        db = make_db(pooler.before_all(database), parameters=POOLED, statement_timeout=1)
        for _ in range(3):
            with pytest.raises(DatabaseTimeout) as caught:
                async with db.project(project) as session:
                    await session.sql.execute(sa.text("SELECT pg_sleep(30)"))
            assert caught.value.sqlstate == "57014"

    async def test_migrations_refuse_it(self, database, pooler: Pooler):
        with pytest.raises(ConfigurationError, match="DIRECT_URL"):
            await migrations.refuse_transaction_pooler(pooler.declared(database.owner))

    async def test_a_cancelled_query_ends_on_the_server(self, make_db, victim: Victim, database, pooler: Pooler, project):
        db = make_db(pooler.before_all(database), parameters=POOLED, command_timeout=60)

        async def sleep() -> None:
            async with db.project(project) as session:
                await session.sql.execute(sa.text("SELECT pg_sleep(30)"))

        task = asyncio.create_task(sleep())
        pid = await victim.until_active("pg_sleep(30)")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await victim.until_gone(pid)
        assert await spend(db, project, "after")


class TestTwoClientsOnOneConnection:
    async def test_each_sees_its_own_project(self, make_db, database, narrow: Pooler, db: Database):
        one, two = [make_db(narrow.before_all(database), parameters=POOLED) for _ in range(2)]
        projects = [(await new_project(db)).id for _ in range(2)]
        rows = []
        for client, project in zip((one, two), projects, strict=True):
            async with client.project(project) as session:
                rows.append(await make_ticket(session))

        async def look(client: Database, mine: int) -> None:
            for _ in range(20):
                async with client.project(projects[mine]) as session:
                    assert [row.id async for row in repos.qa_tickets.stream(session)] == [rows[mine].id]
                    with pytest.raises(NotFound):
                        await repos.qa_tickets.get(session, rows[1 - mine].id)

        await asyncio.gather(look(one, 0), look(two, 1), look(one, 1), look(two, 0))

    async def test_a_failing_unit_leaves_nothing_to_the_next_client(self, make_db, database, narrow: Pooler, db: Database):
        one, two = [make_db(narrow.before_all(database), parameters=POOLED) for _ in range(2)]
        first, second = [(await new_project(db)).id for _ in range(2)]
        for _ in range(5):
            with pytest.raises(KeyError):
                async with one.project(first) as session:
                    await make_ticket(session)
                    raise KeyError
            assert await titles_of(two, second) == []
        assert await titles_of(one, first) == []


class TestSessionState:
    LEAVE = (
        "SET statement_timeout = '77s'",
        "SET search_path = nowhere",
        "SELECT pg_advisory_lock(42)",
        "PREPARE kept AS SELECT 1",
        "DECLARE held CURSOR WITH HOLD FOR SELECT title FROM public.qa_tickets",
        "LISTEN somewhere",
    )

    @pytest.mark.parametrize("end", ["commit", "rollback"])
    async def test_what_sql_leaves_behind_does_not_reach_the_next_client(
        self, make_db, victim: Victim, database, narrow: Pooler, project, end
    ):
        one, two = [make_db(narrow.before_all(database), parameters=POOLED) for _ in range(2)]
        await victim.fetch(f"GRANT {LOCK} TO derwin_app", database=database.owner.database)  # as where no superuser migrated

        async def leave() -> None:
            async with one.project(project) as session:
                await make_ticket(session)
                for statement in self.LEAVE:
                    await session.sql.execute(sa.text(statement))
                if end == "rollback":
                    raise KeyError

        if end == "rollback":
            with pytest.raises(KeyError):
                await leave()
        else:
            await leave()
        await victim.fetch(f"REVOKE {LOCK} FROM derwin_app", database=database.owner.database)
        assert (await victim.fetch("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"))[0]["count"] == 0
        async with two.project(project) as session:
            seen = (
                await session.sql.execute(
                    sa.text(
                        "SELECT current_setting('search_path'),"
                        " (SELECT count(*) FROM pg_prepared_statements WHERE name = 'kept'),"
                        " (SELECT count(*) FROM pg_cursors WHERE is_holdable), (SELECT count(*) FROM pg_listening_channels()),"
                        " (SELECT setting FROM pg_settings WHERE name = 'statement_timeout')"
                    )
                )
            ).one()
        assert tuple(seen) == ('"$user", public', 0, 0, 0, "25000")

    async def test_units_themselves_change_no_session(self, make_db, victim: Victim, database, narrow: Pooler, project):
        db = make_db(narrow.before_all(database), parameters=POOLED)
        for name in range(3):
            await spend(db, project, f"{name}")
        stranger = await asyncpg.connect(**narrow.before(database.service).connect_arguments(), statement_cache_size=0)
        changed = await stranger.fetch(
            "SELECT name FROM pg_settings WHERE source = 'session' AND setting IS DISTINCT FROM reset_val"
        )
        await stranger.close()
        assert {row["name"] for row in changed} <= {"application_name"}  # PgBouncer itself keeps that one by client


class TestGivenUp:
    async def test_a_statement_that_catches_its_cancel_ends_on_the_server(
        self, make_db, victim: Victim, database, pooler: Pooler, project
    ):
        """Nobody knows beforehand whose process it is: it is looked at in the transaction, under a role that sees little."""
        db = make_db(pooler.before_all(database), parameters=POOLED, command_timeout=1, cleanup_timeout=0.5)
        assert isinstance(await raised(hold(db, project)), DatabaseTimeout)
        owner = await asyncpg.connect(**database.owner.connect_arguments())
        await until(owner, 0)
        await owner.close()


class TestDocumented:
    async def test_the_configuration_of_the_page_serves(self, make_db, victim: Victim, database, project):
        """As written, but for where the server is and who may log in."""
        (block,) = blocks(ROOT / "docs" / "how-to" / "pgbouncer.md", "ini")
        pooler = Pooler.of(database, size=1)
        changed = {
            "host=127.0.0.1 port=5432 dbname=derwin": f"host={victim.folder} port={victim.port}",
            "derwin =": f"{database.service.database} =",
            "6432": str(pooler.port),
            "scram-sha-256": "trust",
            "userlist.txt": str(pooler.folder / "users"),
            "[pgbouncer]\n": "[pgbouncer]\nunix_socket_dir =\n",
        }
        text = block.text
        for written, here in changed.items():
            assert text.count(written) == 1
            text = text.replace(written, here)
        pooler._write("ini", text)
        try:
            await asyncio.to_thread(pooler.start)
            async with make_db(pooler.before_all(database), parameters=POOLED).project(project, read_only=True) as session:
                assert await repos.qa_tickets.count(session) == 0
        finally:
            pooler.remove()
