"""The command timeout of a pool: one timer for all statements, and each is ended as the driver's own timer would end it."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from derwin_db import repos
from derwin_db.connection.time_limit import TimeLimit


class Answering:
    """A connection whose statements answer when a test says so."""

    def __init__(self) -> None:
        self.ended: list[asyncio.Future[object]] = []

    def begin_without_timer(self, statement):
        return statement.send(None)

    def time_out(self, future) -> None:
        self.ended.append(future)
        future.set_exception(TimeoutError())


async def of(future):
    return await future


@asynccontextmanager
async def limited(db, seconds: float):
    """Yield a connection of the service's pool with a time limit of its own, too short for the start of a database."""
    await db.start()
    pool = db.pools()[0]
    connection = await pool.acquire()
    kept, connection.time_limit = connection.time_limit, TimeLimit(seconds, asyncio.get_running_loop())
    try:
        yield connection
    finally:
        connection.time_limit = kept
        await pool.release(connection)


@pytest.fixture
async def loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


class TestOver:
    async def test_returns_what_the_statement_returns(self, loop):
        async def answer(first, second):
            return await first + await second

        limit, one, two = TimeLimit(60, loop), loop.create_future(), loop.create_future()
        task = asyncio.create_task(of(limit.over(Answering(), answer(one, two))))
        await asyncio.sleep(0)
        one.set_result(40)
        await asyncio.sleep(0)
        two.set_result(2)
        assert await task == 42
        assert not limit._running

    async def test_a_statement_that_waits_for_nothing(self, loop):
        async def at_once():
            return 1

        assert await TimeLimit(60, loop).over(Answering(), at_once()) == 1

    async def test_an_error_is_the_statements_own(self, loop):
        limit, future = TimeLimit(60, loop), loop.create_future()
        loop.call_soon(future.set_exception, LookupError("mine"))
        with pytest.raises(LookupError, match="mine"):
            await limit.over(Answering(), of(future))
        assert not limit._running

    async def test_each_is_ended_after_its_own_time_by_one_timer(self, loop):
        limit, connection, ended = TimeLimit(0.2, loop), Answering(), {}
        futures = [loop.create_future() for _ in range(3)]

        async def run(name: int) -> None:
            began = loop.time()
            with pytest.raises(TimeoutError):
                await limit.over(connection, of(futures[name]))
            ended[name] = loop.time() - began

        tasks = []
        for name in range(3):
            tasks.append(asyncio.create_task(run(name)))
            await asyncio.sleep(0.05)
        await asyncio.gather(*tasks)
        assert all(0.19 <= seconds < 10 for seconds in ended.values())
        assert connection.ended == futures
        assert limit._timer is None

    async def test_what_answers_in_time_is_not_ended(self, loop):
        limit, connection = TimeLimit(0.05, loop), Answering()
        slow, quick = loop.create_future(), loop.create_future()
        waiting = asyncio.create_task(of(limit.over(connection, of(quick))))
        await asyncio.sleep(0)
        quick.set_result("in time")
        assert await waiting == "in time"
        with pytest.raises(TimeoutError):
            await limit.over(connection, of(slow))
        assert connection.ended == [slow]

    async def test_what_answers_at_the_moment_when_its_time_is_over_is_not_ended(self, loop):
        limit, connection = TimeLimit(0.0, loop), Answering()
        answered, slow = loop.create_future(), loop.create_future()
        waiting = [asyncio.create_task(of(limit.over(connection, of(future)))) for future in (answered, slow)]
        await asyncio.sleep(0)
        answered.set_result("just in time")
        limit._look()  # the timer, before the statement comes to take its answer
        assert await waiting[0] == "just in time"
        with pytest.raises(TimeoutError):
            await waiting[1]
        assert connection.ended == [slow]

    async def test_whoever_is_cancelled_at_the_same_moment_is_cancelled(self, loop):
        limit, future = TimeLimit(60, loop), loop.create_future()
        task = asyncio.create_task(of(limit.over(Answering(), of(future))))
        await asyncio.sleep(0)
        future.set_exception(TimeoutError())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not limit._running


class TestPool:
    async def test_makes_no_timer_for_a_statement(self, make_db, project, monkeypatch):
        db, made = make_db(pool_size=1), list[object]()

        async def units() -> None:
            async with db.project(project) as session:
                await repos.qa_tickets.count(session)
            async with db.project(project) as session:
                await repos.qa_runs.requeue_stalled(session, older_than=timedelta(hours=1))

        await units()
        loop, pool = asyncio.get_running_loop(), db.pools()[0]
        connection = await pool.acquire()
        await pool.release(connection)
        ordinary = loop.call_at

        def noted(when, callback, *arguments, **named):
            made.append(getattr(callback, "__self__", None))
            return ordinary(when, callback, *arguments, **named)

        monkeypatch.setattr(loop, "call_at", noted)
        await units()
        await units()
        assert connection in {*pool._idle}  # it was the one
        assert connection._protocol not in made

    @pytest.mark.parametrize("method", ["fetch", "execute"])
    async def test_ends_a_statement_on_the_server_too(self, make_db, loop, method):
        async with limited(make_db(), seconds=0.3) as connection:
            statement = getattr(connection, method)
            await statement("SELECT pg_sleep($1)", 0)  # while it is prepared, and then, the driver's timer holds
            began = loop.time()
            with pytest.raises(TimeoutError):
                await statement("SELECT pg_sleep($1)", 60)
            assert 0.29 <= loop.time() - began < 10
            connection.time_limit = None
            assert await connection.fetchval("SELECT 1") == 1  # the server has ended it: the connection is good

    async def test_behind_a_statement_that_is_being_ended_the_drivers_timer_holds(self, make_db, loop, monkeypatch):
        async with limited(make_db(), seconds=0.3) as connection:
            await connection.fetch("SELECT pg_sleep($1)", 0)
            with pytest.raises(TimeoutError):
                await connection.fetch("SELECT pg_sleep($1)", 60)
            connection.time_limit, under_limit = TimeLimit(60, loop), []
            monkeypatch.setattr(connection.time_limit, "over", lambda _, call: under_limit.append(call) or call)
            assert connection._protocol._is_cancelling()
            assert len(await connection.fetch("SELECT 1")) == 1
            assert not under_limit
            assert len(await connection.fetch("SELECT 1")) == 1
            assert len(under_limit) == 1

    async def test_a_limit_that_is_given_is_the_drivers(self, make_db):
        async with limited(make_db(), seconds=0.1) as connection:
            await connection.fetch("SELECT pg_sleep(0.3)", timeout=20)
            await connection.execute("SELECT pg_sleep(0.3)", timeout=20)

    async def test_leaves_no_timer_behind(self, make_db, project):
        db = make_db()
        async with db.project(project) as session:
            await repos.qa_tickets.count(session)
        limit = db.pools()[0]._time_limit
        assert limit._timer is not None
        await db.close()
        assert limit._timer is None
