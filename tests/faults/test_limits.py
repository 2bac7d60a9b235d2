"""Faults 19 to 27: limits of the pool and the server, and units of work that are in each other's way."""

import asyncio
import time

import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.connection.driver import session_settings
from derwin_db.errors import DatabaseTimeout, DatabaseUnavailable, StaleWrite
from derwin_db.models import QATicketUpdate
from tests.faults.conftest import settings
from tests.faults.load import entry, hold, keys_of, make_ticket, new_project, raised, spend, warm
from tests.faults.locking import deadlock
from tests.faults.victim import Victim, make_base


async def execute(session, sql: str):
    return await session.sql.execute(sa.text(sql))


class TestPoolExhausted:
    async def test_says_so_in_its_time_before_any_write(self, make_db, project):
        db = make_db(pool_size=3, pool_timeout=0.5)
        await warm(db, project, 3)
        holding, held, tries = asyncio.Barrier(4), asyncio.Event(), []

        async def hold(name: int) -> None:
            async with db.project(project) as session:
                await repos.spend_ledger.append(session, entry(f"held {name}"))
                await holding.wait()
                await held.wait()

        async def work(session) -> None:
            tries.append(1)
            await make_ticket(session)

        holders = [asyncio.create_task(hold(name)) for name in range(3)]
        await holding.wait()
        began = time.monotonic()
        error = await raised(spend(db, project, "too many"))
        assert type(error) is DatabaseUnavailable
        assert "DERWIN_POOL_SIZE" in error.message
        assert 0.49 <= time.monotonic() - began < 10
        assert type(await raised(db.run(project, work))) is DatabaseUnavailable
        assert len(tries) == 1  # having waited once is enough
        held.set()
        await asyncio.gather(*holders)
        assert sorted(await keys_of(db, project)) == ["held 0", "held 1", "held 2"]

    async def test_whoever_waited_longest_is_served_first(self, make_db, project):
        db = make_db(pool_size=1)
        order = []

        async def unit(name: int) -> None:
            async with db.project(project) as session:
                await repos.qa_tickets.count(session)
                order.append(name)

        await asyncio.gather(*(unit(name) for name in range(20)))
        assert order == list(range(20))

    async def test_units_in_units_do_not_hang_for_ever(self, make_db, project):
        db = make_db(pool_size=2, pool_timeout=0.3)
        await warm(db, project, 2)
        taken = asyncio.Barrier(2)

        async def nested() -> None:
            async with db.project(project) as outer:
                await hold(outer)
                await taken.wait()
                async with db.project(project) as inner:
                    await repos.qa_tickets.count(inner)

        results = await asyncio.gather(*(raised(nested()) for _ in range(2)))
        assert DatabaseUnavailable in {type(error) for error in results}


class TestServerFull:
    @pytest.fixture
    async def narrow(self, project, alone, victim: Victim, database):
        """The service's login may have two connections."""
        user = database.service.user
        await victim.fetch(f"ALTER ROLE {user} CONNECTION LIMIT 2")
        yield
        await victim.fetch(f"ALTER ROLE {user} CONNECTION LIMIT -1")

    async def test_a_start_says_unavailable(self, make_db, narrow, project):
        db, other = make_db(pool_timeout=0.4), make_db()
        async with other.project(project) as one, other.project(project) as two:
            await hold(one)
            await hold(two)
            began = time.monotonic()
            error = await raised(db.start())
            assert type(error) is DatabaseUnavailable
            assert error.sqlstate == "53300"
            assert time.monotonic() - began < 10

    async def test_a_pool_that_is_larger_than_its_share_lets_callers_wait(self, make_db, narrow, project):
        db = make_db(pool_size=10)
        await db.start()
        await asyncio.gather(*(spend(db, project, f"{name}") for name in range(30)))
        assert len(await keys_of(db, project)) == 30

    async def test_a_slot_that_comes_free_is_taken(self, make_db, narrow, project):
        db, other = make_db(pool_timeout=20), make_db()
        await db.start()
        async with other.project(project) as one, other.project(project) as two:
            await hold(one)
            await hold(two)
            waiting = asyncio.create_task(spend(db, project, "a"))
            while not db._app.pool.load()["pending"]:
                assert not waiting.done()
                await asyncio.sleep(0.001)
            assert not waiting.done()
        await other.close()
        assert await waiting


