"""Faults 1 to 5: tasks that are cancelled anywhere in a unit of work, however often, and while connecting."""

import asyncio
import random
import time

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


class TestAnywhere:
    @pytest.mark.parametrize("cancel", [once, three_times, by_scope])
    async def test_leaves_nothing_behind(self, db: Database, victim: Victim, database, project, cancel, idle_in_transaction):
        print("seed", SEED)
        seen = await cancel_units(db, victim, database.service.user, project, units=250, cancel=cancel, seed=SEED)
        assert seen.cancelled > 25
        assert (seen.lost, seen.stray, seen.dirty, seen.foreign) == (0, 0, 0, [])
        assert seen.reconnects <= seen.cancelled / 100
        assert db.connections_in_use() == 0
        assert await idle_in_transaction() == 0

    async def test_a_swallowed_cancellation_ends_the_unit(self, db: Database, project):
        with pytest.raises(ScopeError):
            async with db.project(project) as session:
                await repos.spend_ledger.append(session, entry("a"))
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await session.sql.execute(sa.text("SELECT pg_sleep(5)"))
                with pytest.raises(ScopeError):
                    await repos.spend_ledger.append(session, entry("b"))
        assert await keys_of(db, project) == []

    async def test_a_timeout_around_a_savepoint_undoes_it_alone(self, db: Database, project):
        async with db.project(project) as session:
            await repos.spend_ledger.append(session, entry("a"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), session.savepoint():
                    await repos.spend_ledger.append(session, entry("b"))
                    await session.sql.execute(sa.text("SELECT pg_sleep(5)"))
            await repos.spend_ledger.append(session, entry("c"))
        assert sorted(await keys_of(db, project)) == ["a", "c"]


class TestDuringCommit:
    async def test_sees_the_commit_through_and_goes_on(self, proxied: Database, proxy: Proxy, project):
        await spend(proxied, project, "warm")
        called = []

        async def work():
            async with proxied.project(project) as session:
                await repos.spend_ledger.append(session, entry("a"))
                session.after_commit(lambda: called.append("a"))
                proxy.mode, proxy.delay = "delay", 0.1

        task = asyncio.create_task(work())
        while proxy.mode != "delay":
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        proxy.mode = "pass"
        assert called == ["a"]
        assert sorted(await keys_of(proxied, project)) == ["a", "warm"]

    async def test_goes_on_at_once_when_cancelled_again_and_commits_behind(self, proxied: Database, proxy: Proxy, project):
        await spend(proxied, project, "warm")
        called = []
        with anyio.CancelScope() as scope:
            async with proxied.project(project) as session:
                await repos.spend_ledger.append(session, entry("a"))
                session.after_commit(lambda: called.append("a"))
                proxy.mode, proxy.delay = "delay", 0.2
                asyncio.get_running_loop().call_later(0.05, scope.cancel)
                began = time.monotonic()
        assert time.monotonic() - began < 0.15
        assert called == []
        await asyncio.sleep(0.6)
        assert called == ["a"]
        proxy.mode = "pass"
        assert sorted(await keys_of(proxied, project)) == ["a", "warm"]

    async def test_gives_up_on_a_server_that_does_not_answer(self, make_db, database, proxy: Proxy, project, watch):
        db = make_db(proxy.before_all(database), cleanup_timeout=0.3)
        await spend(db, project, "warm")

        async def work():
            async with db.project(project) as session:
                await repos.spend_ledger.append(session, entry("a"))
                proxy.mode = "blackhole"

        task = asyncio.create_task(work())
        while proxy.mode != "blackhole":
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 1
        assert any("cancelled during its commit: outcome unknown" in line for line in watch.lines)
        proxy.mode = "pass"
        await spend(db, project, "after")


class TestDuringConnect:
    async def test_the_pool_warms_although_everybody_is_cancelled(self, make_db, victim: Victim, database, project, alone):
        db = make_db(pool_size=4)
        await db.start()
        rounds = 0
        for rounds in range(1, 200):
            tasks = [asyncio.create_task(spend(db, project, f"{rounds} {number}")) for number in range(10)]
            await asyncio.sleep(0.002)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if len(await victim.backends(database.service.user)) >= 4:
                break
        assert rounds < 50
        assert await spend(db, project, "then")
        await db.close()
        assert await victim.until_quiet(database.service.user) == 0

    async def test_a_start_goes_on_without_whoever_began_it(self, make_db, project):
        db = make_db()
        for _ in range(200):
            task = asyncio.create_task(spend(db, project, "a"))
            await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if db._app is not None:
                break
        assert db._app is not None

    async def test_no_backend_is_left_by_a_scope_that_ends_while_connecting(self, make_db, victim, database, project, alone):
        db = make_db()
        await db.start()
        for number in range(30):
            with anyio.move_on_after(0.0005 * (number % 8)):
                await spend(db, project, f"{number}")
        await db.close()
        assert await victim.until_quiet(database.service.user) == 0


class TestALongQuery:
    async def test_is_gone_from_the_server_within_a_second(self, db: Database, victim: Victim, project):
        task = asyncio.create_task(self._sleep(db, project))
        while not await self._sleeping(victim):
            await asyncio.sleep(0.01)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while await self._sleeping(victim):
            await asyncio.sleep(0.005)
        assert time.monotonic() - began < 1
        async with db.project(project) as session:
            await make_ticket(session)

    async def _sleep(self, db, project):
        async with db.project(project) as session:
            await session.sql.execute(sa.text("SELECT pg_sleep(20)"))

    async def _sleeping(self, victim):
        rows = await victim.fetch(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE query LIKE '%pg_sleep(20)%' AND state = 'active' AND pid <> pg_backend_pid()"
        )
        return rows[0]["count"]


class TestTheFirstLookAtTheServer:
    """SQLAlchemy's dialect asks the server who it is, within the first unit that uses `session.sql`."""

    async def test_cut_short_is_done_by_the_next_unit_and_leaves_no_connection(self, db: Database, project, watch):
        async def read() -> None:
            async with db.project(project) as session:
                await session.sql.execute(sa.text("SELECT 1"))

        await read()
        for number in range(60):
            db.sessions = SessionFactory()
            task = asyncio.create_task(read())
            await asyncio.sleep(0.0003 * number)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await read()
            assert db.sessions._dialect.server_version_info
        assert watch.lost() == []
