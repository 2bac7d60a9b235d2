"""What the pool does with a connection, and with who waits for one, when the moment is a bad one."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from derwin_db import Database, repos
from derwin_db.connection import pool as pooling
from derwin_db.connection import replica
from derwin_db.connection.driver import end
from derwin_db.connection.pool import Pool, open_pool
from derwin_db.errors import DatabaseUnavailable, DerwinError
from derwin_db.models import Project
from derwin_db.observe.events import Endpoint
from derwin_db.settings import ConnectionInfo, Settings
from derwin_db.testing import TestDatabase
from tests.connection.test_facts import FACTS
from tests.repos.rows import a_charge

ONE = Settings(_env_file=None, pool_size=1, cleanup_timeout=0.2)


@pytest.fixture
async def single(migrated: TestDatabase) -> AsyncIterator[Database]:
    """A `Database` of one connection."""
    async with Database(**migrated.urls, settings=ONE) as db:
        yield db


@pytest.fixture
async def pool(single: Database) -> Pool:
    return (await single.app_pool(read_only=False)).pool


async def test_says_where_it_leads(migrated: TestDatabase, pool: Pool) -> None:
    info = migrated.service
    assert pool.server == Endpoint(info.host, info.port, info.database, info.user)


@pytest.mark.parametrize(
    ("of_url", "size", "seconds"),
    [({}, 2, 0.02), ({"pool_size": 1, "pool_timeout": 0.01}, 1, 0.01)],
    ids=["of the settings", "of the URL"],
)
async def test_is_as_large_and_as_patient_as_its_url_says_or_else_the_settings(
    monkeypatch: pytest.MonkeyPatch, of_url: dict[str, Any], size: int, seconds: float
) -> None:
    async def for_ever(*_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(pooling, "connect_pooled", for_ever)
    settings = Settings(_env_file=None, pool_size=2, pool_timeout=0.02)
    pool = open_pool(ConnectionInfo("nowhere.example", 5432, "qa", "me", **of_url), settings, FACTS, None).pool
    with pytest.raises(DatabaseUnavailable, match=f"was made within {seconds:g} s"):
        await pool.acquire()
    assert pool.load()["max"] == size
    await pool.close()


async def until_waiting(pool: Pool) -> None:
    async with asyncio.timeout(10):
        while not pool.load()["pending"]:
            await asyncio.sleep(0)


class TestWhoWaits:
    async def test_and_is_cancelled_when_the_pool_was_closed_keeps_no_connection(self, pool: Pool) -> None:
        """It was handed one, and has not come to take it yet."""
        connection = await pool.acquire()
        waiting = asyncio.create_task(pool.acquire())
        await until_waiting(pool)
        await pool.release(connection)
        pool.abandon()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert connection.is_closed()
        assert (pool.load()["idle"], pool.in_use()) == (0, 0)

    async def test_and_is_cancelled_is_not_told_that_the_pool_is_closed(self, pool: Pool) -> None:
        connection = await pool.acquire()
        cancelled, told = (asyncio.create_task(pool.acquire()) for _ in range(2))
        while pool.load()["pending"] < 2:
            await asyncio.sleep(0)
        cancelled.cancel()
        closing = asyncio.create_task(pool.close())
        results = await asyncio.gather(cancelled, told, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError, DatabaseUnavailable]
        await pool.release(connection)
        await closing

    async def test_behind_one_that_is_cancelled_is_told_what_the_attempt_came_to(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pool.forget_idle()
        waiting: list[asyncio.Task[Any]] = []

        async def refuse(*_: Any) -> Any:
            while pool.load()["pending"] < 2:
                await asyncio.sleep(0)
            waiting[0].cancel()
            raise ConnectionRefusedError

        monkeypatch.setattr(pooling, "connect_pooled", refuse)
        waiting += [asyncio.create_task(pool.acquire()) for _ in range(2)]
        while pool.load()["pending"] < 2:
            await asyncio.sleep(0)
        for waiter in pool._waiters:
            waiter.turn = -1  # both came before the attempt began
        cancelled, told = await asyncio.gather(*waiting, return_exceptions=True)
        assert (type(cancelled), type(told)) == (asyncio.CancelledError, DatabaseUnavailable)
        assert "DERWIN_POOL_TIMEOUT" not in str(told), "it waited for the whole time"

    async def test_for_one_of_a_pool_that_is_closed_is_told_so(self, pool: Pool) -> None:
        await pool.close()
        with pytest.raises(DatabaseUnavailable, match="was closed"):
            await pool.acquire()


class TestConnection:
    async def test_whose_cleaning_is_cancelled_is_ended(self, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
        cleaning = asyncio.Event()

        async def for_ever(*_: Any, **__: Any) -> None:
            cleaning.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(pooling, "clean", for_ever)
        connection = await pool.acquire()
        giving = asyncio.create_task(pool.release(connection, is_dirty=True))
        await cleaning.wait()
        giving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await giving
        assert connection.is_closed()
        assert pool.in_use() == 0

    async def test_on_which_the_position_can_not_be_read_is_ended(
        self, single: Database, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(replica, "_WRITTEN", "SELECT 1 / 0")
        with pytest.raises(DerwinError):
            await single.position()
        assert (pool.load()["idle"], pool.in_use()) == (0, 0)

    def test_whose_socket_the_loop_took_along_needs_no_closing(self) -> None:
        """A loop that is not asyncio's own keeps its sockets to itself."""

        class Gone:
            _transport = None
            asked = 0

            def terminate(self) -> None:
                self.asked += 1
                raise RuntimeError("Event loop is closed")

        gone: Any = Gone()
        end(gone)
        assert gone.asked == 1

    async def test_of_a_loop_that_is_gone_is_ended_by_the_next_use(self, migrated: TestDatabase, project: Project) -> None:
        """A unit was open when the loop was closed: its connection is closed without the loop, and is not lent again."""
        db = Database(**migrated.urls, settings=ONE)
        left: list[Any] = []

        async def leave_open() -> None:
            session = await db.project(project.id).__aenter__()
            await repos.spend_ledger.append(session, a_charge())
            left.append(session)

        async def use() -> int:
            async with db, db.project(project.id) as session:
                return await repos.spend_ledger.count(session)

        def in_two_loops() -> int:
            asyncio.run(leave_open())
            return asyncio.run(use())

        assert await asyncio.to_thread(in_two_loops) == 0
        await until_gone(migrated, left[0]._connection)
        with pytest.warns(ResourceWarning, match="never left"):
            forget(left)

    async def test_of_a_coroutine_that_is_closed_when_its_loop_is_gone_is_ended_at_once(
        self, migrated: TestDatabase, project: Project
    ) -> None:
        db = Database(**migrated.urls, settings=ONE)
        seen: list[Any] = []

        async def unit() -> None:
            async with db.project(project.id) as session:
                await repos.spend_ledger.append(session, a_charge())
                seen.append(session._connection)
                await asyncio.get_running_loop().create_future()

        def closed() -> int:
            coroutine = unit()
            with asyncio.Runner() as runner:
                runner.run(db.start())
                runner.run(stepped(coroutine, seen))
            coroutine.close()
            return db.connections_in_use()

        assert await asyncio.to_thread(closed) == 0
        await until_gone(migrated, seen[0])


async def until_gone(database: TestDatabase, connection: Any) -> None:
    """See that its socket was closed, which uvloop does with its loop, and wait until the server has seen it."""
    assert getattr(connection._transport, "_sock", None) is None
    pid = connection.get_server_pid()
    owner = await asyncpg.connect(**database.owner.connect_arguments())
    try:
        async with asyncio.timeout(10):
            while await owner.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid):
                await asyncio.sleep(0.01)
    finally:
        await owner.close()


async def stepped(coroutine: Any, seen: list[Any]) -> None:
    """Drive the coroutine by hand until it holds a connection and waits for nothing that comes."""
    while True:
        awaited = coroutine.send(None)
        if seen:
            return
        if awaited is None:
            await asyncio.sleep(0)
        else:
            awaited._asyncio_future_blocking = False
            await asyncio.wait({awaited})


def forget(units: list[Any]) -> None:
    units.clear()
    gc.collect()
