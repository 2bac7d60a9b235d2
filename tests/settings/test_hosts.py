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


class TestWhich:
    """What is wanted of the hosts, and which of them was right last time."""

    @pytest.fixture(autouse=True)
    def _nothing_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hosts, "_right", {})

    @staticmethod
    async def tried(target: TargetServer, answers: dict[str, Exception]) -> tuple[list[tuple[str, str | None]], Any]:
        """Return who was tried for what, and what came of it. Hosts without an answer here are what is wanted."""
        tried: list[tuple[str, str | None]] = []

        async def make(one: ConnectionInfo) -> str:
            tried.append((one.host[0], one.target_session_attrs))
            if one.host[0] in answers:
                raise answers[one.host[0]]
            return one.host[0]

        try:
            return tried, await hosts.connect_to_one(ConnectionInfo.parse(f"{THREE}{target}"), make)
        except (OSError, hosts.NoHostFits) as error:
            return tried, error

    async def test_was_right_last_time_is_tried_first_for_the_same(self) -> None:
        away, unfit = ConnectionRefusedError(), asyncpg.TargetServerAttributeNotMatched()
        assert await self.tried("primary", {"a": away, "b": unfit}) == ([(one, "primary") for one in "abc"], "c")
        assert await self.tried("primary", {}) == ([("c", "primary")], "c")
        assert await self.tried("standby", {}) == ([("a", "standby")], "a")
        assert await self.tried("primary", {"c": away}) == ([("c", "primary"), ("a", "primary")], "a")

    async def test_takes_any_where_there_is_no_standby(self) -> None:
        tried: list[tuple[str, str | None]] = []

        async def make(one: ConnectionInfo) -> str:
            tried.append((one.host[0], one.target_session_attrs))
            if one.target_session_attrs == "standby":
                raise asyncpg.TargetServerAttributeNotMatched
            return one.host[0]

        assert await hosts.connect_to_one(ConnectionInfo.parse(f"{THREE}prefer-standby"), make) == "a"
        assert tried == [("a", "standby"), ("b", "standby"), ("c", "standby"), ("a", "any")]

    @pytest.mark.parametrize("is_one_away", [False, True])
    async def test_none_is_where_those_that_answer_are_something_else(self, is_one_away: bool) -> None:
        answers: dict[str, Exception] = {host: asyncpg.TargetServerAttributeNotMatched() for host in "abc"}
        answers |= {"c": ConnectionRefusedError()} if is_one_away else {}
        assert isinstance((await self.tried("primary", answers))[1], hosts.NoHostFits)

    async def test_none_is_where_all_are_away_and_the_last_says_why(self) -> None:
        last = ConnectionResetError()
        assert (await self.tried("primary", {"a": OSError(), "b": OSError(), "c": last}))[1] is last


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
