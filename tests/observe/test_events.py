"""What observers are told: how long each thing took, by a clock that the test sets."""

import asyncio
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from derwin_db.observe import events
from derwin_db.observe.events import Endpoint, Observer, PoolWatch, UnitObserver, Watch

SERVER = Endpoint("db.example", 5432, "derwin", "derwin_service")


class Seen(Observer, UnitObserver):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def entered(self, project_id: Any) -> UnitObserver:
        return self

    def ran(self, call: Any) -> None:
        self.told.append((call.name, call.seconds, call.error))

    def timed(self, server: Endpoint, what: str, seconds: float) -> None:
        self.told.append((server, what, seconds))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look finds it three seconds later."""
    looks = count(100.0, 3.0)
    monkeypatch.setattr(events, "time", SimpleNamespace(perf_counter=lambda: next(looks), time_ns=lambda: 7))


async def test_a_pool_says_how_long_a_connection_was_waited_for_and_used() -> None:
    seen = Seen()
    watch = PoolWatch([seen], SERVER)
    connection = await watch.taking(asyncio.sleep(0, "connection"))
    watch.given_back(connection)
    watch.given_back(connection)
    assert seen.told == [(SERVER, "wait", 3.0), (SERVER, "use", 3.0)]


async def test_a_unit_says_how_long_a_statement_took_and_what_became_of_it() -> None:
    async def fails() -> None:
        raise EOFError

    seen = Seen()
    watch = Watch([seen], None)
    await watch.over(asyncio.sleep(0), "projects.list")
    with pytest.raises(EOFError):
        await watch.over(fails(), "projects.get")
    assert seen.told == [("projects.list", 3.0, None), ("projects.get", 3.0, "EOFError")]
