"""How often `db.run` runs a function again, by what it failed with. Its units have no statement, and so no connection."""

import asyncio
import random
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest

from derwin_db import Database
from derwin_db.errors import DatabaseTimeout, DatabaseUnavailable, DerwinError, OutcomeUnknown


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each pause could have been at the most; none is made."""
    longest: list[float] = []

    def shortest(least: float, most: float) -> float:
        longest.append(most)
        return least

    monkeypatch.setattr(random, "uniform", shortest)
    return longest


def unavailable(state: str | None) -> DatabaseUnavailable:
    error = DatabaseUnavailable()
    error.sqlstate = state
    return error


async def runs(db: Database, errors: Iterator[DerwinError]) -> int:
    """Return how often a function ran that fails with these errors, one after the other."""
    calls = 0

    async def work(_: Any) -> None:
        nonlocal calls
        calls += 1
        raise next(errors)

    with pytest.raises(DerwinError):
        await db.run("acme", work)
    return calls


class TestRun:
    @pytest.mark.parametrize(
        ("states", "calls"),
        [(["40001"], 20), (["40P01"], 20), (["55P03"], 3), ([None], 3), (["40001", "55P03"], 6), (["55P03", None, "40P01"], 4)],
        ids=str,
    )
    async def test_is_bounded_by_what_collided_and_by_all_else(
        self, db: Database, pauses: list[float], states: list[str | None], calls: int
    ) -> None:
        assert await runs(db, cycle(map(unavailable, states))) == calls
        assert len(pauses) == calls - 1

    async def test_pauses_for_longer_each_time_and_never_for_long(self, db: Database, pauses: list[float]) -> None:
        await runs(db, cycle([unavailable("40001")]))
        assert pauses == sorted(pauses)
        assert pauses[0] < pauses[1] < pauses[-1] == pauses[-2]

    @pytest.mark.parametrize("error", [OutcomeUnknown(), DatabaseTimeout(), DerwinError()], ids=repr)
    async def test_is_the_only_one_where_another_could_not_help(
        self, db: Database, pauses: list[float], error: DerwinError
    ) -> None:
        assert await runs(db, cycle([error])) == 1

    async def test_is_the_last_that_came_to_an_end(self, db: Database, pauses: list[float]) -> None:
        failures = iter([unavailable("40001"), unavailable(None)])

        async def work(_: Any, number: int, *, more: int) -> int:
            await asyncio.sleep(0)
            for error in failures:
                raise error
            return number + more

        assert await db.run("acme", work, 40, more=2) == 42
        assert len(pauses) == 2

    async def test_is_not_repeated_after_its_commit(self, db: Database, pauses: list[float]) -> None:
        calls = 0

        def fails() -> None:
            raise unavailable("40001")

        async def work(session: Any) -> None:
            nonlocal calls
            calls += 1
            session.after_commit(fails)

        with pytest.raises(DatabaseUnavailable):
            await db.run("acme", work)
        assert (calls, pauses) == (1, [])
