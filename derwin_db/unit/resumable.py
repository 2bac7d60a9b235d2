"""Work that outlives the cancellation of whoever awaits it, without a task of its own while nobody is cancelled.

A COMMIT that is on its way is neither cancelled nor forgotten: the driver would ask the server to cancel it, and throw the
answer away. A task for each commit would do the same, at the price of a task for each unit of work.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Generic, NoReturn, TypeVar

T = TypeVar("T")


class Resumable(Generic[T]):
    """A coroutine that is driven by hand. `run` goes on where the last, cancelled `run` stopped, from any task.

    The coroutine may await futures, as a driver does; it may not open timeouts or task groups, which belong to one task.
    """

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self._awaited: asyncio.Future[Any] | None = None

    async def run(self) -> T:
        """Run the work to its end.

        Errors:
            The work's own; CancelledError leaves the work where it is.
        """
        while True:
            if self._awaited is not None:
                await _Wait(self._awaited)
            try:
                awaited = self._work.send(None)
            except StopIteration as stop:
                result: T = stop.value
                return result
            if awaited is not None:
                awaited._asyncio_future_blocking = False  # noqa: SLF001  # what a task says to a future that it waits for
            self._awaited = awaited
            if awaited is None:  # a bare yield, as in asyncio.sleep(0)
                await asyncio.sleep(0)


class _Wait:
    """Waits until a future is done. To the task it is the future, but a cancellation of the task does not go through it.

    The future wakes the task by itself: another one of asyncio's in between would cost a turn of the event loop.

    Source:
        What a task asks of a future: `Task.__step` in asyncio/tasks.py.
    """

    _wake: Callable[[Any], object]
    _context: Context | None

    def __init__(self, future: "asyncio.Future[Any]") -> None:
        self._asyncio_future_blocking = True
        self._future = future
        self._is_cancelled = False
        self._message: object = None

    def __await__(self) -> Generator["_Wait", None, None]:
        try:
            yield self
        except Exception:  # noqa: S110  # the future's own: the work asks it
            pass
        except asyncio.CancelledError:
            if self._is_cancelled:
                raise

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._future.get_loop()

    def add_done_callback(self, wake: Callable[[Any], object], *, context: Context | None = None) -> None:
        self._wake, self._context = wake, context
        self._future.add_done_callback(wake, context=context)

    def cancel(self, msg: object = None) -> bool:
        """Wake the task, unless the future has done so already: then it sees by itself that it was cancelled."""
        if not self._is_cancelled:
            self._is_cancelled, self._message = True, msg
        if not self._future.remove_done_callback(self._wake):
            return False
        self.get_loop().call_soon(self._wake, self, context=self._context)
        return True

    def result(self) -> NoReturn:
        raise asyncio.CancelledError(*(() if self._message is None else (self._message,)))
