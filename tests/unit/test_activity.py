"""Which of the server's limits explains that a connection is gone, by the clock alone."""

import pytest

from derwin_db.errors import DatabaseTimeout, DatabaseUnavailable
from derwin_db.unit import activity
from derwin_db.unit.activity import Activity


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(activity, "time", clock)
    return clock


def test_a_transaction_that_was_idle_for_too_long_is_not_run_again(clock: Clock) -> None:
    seen = Activity()
    clock.now = 29.0
    seen.note()
    clock.now = 59.0
    error = seen.reason(idle_timeout=30.0, transaction_timeout=60.0)
    assert isinstance(error, DatabaseUnavailable)
    assert (error.sqlstate, error.may_run_again) == ("25P03", False)


def test_one_that_took_too_long_says_so(clock: Clock) -> None:
    seen = Activity()
    clock.now = 10.0
    seen.begin()
    clock.now = 69.0
    seen.note()
    assert seen.reason(idle_timeout=30.0, transaction_timeout=60.0) is None
    clock.now = 70.0
    error = seen.reason(idle_timeout=30.0, transaction_timeout=60.0)
    assert isinstance(error, DatabaseTimeout)
    assert error.sqlstate == "25P04"
    assert seen.reason(idle_timeout=30.0, transaction_timeout=None) is None, "an older server knows no such limit"
