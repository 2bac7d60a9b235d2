"""What comes after a unit: its connection is given back, and taken from a SQLAlchemy session that is busy."""

import asyncio
from typing import Any

import pytest

from derwin_db import Database
from derwin_db.unit import backend
from derwin_db.unit.backend import ended_later, give_back


class TestGiveBack:
    async def test_cancelled_meanwhile_the_connection_is_given_up(self, db: Database) -> None:
        """As when the event loop ends: nobody has the connection afterwards, and the cancellation goes on."""
        pool, _ = await db.app_pool(read_only=False)
        before = pool.in_use()
        connection = await pool.acquire()
        giving = asyncio.create_task(give_back(pool, connection, 20.0, sql="SELECT pg_sleep(30)"))
        while connection._protocol.queries_count == 0 or connection.is_closed():
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        giving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await giving
        assert pool.in_use() == before
        assert connection.is_closed()


class TestABusySession:
    @pytest.fixture
    def answers(self, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
        """Whether the session could be ended, look by look; the last of them again and again."""
        answers = [False]

        async def ended(_: Any) -> bool:
            return answers.pop(0) if len(answers) > 1 else answers[0]

        monkeypatch.setattr(backend, "ended", ended)
        monkeypatch.setattr(backend, "_BUSY_SECONDS", 0.0)
        return answers

    async def test_is_ended_when_the_other_task_lets_go(self, answers: list[bool]) -> None:
        answers[:] = [False, False, True]
        nothing: Any = None
        async with asyncio.timeout(10):
            await ended_later(nothing, 1000.0)
        assert answers == [True]

    async def test_is_left_alone_after_the_time_of_a_clean_up(self, answers: list[bool]) -> None:
        nothing: Any = None
        async with asyncio.timeout(10):
            await ended_later(nothing, 0.02)
        assert answers == [False]
