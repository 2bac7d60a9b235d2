"""When the primary stands in for a replica, when that is looked at again, and how long it is waited for. No server is asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from derwin_db.connection import replica as module
from derwin_db.connection.replica import RETRY_SECONDS, Replica, check_position, wait_for
from derwin_db.errors import (
    ConfigurationError,
    DatabaseTimeout,
    DatabaseUnavailable,
    InvalidInput,
    ReplicaBehind,
    SchemaOutOfDate,
    ScopeError,
)
from derwin_db.settings import ConnectionInfo, Settings


class Looks:
    """What looks at the replica come to, one after the other; the last of them again and again."""

    def __init__(self, *answers: Exception | None) -> None:
        self._answers = list(answers)
        self.begun = 0
        self.now = 1000.0

    async def probe(self, *_: Any) -> Any:
        self.begun += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(require_fences=lambda: None)

    def replica(self, monkeypatch: pytest.MonkeyPatch, *, read_fallback: bool = True) -> Replica:
        monkeypatch.setattr(module, "probe_server", self.probe)
        monkeypatch.setattr(module, "open_pool", lambda *_, **__: object())
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        settings = Settings(_env_file=None, read_fallback=read_fallback)
        return Replica(ConnectionInfo("nowhere.example", 5432, "qa", "me"), settings, None, [])


DOWN = [DatabaseUnavailable(), DatabaseTimeout(), SchemaOutOfDate()]


class TestChoose:
    @pytest.mark.parametrize("error", DOWN, ids=repr)
    async def test_one_that_is_down_is_left_alone_for_a_while(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
    ) -> None:
        looks = Looks(error, error, error, None)
        replica = looks.replica(monkeypatch)
        for _ in range(3):
            assert [await replica.choose() for _ in range(2)] == [None, None]
            looks.now += RETRY_SECONDS
        assert looks.begun == 3
        opened = await replica.choose()
        assert opened is replica.opened is not None
        assert await replica.choose() is opened
        assert looks.begun == 4
        assert caplog.text.count("the primary stands in") == 1

    async def test_one_unit_looks_and_the_others_go_to_the_primary(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looks = Looks(None)
        replica = looks.replica(monkeypatch)
        chosen = await asyncio.gather(*(replica.choose() for _ in range(3)))
        assert chosen == [replica.opened, None, None]
        assert looks.begun == 1

    async def test_it_is_one_pool_before_and_after_it_was_down(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looks = Looks(None)
        replica = looks.replica(monkeypatch)
        before = await replica.choose()
        assert replica.may_stand_in(ConnectionRefusedError())
        assert await replica.choose() is None
        looks.now += RETRY_SECONDS
        assert await replica.choose() is before

    @pytest.mark.parametrize("error", DOWN, ids=repr)
    async def test_where_nobody_may_stand_in_each_unit_looks_and_is_told(
        self, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        looks = Looks(error, error, None)
        replica = looks.replica(monkeypatch, read_fallback=False)
        for _ in range(2):
            with pytest.raises(type(error)):
                await replica.choose()
        assert [await replica.choose() for _ in range(2)] == [replica.opened] * 2
        assert looks.begun == 3

    async def test_one_that_is_set_up_wrongly_is_no_matter_of_a_stand_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        replica = Looks(ConfigurationError(), None).replica(monkeypatch)
        with pytest.raises(ConfigurationError):
            await replica.choose()
        assert await replica.choose() is not None


def in_use() -> DatabaseUnavailable:
    error = DatabaseUnavailable("All connections are in use.")
    error.may_run_again = False
    return error


class ForeignSeal(Exception):
    """As a server refuses a key that it does not know yet."""

    sqlstate = "DW004"


class TestMayStandIn:
    @pytest.mark.parametrize(
        ("error", "may", "stays_aside"),
        [
            (ConnectionRefusedError(), True, True),
            (TimeoutError(), True, True),
            (DatabaseUnavailable(), True, True),
            (ForeignSeal(), True, True),
            (ReplicaBehind(), True, False),
            (in_use(), False, False),
            (ScopeError(), False, False),
            (asyncpg.UniqueViolationError("a row"), False, False),
            (ValueError(), False, False),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
    )
    async def test_where_the_replica_is_at_fault(
        self, monkeypatch: pytest.MonkeyPatch, error: Exception, may: bool, stays_aside: bool
    ) -> None:
        replica = Looks(None).replica(monkeypatch)
        opened = await replica.choose()
        assert replica.may_stand_in(error) is may
        assert await replica.choose() is (None if stays_aside else opened)

    async def test_nowhere_where_the_settings_say_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        replica = Looks(None).replica(monkeypatch, read_fallback=False)
        assert not replica.may_stand_in(ConnectionRefusedError())


class Server:
    """A replica that has replayed a position at this look."""

    def __init__(self, at_look: int) -> None:
        self._at_look = at_look
        self.looks = 0
        self.transactions = 0

    async def fetchval(self, _: str, position: str) -> bool:
        assert position == "0/1F"
        self.looks += 1
        return self.looks >= self._at_look

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        self.transactions += 1
        yield


class TestPosition:
    @pytest.mark.parametrize("position", ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"])
    def test_is_taken_as_the_server_says_it(self, position: str) -> None:
        assert check_position(position) == position

    @pytest.mark.parametrize(
        "position", ["", "0", "0/", "/0", "g/0", "0/0\n", "0/0; SELECT", "123456789/0", "0/123456789", 5, b"0/0"]
    )
    def test_is_nothing_else(self, position: Any) -> None:
        with pytest.raises(InvalidInput, match="a position that db"):
            check_position(position)

    @pytest.mark.parametrize("is_kept", [True, False])
    async def test_is_waited_for_look_by_look(self, monkeypatch: pytest.MonkeyPatch, is_kept: bool) -> None:
        """Behind a pooler that keeps no prepared statements each look is a transaction."""
        monkeypatch.setattr(module, "_FIRST_PAUSE", 0.0)
        server: Any = Server(at_look=4)
        await wait_for(server, "0/1F", 60.0, is_kept=is_kept)
        assert (server.looks, server.transactions) == (4, 0 if is_kept else 4)

    async def test_is_looked_for_once_where_there_is_no_time(self) -> None:
        for seen in (1, 2):
            server: Any = Server(at_look=seen)
            if seen == 1:
                await wait_for(server, "0/1F", 0.0)
            else:
                with pytest.raises(ReplicaBehind):
                    await wait_for(server, "0/1F", 0.0)
            assert server.looks == 1
