"""What comes after a unit: its connection is given back, and taken from a SQLAlchemy session that is busy."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from derwin_db import Database
from derwin_db.unit import backend
from derwin_db.unit.backend import KeyAttempts, ended_later, give_back


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


class Handed:
    """A pool and its connection in one, and what became of it."""

    def __init__(self, *, is_closed: bool = False, fails: Exception | None = None, hangs: bool = False) -> None:
        self._is_closed, self._fails, self._hangs = is_closed, fails, hangs
        self.log: list[Any] = []

    def is_closed(self) -> bool:
        return self._is_closed

    async def execute(self, sql: str) -> None:
        self.log.append(sql)
        if self._hangs:
            await asyncio.Event().wait()
        if self._fails is not None:
            raise self._fails

    async def release(self, _: Any, *, is_dirty: bool) -> None:
        self.log.append(("released", is_dirty))

    def give_up(self, _: Any) -> None:
        self.log.append("given up")


class TestGivenBack:
    @pytest.mark.parametrize("is_dirty", [False, True])
    async def test_is_what_was_rolled_back(self, is_dirty: bool) -> None:
        handed: Any = Handed()
        await give_back(handed, handed, 60.0, is_dirty=is_dirty)
        assert handed.log == ["ROLLBACK", ("released", is_dirty)]

    @pytest.mark.parametrize(
        ("handed", "log"),
        [
            (Handed(is_closed=True), ["given up"]),
            (Handed(fails=ValueError()), ["SELECT 1", "given up"]),
            (Handed(hangs=True), ["SELECT 1", "given up"]),
        ],
        ids=["closed", "failed", "silent"],
    )
    async def test_is_nothing_else(self, handed: Any, log: list[str]) -> None:
        handed.log.clear()
        await give_back(handed, handed, 0.01, sql="SELECT 1")
        assert handed.log == log


class Refused(Exception):
    """As a server refuses a key."""

    sqlstate = "DW004"


class TestKeyAttempts:
    @pytest.fixture
    def seal(self) -> Any:
        """The seal of a server, which has another key each time; it is told which one was refused."""
        seal = SimpleNamespace(current=1, refused=[])

        async def changed_after(used: int) -> bool:
            seal.refused.append(used)
            seal.current += 1
            return True

        seal.changed_after = changed_after
        return seal

    async def test_are_bounded_and_each_is_told_the_key_of_its_own(self, seal: Any) -> None:
        preamble: Any = SimpleNamespace(seal=seal)
        attempts = KeyAttempts(preamble)
        answers = []
        while not answers or answers[-1]:
            attempts.begin()
            seal.current += 10  # another unit was refused meanwhile
            answers.append(await attempts.has_another(Refused()))
        assert answers == [True, True, True, False]
        assert seal.refused == [1, 12, 23]

    async def test_are_for_a_refused_key_alone(self, seal: Any) -> None:
        sealed: Any = SimpleNamespace(seal=seal)
        plain: Any = SimpleNamespace(seal=None)
        for preamble, error in ((sealed, ValueError()), (plain, Refused())):
            attempts = KeyAttempts(preamble)
            attempts.begin()
            assert not await attempts.has_another(error)
        assert seal.refused == []


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
