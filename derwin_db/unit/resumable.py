"""Work that outlives the cancellation of whoever awaits it, without a task of its own while nobody is cancelled.

A COMMIT that is on its way is neither cancelled nor forgotten: the driver would ask the server to cancel it, and throw the
answer away. A task for each commit would do the same, at the price of a task for each unit of work.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

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
                await _done(self._awaited)
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


async def _done(future: "asyncio.Future[Any]") -> None:
    """Wait until the future is done, without cancelling it. Its result is for the work, so is its exception."""
    waiter = asyncio.get_running_loop().create_future()

    def wake(_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    future.add_done_callback(wake)
    try:
        await waiter
    finally:
        future.remove_done_callback(wake)
