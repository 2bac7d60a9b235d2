"""Listening beside the pools, and asking where nobody can listen: a worker finds what is queued in any case."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from derwin_db import Database
from derwin_db.connection import listening as module
from derwin_db.connection.listening import listen
from derwin_db.settings import ConnectionInfo, Settings
from derwin_db.testing import TestDatabase
from derwin_db.workers.queue import CHANNEL
from tests.faults.proxy import Proxy
from tests.workers.conftest import Done, Projects, enqueue, until

SETTINGS = Settings(_env_file=None)
LISTENING = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"


class Woken:
    """Remembers how often it is called."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[None] = asyncio.Queue()

    def __call__(self) -> None:
        self.calls.put_nowait(None)

    async def again(self) -> None:
        """Wait for one call more."""
        async with asyncio.timeout(60):
            await self.calls.get()


class EnoughError(Exception):
    """Ends what would go on for ever."""


def place_of(login: ConnectionInfo) -> str | tuple[str, int]:
    """Return where the server listens: the path of a socket, or a host and port."""
    return f"{login.host}/.s.PGSQL.{login.port}" if login.host.startswith("/") else (login.host, login.port)


class TestListening:
    async def test_goes_on_over_a_connection_that_is_ended(self, own_database: TestDatabase, owner: asyncpg.Connection) -> None:
        wake = Woken()
        listening = asyncio.create_task(listen(own_database.service, SETTINGS, CHANNEL, wake))
        try:
            await wake.again()  # it listens, and has the caller look at what was there before
            pid = await owner.fetchval(LISTENING)
            await owner.execute(f"NOTIFY {CHANNEL}")
            await wake.again()
            await owner.execute(f"SELECT pg_terminate_backend({pid})")
            await wake.again()  # another connection listens
            assert await owner.fetchval(LISTENING) not in (None, pid)
            await owner.execute(f"NOTIFY {CHANNEL}")
            await wake.again()
        finally:
            listening.cancel()
            await asyncio.wait({listening})

    async def test_waits_for_a_server_that_is_away(self, own_database: TestDatabase, caplog: pytest.LogCaptureFixture) -> None:
        wake = Woken()
        nowhere = replace(own_database.service, host="127.0.0.1", port=1)
        listening = asyncio.create_task(listen(nowhere, SETTINGS, CHANNEL, wake))
        async with asyncio.timeout(60):
            while "nobody can listen" not in caplog.text:
                await asyncio.sleep(0.01)
        listening.cancel()
        await asyncio.wait({listening})
        assert wake.calls.empty()

    async def test_goes_on_where_a_line_fell_silent(
        self, own_database: TestDatabase, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody says that the connection is gone: it is asked now and then, and where no answer comes another one is made."""
        monkeypatch.setattr(module, "_LOOK_SECONDS", 0.05)
        monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.5)
        wake = Woken()
        async with Proxy(place_of(own_database.service)) as proxy:
            listening = asyncio.create_task(listen(proxy.before(own_database.service), SETTINGS, CHANNEL, wake))
            try:
                await wake.again()
                before = proxy.accepted
                proxy.mode = "blackhole"
                async with asyncio.timeout(60):
                    while proxy.accepted == before:
                        await asyncio.sleep(0.01)
                proxy.mode = "pass"
                await wake.again()
                await owner.execute(f"NOTIFY {CHANNEL}")
                await wake.again()
            finally:
                listening.cancel()
                await asyncio.wait({listening})

    async def test_asks_a_server_that_is_away_for_days_as_often_as_one_that_is_away_for_minutes(
        self, own_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pauses: list[float] = []

        async def nobody(*_: Any, **__: Any) -> None:
            raise ConnectionRefusedError

        async def rest(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 1100:
                raise EnoughError

        monkeypatch.setattr(module, "connect_steadily", nobody)
        monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=rest))
        with pytest.raises(EnoughError):
            await listen(own_database.service, SETTINGS, CHANNEL, Woken())
        assert (len(pauses), min(pauses[10:]) >= 5, max(pauses) <= 10) == (1100, True, True)


class TestAsking:
    async def test_finds_what_no_message_said(
        self, db: Database, projects: Projects, done: Done, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("derwin_db.workers.worker.listen", lambda *_: asyncio.sleep(1000))
        (project,) = await projects(1)
        async with db.worker("w", done, poll_seconds=0.1):
            await enqueue(db, project)
            await done.until(1)

    async def test_a_flood_of_messages_has_it_look_now_and_then(
        self, db: Database, projects: Projects, done: Done, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await projects(1)
        looks: list[float] = []
        queue, loop = type(db).queue, asyncio.get_running_loop()

        def counted(self: Database) -> Any:
            looks.append(loop.time())
            return queue(self)

        monkeypatch.setattr(type(db), "queue", counted)
        async with db.worker("w", done, poll_seconds=1000, stalled_seconds=1000):
            await until(lambda: _more(looks, 2))
            async with asyncio.timeout(60):
                while len(looks) < 10:
                    await owner.execute(f"NOTIFY {CHANNEL}, 'whatever'")
        pauses = [after - before for before, after in pairwise(looks[2:10])]
        assert len(pauses) == 7
        assert min(pauses) >= 0.009


async def _more(looks: list[float], than: int) -> bool:
    return len(looks) >= than
