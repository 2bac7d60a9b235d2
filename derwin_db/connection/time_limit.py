"""One time limit for all statements of a pool, kept by one timer.

The driver makes and cancels a timer for each statement, which is a tenth of what the statement costs the client. All statements
of a pool have the same limit, so whichever began first reaches it first, and one timer for that one will do. What follows the
first answer of the server, as when a statement was only prepared by then, is limited by the driver, and so is what begins while
an earlier statement is being ended.
"""

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from derwin_db.connection.driver import PooledConnection

T = TypeVar("T")


class TimeLimit:
    """Ends statements that take longer than `seconds`, as the driver's own `command_timeout` does."""

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self._seconds = seconds
        self._loop = loop
        self._running: dict[asyncio.Future[Any], tuple[float, PooledConnection]] = {}
        """What is waited for: when its time is over, and on which connection. The oldest is first."""
        self._timer: asyncio.TimerHandle | None = None

    @coroutine
    def over(self, connection: "PooledConnection", statement: Coroutine[Any, Any, T]) -> Generator[Any, None, T]:
        """Run a statement of the driver on this connection under the limit.

        Errors:
            TimeoutError; the statement's own.
        """
        try:
            awaited = first = connection.begin_without_timer(statement)
        except StopIteration as end:
            result: T = end.value
            return result
        ends = self._loop.time() + self._seconds
        self._running[first] = (ends, connection)
        if self._timer is None:
            self._timer = self._loop.call_at(ends, self._look)
        try:
            while True:
                try:
                    yield awaited
                except BaseException as error:
                    awaited = statement.throw(error)
                else:
                    awaited = statement.send(None)
        except StopIteration as end:
            result = end.value
            return result
        finally:
            self._running.pop(first, None)

    def stop(self) -> None:
        """Forget the timer: the pool is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """End what has run for too long, and look again when the next one has."""
        self._timer = None
        now = self._loop.time()
        for future, (ends, connection) in list(self._running.items()):
            if ends > now:
                self._timer = self._loop.call_at(ends, self._look)
                return
            del self._running[future]
            if not future.done():
                connection.time_out(future)
