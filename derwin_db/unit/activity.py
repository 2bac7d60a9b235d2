"""When a transaction began and last did something: why the server may have ended it without a word.

A server that ends a session which is idle, or whose transaction is too long, says so while nobody listens; the driver tells
later no more than that the connection is gone. The clock tells the rest.
"""

import time

from derwin_db.errors import DatabaseUnavailable, DerwinError
from derwin_db.translation.sqlstates import EXACT

_IDLE, _TOO_LONG = "25P03", "25P04"

_LATE_SECONDS = 0.5
"""So much later than the server a busy process may see that a statement has ended, and half of a short limit at the most."""


class Activity:
    """The times of one transaction, on this process's clock."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Note that the transaction begins."""
        self._began = self._last = time.monotonic()
        self._idle_before: float | None = None

    def statement_begins(self) -> None:
        """Note that a statement begins, and how long nothing was done before it."""
        self._idle_before = time.monotonic() - self._last

    def statement_ended(self) -> None:
        """Note that it ended, well or not."""
        self._last = time.monotonic()
        self._idle_before = None

    def reason(self, *, idle_timeout: float, transaction_timeout: float | None) -> DerwinError | None:
        """Return the error for a connection that is gone, where one of the server's limits explains it.

        Units:
            Both limits in seconds; None where the server has no such limit.
        """
        now = time.monotonic()
        idle = now - self._last if self._idle_before is None else self._idle_before
        if idle >= idle_timeout - min(_LATE_SECONDS, idle_timeout / 2):
            return _error(_IDLE)
        if transaction_timeout is not None and now - self._began >= transaction_timeout:
            return _error(_TOO_LONG)
        return None


def _error(state: str) -> DerwinError:
    meaning = EXACT[state]
    error = meaning.kind(meaning.sentence())
    error.sqlstate = state
    if isinstance(error, DatabaseUnavailable):
        error.may_run_again = False  # it would be idle for as long again
    return error
