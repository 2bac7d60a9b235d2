"""What a transaction needs around it: the `Database` that opened it, and the way back into its pool."""

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, Protocol

from derwin_db.observation import Observer
from derwin_db.pool import Pool
from derwin_db.scope import Opening
from derwin_db.sqlalchemy_session import SessionFactory

Outcome = Literal["rolled back", "committed", "outcome unknown"]

logger: logging.Logger = logging.getLogger("derwin_db")


class Backend(Protocol):
    """What a unit of work needs of its `Database`."""

    cleanup_timeout: float
    delete_timeout: float
    sessions: SessionFactory
    observers: list[Observer]

    async def app_pool(self, *, read_only: bool) -> tuple[Pool, Opening]: ...

    async def admin_pool(self) -> tuple[Pool, Opening]: ...

    async def timeout_names(self) -> Sequence[str]: ...

    def in_background(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]": ...


async def give_back(pool: Pool, connection: Any, seconds: float, *, sql: str = "ROLLBACK", is_dirty: bool = False) -> None:
    """Roll back and give the connection back, or drop it where that does not work in time."""
    try:
        async with asyncio.timeout(seconds):
            if connection.is_closed():
                raise ConnectionError
            await connection.execute(sql)
            await pool.release(connection, is_dirty=is_dirty)
    except BaseException as error:
        pool.drop(connection)
        if not isinstance(error, Exception):
            raise


async def call_all(callbacks: Sequence[Callable[[], object]]) -> None:
    """Call what waits for a commit: all of it, then raise the first error of a caller's own."""
    errors: list[Exception] = []
    for callback in callbacks:
        try:
            result = callback()
            if inspect.isawaitable(result):
                await result
        except Exception as error:
            errors.append(error)
    for further in errors[1:]:
        logger.error("a further callback failed after the commit", exc_info=further)
    if errors:
        raise errors[0]
