"""Faults 1 to 5: tasks that are cancelled anywhere in a unit of work, however often, and while connecting."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.errors import ScopeError
from derwin_db.unit.sqlalchemy_session import SessionFactory
from tests.faults.cancelling import by_scope, cancel_units, once, three_times
from tests.faults.load import entry, keys_of, make_ticket, spend
from tests.faults.proxy import Proxy
from tests.faults.victim import Victim

SEED = random.randrange(2**32)
LONG = "SELECT pg_sleep(30)"


@asynccontextmanager
async def timeout_when_running(victim: Victim, words: str) -> AsyncIterator[None]:
    """Run out of time as `asyncio.timeout` does, at the moment when the server runs a statement with these words."""

    async def cut(block: asyncio.Timeout) -> None:
        await victim.until_active(words)
        block.reschedule(0)

    async with asyncio.timeout(None) as block:
        cutting = asyncio.create_task(cut(block))
        try:
            yield
        finally:
            cutting.cancel()


class TestAnywhere:
    @pytest.mark.parametrize("cancel", [once, three_times, by_scope])
    async def test_leaves_nothing_behind(self, make_db, victim: Victim, database, project, cancel, idle_in_transaction):
        print("seed", SEED)
        db = make_db(cleanup_timeout=20)
        user = database.service.user
        seen = await cancel_units(db, victim, user, project, units=100, cancel=cancel, seed=SEED, until_cancelled=True)
        assert seen.cancelled >= 100
        assert (seen.lost, seen.stray, seen.dirty, seen.foreign) == (0, 0, 0, [])
        assert seen.reconnects <= seen.cancelled / 100
        assert db.connections_in_use() == 0
        assert await idle_in_transaction() == 0

    async def test_a_swallowed_cancellation_ends_the_unit(self, db: Database, victim: Victim, project):
        with pytest.raises(ScopeError):
            async with db.project(project) as session:
                await repos.spend_ledger.append(session, entry("a"))
                with pytest.raises(TimeoutError):
                    async with timeout_when_running(victim, LONG):
                        await session.sql.execute(sa.text(LONG))
                with pytest.raises(ScopeError):
                    await repos.spend_ledger.append(session, entry("b"))
        assert await keys_of(db, project) == []

    @pytest.mark.parametrize("times", [1, 3, None], ids=["once", "three times", "by a scope"])
    async def test_of_a_statement_by_hand_leaves_its_connection_to_the_next_unit(
        self, make_db, victim: Victim, project, times: int | None
    ):
        """Also where it is cancelled again while the server is told to store nothing."""
        db = make_db(cleanup_timeout=20, pool_size=1)
        await spend(db, project, "a")
        before = [*db.pools()[0]._idle]
        scope = anyio.CancelScope()

        async def unit() -> None:
            with scope:
                async with db.project(project) as session:
                    await session.sql.execute(sa.text(LONG))

        task = asyncio.create_task(unit())
        await victim.until_active(LONG)
        if times is None:
            scope.cancel()
        for _ in range(times or 0):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(task, return_exceptions=True)
        await spend(db, project, "b")
        assert [*db.pools()[0]._idle] == before != []
        assert sorted(await keys_of(db, project)) == ["a", "b"]

    async def test_a_timeout_around_a_savepoint_undoes_it_alone(self, make_db, victim: Victim, project):
        db = make_db(cleanup_timeout=20)
        async with db.project(project) as session:
            await repos.spend_ledger.append(session, entry("a"))
            with pytest.raises(TimeoutError):
                async with timeout_when_running(victim, LONG), session.savepoint():
                    await repos.spend_ledger.append(session, entry("b"))
                    await session.sql.execute(sa.text(LONG))
            await repos.spend_ledger.append(session, entry("c"))
        assert sorted(await keys_of(db, project)) == ["a", "c"]


class TestDuringCommit:
    @pytest.fixture
    def patient(self, make_db, database, proxy: Proxy) -> Database:
        """A `Database` through the proxy that gives a cancelled commit all the time that it takes."""
        return make_db(proxy.before_all(database), cleanup_timeout=20, command_timeout=60)

    async def test_sees_the_commit_through_and_goes_on(self, patient: Database, proxy: Proxy, project):
        await spend(patient, project, "warm")
        called = []

        async def work():
            async with patient.project(project) as session:
                await repos.spend_ledger.append(session, entry("a"))
                session.after_commit(lambda: called.append("a"))
                proxy.mode = "blackhole"

        on_its_way = proxy.next_commit()
        task = asyncio.create_task(work())
        await asyncio.wait_for(on_its_way.wait(), 10)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=0.1)
        assert not done
        proxy.mode = "pass"
        with pytest.raises(asyncio.CancelledError):
            await task
        assert called == ["a"]
        assert sorted(await keys_of(patient, project)) == ["a", "warm"]

    async def test_goes_on_at_once_when_cancelled_again_and_commits_behind(self, patient: Database, proxy: Proxy, project):
        await spend(patient, project, "warm")
        called = asyncio.Event()

        async def cancel(scope: anyio.CancelScope, on_its_way: asyncio.Event) -> None:
            await asyncio.wait_for(on_its_way.wait(), 10)
            scope.cancel()

        with anyio.CancelScope() as scope:
            async with patient.project(project) as session:
                await repos.spend_ledger.append(session, entry("a"))
                session.after_commit(called.set)
                proxy.mode = "blackhole"
                cancelling = asyncio.create_task(cancel(scope, proxy.next_commit()))
        assert cancelling.done()
        assert scope.cancelled_caught
        assert not called.is_set()  # the block is left, and COMMIT is still held up
        assert patient.connections_in_use() == 1
        proxy.mode = "pass"
        await asyncio.wait_for(called.wait(), 10)
        assert sorted(await keys_of(patient, project)) == ["a", "warm"]

    async def test_gives_up_on_a_server_that_does_not_answer(self, make_db, database, proxy: Proxy, project, watch):
        db = make_db(proxy.before_all(database), cleanup_timeout=0.3, command_timeout=60)
        await spend(db, project, "warm")

        async def work():
            async with db.project(project) as session:
                await repos.spend_ledger.append(session, entry("a"))
                proxy.mode = "blackhole"

        on_its_way = proxy.next_commit()
        task = asyncio.create_task(work())
        await asyncio.wait_for(on_its_way.wait(), 10)
        task.cancel()
        async with asyncio.timeout(10):
            with pytest.raises(asyncio.CancelledError):
                await task
        assert any("cancelled during its commit: outcome unknown" in line for line in watch.lines)
        proxy.mode = "pass"
        await spend(db, project, "after")


class TestDuringConnect:
    async def test_the_pool_warms_although_everybody_is_cancelled(self, make_db, victim: Victim, database, project, alone):
        db = make_db(pool_size=4)
        await db.start()
        rounds = 0
        async with asyncio.timeout(10):
            while len(await victim.backends(database.service.user)) < 4:
                rounds += 1
                tasks = [asyncio.create_task(spend(db, project, f"{rounds} {number}")) for number in range(10)]
                await asyncio.sleep(0.002)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        assert await spend(db, project, "then")
        await db.close()
        assert await victim.until_quiet(database.service.user) == 0

    async def test_a_start_goes_on_without_whoever_began_it(self, make_db, project):
        db = make_db()
        async with asyncio.timeout(10):
            while db._app is None:
                task = asyncio.create_task(spend(db, project, "a"))
                await asyncio.sleep(0.001)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def test_no_backend_is_left_by_a_scope_that_ends_while_connecting(self, make_db, victim, database, project, alone):
        db = make_db()
        await db.start()
        for number in range(30):
            with anyio.move_on_after(0.0005 * (number % 8)):
                await spend(db, project, f"{number}")
        await db.close()
        assert await victim.until_quiet(database.service.user) == 0


class TestALongQuery:
    async def test_is_gone_from_the_server_long_before_its_end(self, make_db, victim: Victim, project):
        db = make_db(command_timeout=60)
        task = asyncio.create_task(self._sleep(db, project))
        pid = await victim.until_active(LONG)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await victim.until_gone(pid)
        async with db.project(project) as session:
            await make_ticket(session)

    async def _sleep(self, db, project):
        async with db.project(project) as session:
            await session.sql.execute(sa.text(LONG))


class TestTheFirstLookAtTheServer:
    """SQLAlchemy's dialect asks the server who it is, within the first unit that uses `session.sql`."""

    async def test_cut_short_is_done_by_the_next_unit_and_leaves_no_connection(self, db: Database, project, watch):
        async def read() -> None:
            async with db.project(project) as session:
                await session.sql.execute(sa.text("SELECT 1"))

        await read()
        for number in range(60):
            db.backend.sessions = SessionFactory()
            task = asyncio.create_task(read())
            await asyncio.sleep(0.0003 * number)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await read()
            assert db.backend.sessions._dialect.server_version_info
        assert watch.lost() == []