async def process_of(db: Database, project) -> int:
    """The server's process behind the one connection of a pool."""
    async with db.project(project) as session:
        return (await session.sql.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one()


class TestTimeouts:
    async def test_a_statement_takes_too_long_and_its_connection_is_kept(self, make_db, project):
        db = make_db(pool_size=1, statement_timeout=2)
        before = await process_of(db, project)
        with pytest.raises(DatabaseTimeout) as caught:
            async with db.project(project) as session:
                await execute(session, "SELECT pg_sleep(30)")
        assert caught.value.sqlstate == "57014"
        assert await process_of(db, project) == before

    async def test_a_lock_is_not_to_be_had(self, make_db, victim: Victim, database, project):
        db = make_db(lock_timeout=0.2)
        await db.start()
        connection = await victim.connect(database.owner.database)
        async with connection.transaction():
            await connection.execute("LOCK TABLE public.qa_tickets")
            tries = []

            async def work(session):
                tries.append(1)
                await make_ticket(session)

            error = await raised(db.run(project, work))
            assert (type(error), error.sqlstate, len(tries)) == (DatabaseUnavailable, "55P03", 3)
        await connection.close()
        assert await raised(db.run(project, make_ticket)) is None

    async def test_a_unit_that_is_idle_too_long_is_ended(self, make_db, project, idle_in_transaction):
        db = make_db(idle_in_transaction_timeout=1)
        with pytest.raises(DatabaseUnavailable):
            async with db.project(project) as session:
                await make_ticket(session)
                async with asyncio.timeout(10):
                    while await idle_in_transaction():
                        await asyncio.sleep(0.05)
                await make_ticket(session)
        assert db.connections_in_use() == 0
        async with asyncio.timeout(10):  # a look for strays may be at work
            while await idle_in_transaction():
                await asyncio.sleep(0.05)
        async with db.project(project) as session:
            assert await repos.qa_tickets.count(session) == 0

    async def test_a_unit_that_takes_too_long_is_ended(self, make_db, project):
        db = make_db(transaction_timeout=2)
        with pytest.raises(DatabaseTimeout) as caught:
            async with db.project(project) as session:
                await execute(session, "SELECT pg_sleep(30)")
        assert caught.value.sqlstate == "25P04"
        async with db.project(project) as session:
            assert await repos.qa_tickets.count(session) == 0

    def test_that_limit_is_set_only_where_the_server_knows_it(self):
        assert "transaction_timeout" in session_settings(settings(), 170000)
        assert "transaction_timeout" not in session_settings(settings(), 160014)

    @pytest.mark.parametrize(("idle", "command", "limit"), [(30, 30, 30), (30, 15, 30), (30, 1.5, 3), (2, 15, 2)])
    def test_nobody_may_be_idle_for_longer_than_twice_a_command(self, idle, command, limit):
        values = session_settings(settings(idle_in_transaction_timeout=idle, command_timeout=command), 180000)
        assert values["idle_in_transaction_session_timeout"] == str(1000 * limit)

    async def test_an_older_server_is_served_without_it(self, make_db):
        victim, database = await asyncio.to_thread(make_base, 16)
        try:
            await asyncio.to_thread(victim.start)
            db = make_db(database)
            made = (await new_project(db)).id
            assert await spend(db, made, "a")
            await db.close()
        finally:
            await asyncio.to_thread(victim.remove)


class TestDeadlock:
    async def test_is_run_again_and_never_surfaces(self, db: Database, victim: Victim, project):
        seen = await deadlock(db, victim, project, deadlocks=20)
        assert seen.deadlocks >= 20
        assert seen.surfaced == 0

    async def test_without_run_it_says_so(self, db: Database, project):
        async with db.project(project) as session:
            one, two = await make_ticket(session), await make_ticket(session)
        met = asyncio.Barrier(2)

        async def cross(first, second):
            async with db.project(project) as session:
                await repos.qa_tickets.update(session, first, QATicketUpdate(title="x"))
                await met.wait()
                await repos.qa_tickets.update(session, second, QATicketUpdate(title="x"))

        results = await asyncio.gather(raised(cross(one.id, two.id)), raised(cross(two.id, one.id)))
        (error,) = [error for error in results if error]
        assert (type(error), error.sqlstate) == (DatabaseUnavailable, "40P01")


class TestSerialization:
    """A unit is READ COMMITTED, where the server itself has no such failure but on a replica: a statement raises it here."""

    FAIL = "DO $$ BEGIN RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001'; END $$"

    async def test_is_run_again(self, db: Database, project):
        tries = []

        async def work(session):
            tries.append(1)
            await repos.spend_ledger.append(session, entry(f"try {len(tries)}"))
            if len(tries) < 3:
                await execute(session, self.FAIL)

        await db.run(project, work)
        assert await keys_of(db, project) == ["try 3"]

    async def test_without_run_it_says_so(self, db: Database, project):
        with pytest.raises(DatabaseUnavailable) as caught:
            async with db.project(project) as session:
                await execute(session, self.FAIL)
        assert caught.value.sqlstate == "40001"

    async def test_no_setting_of_the_login_makes_it_happen(self, make_db, victim: Victim, database, project):
        where = f"ROLE {database.service.user} IN DATABASE {database.owner.database}"
        await victim.fetch(f"ALTER {where} SET default_transaction_isolation = 'serializable'")
        try:
            async with make_db().project(project) as session:
                assert (await execute(session, "SHOW transaction_isolation")).scalar_one() == "read committed"
        finally:
            await victim.fetch(f"ALTER {where} RESET default_transaction_isolation")


class TestLostUpdate:
    async def test_of_ten_at_one_version_one_wins(self, db: Database, project):
        async with db.project(project) as session:
            id = (await make_ticket(session)).id
        have_read = asyncio.Barrier(10)

        async def change(name: int):
            async with db.project(project) as session:
                row = await repos.qa_tickets.get(session, id)
                await have_read.wait()
                data = QATicketUpdate(title=f"{name}")
                await repos.qa_tickets.update(session, id, data, expected_version=row.version)

        results = await asyncio.gather(*(raised(change(name)) for name in range(10)))
        assert [type(error) for error in results if error] == [StaleWrite] * 9

    async def test_repeated_until_it_wins_every_increment_counts(self, db: Database, project):
        async with db.project(project) as session:
            id = (await make_ticket(session)).id
            await repos.qa_tickets.update(session, id, QATicketUpdate(title="0"))

        async def increment() -> None:
            while True:
                try:
                    async with db.project(project) as session:
                        row = await repos.qa_tickets.get(session, id)
                        data = QATicketUpdate(title=str(int(row.title) + 1))
                        await repos.qa_tickets.update(session, id, data, expected_version=row.version)
                except StaleWrite:
                    continue
                return

        await asyncio.gather(*(increment() for _ in range(10)))
        async with db.project(project) as session:
            assert (await repos.qa_tickets.get(session, id)).title == "10"
