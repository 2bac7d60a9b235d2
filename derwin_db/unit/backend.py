"""What a transaction is given when it is made: what all units of a `Database` share, and the way to a connection and back."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict
from uuid import UUID

from derwin_db.connection.driver import PooledConnection
from derwin_db.connection.pool import DataSource, Pool
from derwin_db.errors import SqlState
from derwin_db.isolation.preamble import Preamble
from derwin_db.isolation.seal import Seal  # noqa: TC001  # loaded all the same
from derwin_db.observe.events import Observer
from derwin_db.translation.driver_errors import sqlstate_of
from derwin_db.unit.sqlalchemy_session import SessionFactory

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

Outcome = Literal["rolled back", "committed", "outcome unknown"]

logger: logging.Logger = logging.getLogger("derwin_db")
_BUSY_SECONDS = 0.01
_FAILS = 'ROLLBACK TO SAVEPOINT "a statement of this transaction was cancelled"'
"""There is no such savepoint. The server's log shows its name."""
_KEY_ATTEMPTS = 3
"""Of one unit of work: a rotation may be finished, and the next one too, while it opens on a server that is behind."""


class Limits(TypedDict):
    """The limits by which the server ends a session, in seconds."""

    idle_timeout: float
    transaction_timeout: float | None


@dataclass
class Backend:
    """What all units of one `Database` share."""

    sessions: SessionFactory
    observers: list[Observer]
    cleanup_timeout: float
    delete_timeout: float
    read_wait: float
    in_background: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]
    """Runs clean-up in a task that the `Database` waits for when it is closed."""
    session_limits: Callable[[], Limits]
    """Returns the limits by which the server ends a session of a unit."""
    forget_project: Callable[[UUID], None]
    """Has the `Database` look again whether a project is there."""
    admin: Callable[..., Any]
    """The admin door of the same `Database`."""
    misplaced: int = 0
    """How often a read that ran alone was planned past its scope, and ran again in a transaction."""

    async def outlive(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the work to its end in a task of its own, and wait for it unless this one is cancelled."""
        await asyncio.shield(self.in_background(work))


def nobody(_failed: Pool, _error: BaseException) -> DataSource | None:
    """Stand in for no server."""
    return None


@dataclass(frozen=True)
class Route:
    """How units of one kind come to a connection: where it is to be had, and who stands in where that fails at the begin."""

    choose: Callable[[], Awaitable[DataSource]]
    stand_in: Callable[[Pool, BaseException], DataSource | None] = nobody


class KeyAttempts:
    """Whether what a server refused for its key is worth another try: keys are rotated while units of work open."""

    def __init__(self, preamble: Preamble) -> None:
        self._seal = preamble.seal
        self._left = _KEY_ATTEMPTS
        self._used: Seal | None = None

    def begin(self) -> None:
        """Note the key that the next attempt is made with."""
        self._used = None if self._seal is None else self._seal.current

    async def has_another(self, error: BaseException) -> bool:
        """Tell whether it was the key that was refused, and there is another one to try."""
        if self._seal is None or sqlstate_of(error) != SqlState.FOREIGN_SEAL or not self._left:
            return False
        self._left -= 1
        return await self._seal.changed_after(self._used)


async def give_back(
    pool: Pool, connection: PooledConnection, seconds: float, *, sql: str = "ROLLBACK", is_dirty: bool = False
) -> None:
    """Roll back and give the connection back, or drop it where that does not work in time."""
    try:
        async with asyncio.timeout(seconds):
            if connection.is_closed():
                raise ConnectionError
            await connection.execute(sql)
            await pool.release(connection, is_dirty=is_dirty)
    except BaseException as error:
        pool.give_up(connection)
        if not isinstance(error, Exception):
            raise


async def aborted(connection: PooledConnection, seconds: float) -> bool:
    """Have the transaction fail, so that it stores nothing unless it goes back to a savepoint. False where nobody answers."""
    try:
        async with asyncio.timeout(seconds):
            await connection.execute(_FAILS)
    except Exception as error:
        return sqlstate_of(error) is not None and not connection.is_closed()
    return False


async def call_all(callbacks: Sequence[Callable[[], object]]) -> None:
    """Call what waits for a commit: all of it, also where one is cancelled, then raise that, or the first error."""
    errors: list[Exception] = []
    cancelled: asyncio.CancelledError | None = None
    for callback in callbacks:
        try:
            result = callback()
            if inspect.isawaitable(result):
                await result
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
        except Exception as error:
            errors.append(error)
    for further in errors if cancelled else errors[1:]:
        logger.error("a further callback failed after the commit", exc_info=further)
    if cancelled is not None:
        raise cancelled
    if errors:
        raise errors[0]


async def ended(sql: "AsyncSession") -> bool:
    """Take the connection from the session. False while another task is busy in it."""
    try:
        await sql.run_sync(lambda session: session.end())  # type: ignore[attr-defined]  # UnitSession
    except Exception:
        return False
    return True


async def ended_later(sql: "AsyncSession", seconds: float) -> None:
    """Take the connection from a session in which another task is busy: what it waits for was ended, so it is not for long."""
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_BUSY_SECONDS)
        if await ended(sql):
            return
