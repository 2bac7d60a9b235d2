"""Who waits for a connection, for a lock, or for a commit gets what is due to it, whatever befell those before."""

import asyncio
import random
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from derwin_db import ProjectSession, repos
from derwin_db.connection import pool as pooling
from derwin_db.errors import DatabaseUnavailable
from derwin_db.models import QATicketUpdate
from derwin_db.unit.backend import call_all
from tests.faults.load import make_ticket, new_project, warm


class Refused(Exception):
    """What the server says while it is full."""

    sqlstate = "53300"


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """The server takes no connection until this is set."""
    has_room = asyncio.Event()
    connect = pooling.connect_pooled

    async def refusing(info: Any, arguments: Any) -> Any:
        if not has_room.is_set():
            raise Refused
        return await connect(info, arguments)

    monkeypatch.setattr(pooling, "connect_pooled", refusing)
    return has_room


class TestWaitingForAConnection:
    async def test_each_waits_for_as_long_as_it_may(self, db, make_db, full) -> None:
        """An attempt that began for somebody before is not what the next one is told: it has its own time."""
        full.set()
        project = (await new_project(db)).id
        one = make_db(pool_size=1, pool_timeout=0.6)
        await one.start()
        full.clear()
        loop = asyncio.get_running_loop()

        async def use() -> float:
            begin = loop.time()
            with pytest.raises(DatabaseUnavailable):
                async with one.project(project) as session:
                    await make_ticket(session)
            return loop.time() - begin

        waited = await asyncio.gather(use(), *(after(0.1 * n, use()) for n in range(1, 5)))
        assert min(waited) >= 0.59
        full.set()
        await warm(one, project, 1)

    async def test_who_came_after_a_failed_attempt_began_has_one_of_its_own(self, db, make_db, monkeypatch) -> None:
        project = (await new_project(db)).id
        one = make_db(pool_size=1, pool_timeout=5)
        await one.start()
        connect = pooling.connect_pooled
        trying, go_on = asyncio.Event(), asyncio.Event()

        async def fails_once(info: Any, arguments: Any) -> Any:
            if not trying.is_set():
                trying.set()
                await go_on.wait()
                raise ConnectionRefusedError
            return await connect(info, arguments)

        monkeypatch.setattr(pooling, "connect_pooled", fails_once)

        async def count() -> int:
            async with one.project(project) as session:
                return await repos.qa_tickets.count(session)

        loop = asyncio.get_running_loop()
        now = loop.time()
        with monkeypatch.context() as stopped:
            stopped.setattr(loop, "time", lambda: now)  # uvloop's clock stands still for a turn
            first = asyncio.ensure_future(count())
            await trying.wait()
            first.cancel()
            await asyncio.wait({first})
            second = asyncio.ensure_future(count())
            while not (await one.app_pool(read_only=False)).pool.load()["pending"]:
                await asyncio.sleep(0)
        go_on.set()
        assert await second == 0

    async def test_a_server_that_is_full_says_so_in_the_end(self, db, make_db, full) -> None:
        full.set()
        project = (await new_project(db)).id
        one = make_db(pool_size=1, pool_timeout=0.3)
        await one.start()
        full.clear()
        with pytest.raises(DatabaseUnavailable, match="connection slot"):
            async with one.project(project) as session:
                await repos.qa_tickets.count(session)
        full.set()


class TestNestedUnits:
    @pytest.mark.parametrize("inner", ["at once", "in a task"])
    async def test_are_named(self, db, make_db, inner: str) -> None:
        project = (await new_project(db)).id
        small = make_db(pool_size=2, pool_timeout=0.3)
        await warm(small, project, 2)
        met = asyncio.Barrier(2)

        async def read() -> int:
            async with small.project(project) as session:
                return await repos.qa_tickets.count(session)

        async def nested() -> None:
            async with small.project(project) as session:
                await make_ticket(session)
                await met.wait()
                await (read() if inner == "at once" else asyncio.ensure_future(read()))

        results = await asyncio.gather(nested(), nested(), return_exceptions=True)
        refused = [result for result in results if isinstance(result, DatabaseUnavailable)]
        assert refused
        assert all("nested" in error.message and "outer unit" in error.message for error in refused)

    async def test_those_behind_them_are_told_too(self, db, make_db) -> None:
        project = (await new_project(db)).id
        small = make_db(pool_size=1, pool_timeout=0.3)
        await warm(small, project, 1)
        inside = asyncio.Event()

        async def nested() -> None:
            async with small.project(project) as session:
                await make_ticket(session)
                inside.set()
                while (await small.app_pool(read_only=False)).pool.load()["pending"] < 3:
                    await asyncio.sleep(0)  # the others give up first, while this one still waits
                async with small.project(project) as inner:
                    await make_ticket(inner)

        async def flat() -> None:
            await inside.wait()
            async with small.project(project) as session:
                await make_ticket(session)

        results = await asyncio.gather(nested(), *(flat() for _ in range(3)), return_exceptions=True)
        refused = [result for result in results if isinstance(result, DatabaseUnavailable)]
        assert len(refused) == 4
        assert all("nested" in error.message for error in refused)

    async def test_units_one_after_another_are_not(self, db, make_db) -> None:
        project = (await new_project(db)).id
        small = make_db(pool_size=1, pool_timeout=0.3)
        await warm(small, project, 1)
        held = small.project(project)
        entered, leave = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with held:
                await make_ticket(held)
                entered.set()
                await leave.wait()

        holding = asyncio.ensure_future(hold())
        await entered.wait()
        with pytest.raises(DatabaseUnavailable, match="Keep units of work short"):
            async with small.project(project) as session:
                await make_ticket(session)
        leave.set()
        await holding


