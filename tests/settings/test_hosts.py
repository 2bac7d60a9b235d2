"""Several hosts of one URL: what one of them answers, and how long all of them may take. Nobody is connected to."""

import asyncio
from typing import Any

import asyncpg
import pytest

from derwin_db.connection import hosts
from derwin_db.connection.driver import connect, connect_pooled, pooled_arguments
from derwin_db.settings import ConnectionInfo, Settings
from derwin_db.settings.url import TargetServer

THREE = "postgresql://me@a.example,b.example,c.example/qa?target_session_attrs="


class TestNextHost:
    """What one host answers is the end, or leads to the next."""

    @pytest.mark.parametrize(
        "answer",
        [
            asyncpg.TooManyConnectionsError("sorry, too many clients already"),
            asyncpg.CannotConnectNowError("the database system is starting up"),
            ConnectionRefusedError(),
            TimeoutError(),
        ],
        ids=lambda answer: type(answer).__name__,
    )
    async def test_is_tried_where_one_is_full_starting_or_away(self, answer: Exception) -> None:
        tried, made = await self.answered(answer)
        assert (tried, made) == (["a.example", "b.example"], "b.example")

    async def test_is_not_tried_where_one_refuses_the_login(self) -> None:
        tried, made = await self.answered(asyncpg.InvalidPasswordError("no"))
        assert tried == ["a.example"]
        assert isinstance(made, asyncpg.InvalidPasswordError)

    @staticmethod
    async def answered(answer: Exception) -> tuple[list[str], Any]:
        """Return who was tried where the first one answers so, and what came of it."""
        tried: list[str] = []

        async def make(one: ConnectionInfo) -> str:
            tried.append(one.host)
            if one.host == "a.example":
                raise answer
            return one.host

        hosts._right.clear()
        try:
            return tried, await hosts.connect_to_one(ConnectionInfo.parse(f"{THREE}any"), make)
        except asyncpg.PostgresError as error:
            return tried, error


class TestTime:
    """However many are tried, and whatever is done first, a connect takes no longer than it may."""

    @pytest.fixture
    def given(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """What each attempt of the driver was given; nobody answers."""
        seen: list[float] = []

        async def nobody(**arguments: Any) -> None:
            seen.append(arguments["timeout"])
            raise ConnectionRefusedError

        monkeypatch.setattr(asyncpg, "connect", nobody)
        return seen

    @pytest.mark.parametrize(("target", "attempts"), [("any", 3), ("standby", 3), ("prefer-standby", 6)])
    async def test_is_shared_by_all_attempts(self, given: list[float], target: TargetServer, attempts: int) -> None:
        info = ConnectionInfo.parse(f"{THREE}{target}")
        with pytest.raises(ConnectionRefusedError):
            await connect(info, timeout=12)
        with pytest.raises(ConnectionRefusedError):
            await connect_pooled(
                info, pooled_arguments(info, Settings(_env_file=None, connect_timeout=6.0), {}, keeps_statements=True)
            )
        assert given == [12 / attempts] * attempts + [6 / attempts] * attempts

    async def test_is_shared_with_a_password_that_is_fetched(self, given: list[float]) -> None:
        async def password(_login: ConnectionInfo) -> str:
            await asyncio.sleep(0.06)
            return "secret"

        with pytest.raises(ConnectionRefusedError):
            await connect(ConnectionInfo.parse("postgresql://me@a.example/qa").with_password_of(password), timeout=12)
        assert len(given) == 1
        assert 0 < given[0] < 12 - 0.05