class TestCallbacksAfterTheCommit:
    async def test_one_that_is_cancelled_does_not_drop_those_behind(self, db) -> None:
        project = (await new_project(db)).id
        called: list[str] = []
        waiting = asyncio.Event()

        async def waits() -> None:
            waiting.set()
            await asyncio.Event().wait()

        async def behind() -> None:
            called.append("coroutine")

        async def unit() -> None:
            async with db.project(project) as session:
                await make_ticket(session)
                session.after_commit(waits)
                session.after_commit(lambda: called.append("function"))
                session.after_commit(behind)

        task = asyncio.ensure_future(unit())
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert called == ["function", "coroutine"]

    async def test_those_of_a_savepoint_that_is_undone_go_with_it(self, db) -> None:
        project = (await new_project(db)).id
        called: list[str] = []
        async with db.project(project) as session:
            session.after_commit(lambda: called.append("before"))
            for kept in (True, False):
                with suppress(KeyError):
                    async with session.savepoint():
                        await make_ticket(session)
                        async with session.savepoint():
                            session.after_commit(lambda kept=kept: called.append(f"inside {kept}"))
                        if not kept:
                            raise KeyError
            session.after_commit(lambda: called.append("behind"))
        assert called == ["before", "inside True", "behind"]

    async def test_errors_beside_a_cancellation_are_logged(self, caplog) -> None:
        def fails() -> None:
            raise ValueError

        def is_cancelled() -> None:
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await call_all([fails, is_cancelled])
        assert [record.exc_info[0] for record in caplog.records] == [ValueError]


class TestWhatIsCounted:
    async def test_collisions_leave_the_attempts_of_other_errors(self, db, monkeypatch) -> None:
        """Where many collide, some wait for a lock in vain as well."""
        monkeypatch.setattr("derwin_db.database._LONGEST_PAUSE", 0.0)
        project = (await new_project(db)).id

        async def called(states: list[str]) -> int:
            calls = 0

            async def work(_session: ProjectSession) -> None:
                nonlocal calls
                calls += 1
                if calls <= len(states):
                    error = DatabaseUnavailable()
                    error.sqlstate = states[calls - 1]
                    raise error

            with suppress(DatabaseUnavailable):
                await db.run(project, work)
            return calls

        assert await called(["40P01"] * 3 + ["55P03"] * 2) == 6
        assert await called(["40P01", "55P03"] * 3) == 6
        assert await called(["55P03"] * 5) == 3
        assert await called(["40P01"] * 30) == 20

    async def test_each_pause_may_be_twice_as_long_as_the_one_before(self, db, monkeypatch) -> None:
        bounds: list[tuple[float, float]] = []
        monkeypatch.setattr("derwin_db.database.random", SimpleNamespace(uniform=lambda *given: bounds.append(given) or 0.0))
        project = (await new_project(db)).id

        async def collides(_session: ProjectSession) -> None:
            error = DatabaseUnavailable()
            error.sqlstate = "40P01"
            raise error

        with suppress(DatabaseUnavailable):
            await db.run(project, collides)
        assert [longest for _, longest in bounds[:7]] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
        assert set(bounds[6:]) == {(0, 2.0)}


class TestManyOverFewRows:
    async def test_run_gets_all_through(self, db, make_db) -> None:
        """A hundred units lock two of four tickets each, in any order, ten at a time."""
        project = (await new_project(db)).id
        many = make_db(pool_size=10, pool_timeout=60, lock_timeout=20)
        async with many.project(project) as session:
            ids = [(await make_ticket(session)).id for _ in range(4)]
        chance = random.Random(7)
        pairs = [chance.sample(ids, 2) for _ in range(100)]
        begun: list[int] = []

        async def cross(session: ProjectSession, number: int) -> None:
            begun.append(number)
            for id in pairs[number]:
                await repos.qa_tickets.update(session, id, QATicketUpdate(title=f"{number}"))

        await asyncio.gather(*(many.run(project, cross, number) for number in range(100)))
        async with many.project(project) as session:
            versions = [(await repos.qa_tickets.get(session, id)).version for id in ids]
        assert sum(versions) - 4 == 200
        print(f"deadlocks: {len(begun) - 100} of {len(begun)} attempts")
        assert len(begun) > 100, "nothing collided: this shows nothing"


async def after(seconds: float, work: Any) -> Any:
    await asyncio.sleep(seconds)
    return await work
