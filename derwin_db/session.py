"""Units of work: the only begin, commit and rollback, and the only place that sets a scope.

A unit takes no connection before its first statement. It commits at the end of its block and rolls back on any exception,
cancellation included; what it leaves behind is cleaned up by a task of its own, which no cancellation reaches. A
cancellation that arrives when COMMIT is on its way is too late: the commit is seen through, then the cancellation goes on.
"""

import asyncio
import contextlib
import inspect
import logging
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, NoReturn, Protocol, Self, TypeVar, final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from derwin_db.errors import (
    UNIT_FAILED,
    ConcurrentUse,
    DatabaseTimeout,
    DatabaseUnavailable,
    DerwinError,
    OutcomeUnknown,
    ScopeError,
    breaks_connections,
    translate,
    translate_any,
)
from derwin_db.pool import CLEAN_IN_TRANSACTION, Pool
from derwin_db.resumable import Resumable
from derwin_db.scope import Begin, Opening
from derwin_db.sqlalchemy_session import SessionFactory
from derwin_db.statement import Statement

R = TypeVar("R")

Outcome = Literal["rolled back", "committed", "outcome unknown"]

logger = logging.getLogger("derwin_db")
admin_log = logging.getLogger("derwin_db.admin")

_NOT_ENTERED = "This unit of work is not open: use it inside its `async with` block."
_BEGIN_ATTEMPTS = 3
_STREAM_ROWS = 500
_BUSY_SECONDS = 0.01


class Backend(Protocol):
    """What a unit of work needs of its `Database`."""

    cleanup_timeout: float
    delete_timeout: float
    sessions: SessionFactory

    async def app_pool(self, *, read_only: bool) -> tuple[Pool, Opening]: ...

    async def admin_pool(self) -> tuple[Pool, Opening]: ...

    async def timeout_names(self) -> Sequence[str]: ...

    def in_background(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]": ...


class UnitOfWork:
    """What both kinds of session share. Made by `Database`, used once, by one task at a time."""

    _expects_scope: bool

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._pool: Pool | None = None
        self._connection: Any = None
        self._sql: AsyncSession | None = None
        self._callbacks: list[Callable[[], object]] = []
        self._is_entered = False
        self._is_closed = False
        self._is_busy = False
        self._has_failed = False
        self._is_lost = False
        self._outcome: Outcome = "rolled back"
        self._savepoints = 0
        self._options: dict[str, Any] = {}
        self._is_pooled = False

    # --- the block ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._is_entered:
            raise ScopeError("A unit of work is used once: open another one.")
        self._is_entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self._commit()
            return
        if isinstance(error, GeneratorExit):
            await self._leave_at_once()
            return
        await self._abandon()
        if _is_of_the_driver(error):
            _raise_translated(error)

    def __del__(self) -> None:
        if self._connection is not None and self._pool is not None:
            self._pool.drop(self._connection)
            warnings.warn("a unit of work was never left: its connection is dropped", ResourceWarning, stacklevel=1)

    @property
    def outcome(self) -> Outcome:
        """How the unit ended; "rolled back" for as long as it has not."""
        return self._outcome

    def savepoint(self) -> "Savepoint":
        """Return a block whose statements are undone alone when it raises; the unit goes on."""
        return Savepoint(self)

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Have `callback` called, and awaited if it is a coroutine function, after the commit and only then."""
        self._check_usable()
        self._callbacks.append(callback)

    @property
    def sql(self) -> AsyncSession:
        """A SQLAlchemy session on the same connection and transaction, scoped by the database.

        For what no repository does. It is flushed before the commit; commit, rollback and begin are refused. JSON that
        raw SQL selects without a type comes as text.
        """
        self._check_usable()
        if self._sql is None:
            self._sql = self._backend.sessions.session(self._connected, self._check_open)
        return self._sql

    # --- the road, for repositories -----------------------------------------------------------------------------------

    async def fetch(self, statement: Statement[R], values: Mapping[str, Any]) -> list[R]:
        """Run the statement and return its rows. Repositories' way in; errors are translated."""
        arguments = self._arguments(statement, values)
        records = await self._driver("fetch", statement.sql, *arguments)
        try:
            return statement.rows(records)
        except (ValueError, LookupError):
            raise _unreadable(statement) from None

    async def execute(self, statement: Statement[None], values: Mapping[str, Any]) -> int:
        """Run the statement and return how many rows it touched."""
        tag = await self._driver("execute", statement.sql, *self._arguments(statement, values))
        return int(tag.rpartition(" ")[2])

    async def execute_many(self, statement: Statement[None], rows: list[Mapping[str, Any]]) -> None:
        """Run the statement once for each row of values, in one batch."""
        await self._driver("executemany", statement.sql, [self._arguments(statement, row) for row in rows])

    async def set_for_unit(self, settings: str) -> None:
        """Send `SET LOCAL` commands: they end with the transaction."""
        self._check_usable()
        await self._driver("execute", settings)

    async def stream(self, statement: Statement[R], values: Mapping[str, Any]) -> AsyncIterator[R]:
        """Yield the rows through a cursor on the server: constant memory. Other statements may run in between."""
        arguments = self._arguments(statement, values)
        connection = await self._connected()
        cursor = await self._guarded(connection.cursor(statement.sql, *arguments))
        while records := await self._guarded(self._next(cursor)):
            try:
                rows = statement.rows(records)
            except (ValueError, LookupError):
                raise _unreadable(statement) from None
            for row in rows:
                yield row

    async def _next(self, cursor: Any) -> Any:
        return await cursor.fetch(_STREAM_ROWS)

    def _arguments(self, statement: Statement[Any], values: Mapping[str, Any]) -> list[Any]:
        self._check_usable()
        if statement.is_scoped is not self._expects_scope:
            raise ScopeError("This operation belongs to the other kind of session: `db.project(...)` or `db.admin(...)`.")
        try:
            return statement.arguments(values)
        except KeyError:
            raise  # a parameter that the repository forgot
        except Exception as error:
            raise translate_any(error) from None

    async def _driver(self, method: str, sql: str, *arguments: Any) -> Any:
        if self._is_busy:
            raise ConcurrentUse
        self._is_busy = True
        try:
            connection = self._connection or await self._begin()
            return await getattr(connection, method)(sql, *arguments, **self._options)
        except BaseException as error:
            self._fail(error)
        finally:
            self._is_busy = False

    async def _guarded(self, awaitable: Awaitable[Any]) -> Any:
        """Await something of the driver under the same rules as `_driver`."""
        if self._is_busy or self._is_closed:
            if inspect.iscoroutine(awaitable):
                awaitable.close()
            raise ScopeError(_NOT_ENTERED) if self._is_closed else ConcurrentUse
        self._is_busy = True
        try:
            return await awaitable
        except BaseException as error:
            self._fail(error)
        finally:
            self._is_busy = False

    def _fail(self, error: BaseException) -> NoReturn:
        """Let nothing further run in this unit, and raise what came out of the driver."""
        self._has_failed = True
        self._is_lost = self._is_lost or breaks_connections(error)
        _raise_translated(error)

    async def _connected(self) -> Any:
        self._check_usable()
        if self._connection is None:
            await self._guarded(self._begin())
        return self._connection

    def _check_open(self) -> None:
        if not self._is_entered or self._is_closed:
            raise ScopeError(_NOT_ENTERED)

    def _check_usable(self) -> None:
        self._check_open()
        if self._has_failed:
            raise ScopeError(UNIT_FAILED)

    # --- begin, commit, rollback --------------------------------------------------------------------------------------

    async def _open(self, connection: Any, opening: Opening) -> None:
        raise NotImplementedError

    async def _choose_pool(self) -> tuple[Pool, Opening]:
        raise NotImplementedError

    async def _begin(self) -> Any:
        """Take a connection and open the transaction. A pooled connection that turns out dead is replaced: nothing ran yet."""
        pool, opening = await self._choose_pool()
        for attempt in range(_BEGIN_ATTEMPTS):
            connection = await pool.acquire()
            try:
                await self._open(connection, opening)
            except BaseException as error:
                if breaks_connections(error):
                    pool.drop_all_like(connection)
                    raise
                await self._in_background(_end(pool, connection, self._backend.cleanup_timeout))
                is_dead = isinstance(translate(error), DatabaseUnavailable)
                if is_dead and attempt + 1 < _BEGIN_ATTEMPTS:
                    pool.forget_idle()
                    continue
                raise
            if self._is_closed:  # another task ended the unit meanwhile
                await self._in_background(_end(pool, connection, self._backend.cleanup_timeout))
                raise ScopeError(_NOT_ENTERED)
            self._pool, self._connection, self._is_pooled = pool, connection, opening.is_pooled
            return connection
        raise DatabaseUnavailable

    async def _commit(self) -> None:
        """Commit and give the connection back; then, and only then, call what waits for it.

        Cancelled meanwhile, the commit is seen through within `cleanup_timeout`, and the cancellation goes on.
        """
        try:
            self._check_may_commit()
            if self._sql is not None:
                await self._flush(self._sql)
        except BaseException:
            await self._abandon()
            raise
        ending = Resumable(self._end_well())
        try:
            await ending.run()
        except asyncio.CancelledError:
            await self._in_background(self._commit_late(ending))
            raise
        except BaseException:
            await self._abandon()
            raise
        await self._call_back()

    def _check_may_commit(self) -> None:
        if self._is_busy:
            raise ConcurrentUse
        if self._has_failed:
            raise ScopeError(UNIT_FAILED)
        if self._connection is not None and self._connection.is_closed():
            raise DatabaseUnavailable("The connection was lost before the commit. Run the unit of work again (`db.run` does).")

    async def _flush(self, sql: AsyncSession) -> None:
        try:
            await sql.flush()
        except BaseException as error:
            self._fail(error)

    async def _end_well(self) -> None:
        """Send COMMIT and give the connection back. No cancellation reaches this."""
        self._is_closed = True
        if self._connection is not None:
            await self._send_commit(self._connection)
        self._outcome = "committed"
        pool, connection = self._let_go()
        await self._end_sql()
        if pool is not None:
            await pool.release(connection, is_dirty=self._is_dirty)

    async def _send_commit(self, connection: Any) -> None:
        self._outcome = "outcome unknown"
        clean = f"{CLEAN_IN_TRANSACTION}; " if self._sql is not None and self._is_pooled else ""
        try:
            tag = await connection.execute(f"{clean}COMMIT")
        except Exception as error:
            translated = translate_any(error)
            is_lost = isinstance(translated, DatabaseUnavailable | DatabaseTimeout)
            if is_lost and (translated.sqlstate is None or connection.is_closed()):
                self._is_lost = True
                raise OutcomeUnknown from None
            self._outcome = "rolled back"
            _raise_translated(error)
        if tag != "COMMIT":
            self._outcome = "rolled back"
            raise ScopeError(UNIT_FAILED)

    async def _commit_late(self, ending: Resumable[None]) -> None:
        """See a commit through whose task was cancelled."""
        try:
            async with asyncio.timeout(self._backend.cleanup_timeout):
                await ending.run()
        except Exception:
            self._is_lost = True
            await self._abandon()
            with contextlib.suppress(Exception):  # what it waited for is over now
                await ending.run()
            logger.warning("a unit of work was cancelled during its commit: %s", self._outcome)
        else:
            await self._call_back()

    async def _call_back(self) -> None:
        """Call what waits for the commit: all of it, then raise the first error of a caller's own."""
        errors: list[Exception] = []
        for callback in self._callbacks:
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

    async def _end_sql(self) -> None:
        """Take the connection from the SQLAlchemy session, so that nobody who kept it holds it too."""
        if self._sql is not None and not await self._ended(self._sql):
            self._backend.in_background(self._end_sql_later(self._sql))

    async def _end_sql_later(self, sql: AsyncSession) -> None:
        """Another task is still busy in it: what it waits for has been ended, so it is not for long."""
        deadline = asyncio.get_running_loop().time() + self._backend.cleanup_timeout
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_BUSY_SECONDS)
            if await self._ended(sql):
                return

    async def _ended(self, sql: AsyncSession) -> bool:
        try:
            await sql.run_sync(lambda session: session.end())  # type: ignore[attr-defined]  # UnitSession
        except Exception:
            return False
        return True

    async def _abandon(self) -> None:
        """Roll back and give the connection back, whatever happens to this task meanwhile."""
        self._is_closed = True
        pool, connection = self._let_go()
        await self._end_sql()
        if pool is None:
            return
        if self._is_lost:
            pool.drop_all_like(connection)
            return
        await self._in_background(self._rollback(pool, connection))

    def _rollback(self, pool: Pool, connection: Any) -> Coroutine[Any, Any, None]:
        clean = f"; {CLEAN_IN_TRANSACTION}" if self._sql is not None and self._is_pooled else ""
        return _end(pool, connection, self._backend.cleanup_timeout, sql=f"ROLLBACK{clean}", is_dirty=self._is_dirty)

    @property
    def _is_dirty(self) -> bool:
        """Whether a caller's SQL can have left something on the connection that nobody has cleaned yet."""
        return self._sql is not None and not self._is_pooled

    async def _leave_at_once(self) -> None:
        """Abandon the unit without waiting: a generator that is being closed may not, and its loop may be gone."""
        self._is_closed = True
        pool, connection = self._let_go()
        await self._end_sql()
        if pool is None:
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pool.drop(connection)
        else:
            self._backend.in_background(self._rollback(pool, connection))

    def _let_go(self) -> tuple[Pool | None, Any]:
        pool, connection = self._pool, self._connection
        self._pool = self._connection = None
        return pool, connection

    async def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the work to its end in a task of its own, and wait for it unless this one is cancelled."""
        await asyncio.shield(self._backend.in_background(work))

    # --- one owner, one project ---------------------------------------------------------------------------------------

    def __reduce__(self) -> NoReturn:
        raise ScopeError("A unit of work can't be copied or pickled.")

    def __deepcopy__(self, _memo: object) -> NoReturn:
        raise ScopeError("A unit of work can't be copied or pickled.")


@final
class ProjectSession(UnitOfWork):
    """One transaction of one project. The project never changes."""

    _expects_scope = True

    def __init__(self, backend: Backend, project_id: UUID, begin: Begin = Begin.READ_WRITE) -> None:
        super().__init__(backend)
        self.__project_id = project_id
        self.__begin = begin

    @property
    def project_id(self) -> UUID:
        """The project of this unit of work."""
        return self.__project_id

    @property
    def is_read_only(self) -> bool:
        """Whether writes are refused."""
        return self.__begin is not Begin.READ_WRITE

    async def _choose_pool(self) -> tuple[Pool, Opening]:
        return await self._backend.app_pool(read_only=self.is_read_only)

    async def _open(self, connection: Any, opening: Opening) -> None:
        await opening.for_project(connection, self.__project_id, self.__begin)

    def _arguments(self, statement: Statement[Any], values: Mapping[str, Any]) -> list[Any]:
        return super()._arguments(statement, {**values, "project_id": self.__project_id})


@final
class AdminSession(UnitOfWork):
    """One transaction of the admin door: for the root, and the few operations that say so."""

    _expects_scope = False

    def __init__(self, backend: Backend, reason: str) -> None:
        super().__init__(backend)
        self.__reason = reason
        self._login: str | None = None
        self._operations: list[str] = []

    @property
    def reason(self) -> str:
        """Why the door was opened."""
        return self.__reason

    async def allow_long_statements(self) -> None:
        """Give the statements of this unit the time of the setting delete_timeout."""
        seconds = self._backend.delete_timeout
        self._options = {"timeout": seconds}
        limits = [f"SET LOCAL {name} = '{round(seconds * 1000)}ms'" for name in await self._backend.timeout_names()]
        await self.set_for_unit("; ".join(limits))

    def note(self, operation: str) -> None:
        """Remember what was done, for the log."""
        self._operations.append(operation)

    async def _choose_pool(self) -> tuple[Pool, Opening]:
        pool, opening = await self._backend.admin_pool()
        self._login = pool.login
        return pool, opening

    async def _open(self, connection: Any, opening: Opening) -> None:
        await opening.for_admin(connection)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, traceback)
        finally:
            admin_log.info(
                "admin door: %s (%s, as %s): %s",
                self.__reason,
                self._outcome,
                self._login or "nobody",
                ", ".join(self._operations) or "nothing done",
                extra={
                    "reason": self.__reason,
                    "outcome": self._outcome,
                    "login": self._login,
                    "operations": tuple(self._operations),
                },
            )


class Savepoint:
    """`async with session.savepoint():` undoes its own statements when the block raises, and the unit goes on."""

    def __init__(self, unit: UnitOfWork) -> None:
        self._unit = unit
        self._name = ""
        self._settings: set[str] = set()

    async def __aenter__(self) -> None:
        unit = self._unit
        if self._name:
            raise ScopeError("A savepoint is used once: ask the session for another one.")
        unit._check_usable()
        if unit._sql is not None:
            await unit._flush(unit._sql)
        await unit._connected()
        unit._savepoints += 1
        self._name = f"derwin_{unit._savepoints}"
        await unit._driver("execute", f"SAVEPOINT {self._name}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self._release()
        elif isinstance(error, asyncio.CancelledError):
            with contextlib.suppress(Exception):  # a timeout around the block: the unit may go on without it
                async with asyncio.timeout(self._unit._backend.cleanup_timeout):
                    await self._undo()
        elif isinstance(error, Exception):
            await self._undo()
            if _is_of_the_driver(error):
                _raise_translated(error)

    async def _release(self) -> None:
        """Keep what was done, unless something of it failed unseen: then undo it and say so."""
        unit = self._unit
        try:
            unit._check_usable()
            if unit._sql is not None:
                await unit._flush(unit._sql)
            await unit._driver("execute", f"RELEASE SAVEPOINT {self._name}")
        except Exception:
            await self._undo()
            raise

    async def _undo(self) -> None:
        unit = self._unit
        if unit._is_closed or unit._connection is None or unit._connection.is_closed():
            return
        if unit._sql is not None:
            await unit._sql.run_sync(lambda session: session.undone())  # type: ignore[attr-defined]  # UnitSession
        await unit._driver("execute", f"ROLLBACK TO SAVEPOINT {self._name}; RELEASE SAVEPOINT {self._name}")
        unit._has_failed = unit._is_lost


async def _end(pool: Pool, connection: Any, seconds: float, *, sql: str = "ROLLBACK", is_dirty: bool = False) -> None:
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


def _unreadable(statement: Statement[Any]) -> DerwinError:
    return DerwinError(
        f"{statement.name}: a stored value does not have the shape of its column; it was not written by this package."
    )


def _is_of_the_driver(error: BaseException) -> bool:
    """Tell whether an exception that leaves the block began in the driver or SQLAlchemy, and not in the caller's own code."""
    if isinstance(error, DerwinError) or not isinstance(error, Exception):
        return False
    if type(error).__module__.startswith(("asyncpg", "sqlalchemy")):
        return True
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and str(traceback.tb_frame.f_globals.get("__name__", "")).startswith(("asyncpg", "sqlalchemy"))


def _raise_translated(error: BaseException) -> NoReturn:
    """Raise this package's error for one of the driver, without the original behind it: its text may hold values."""
    translated = translate_any(error) if isinstance(error, Exception) else None
    if translated is None or translated is error:
        raise error
    try:
        raise translated from None
    finally:
        translated.__context__ = None


def project_session(session: object) -> ProjectSession:
    """Return the session if it is one of a project. Errors: ScopeError before any SQL."""
    if type(session) is not ProjectSession:
        raise ScopeError("This operation takes the session of `async with db.project(...) as session`.")
    return session


def admin_session(session: object) -> AdminSession:
    """Return the session if it is one of the admin door. Errors: ScopeError before any SQL."""
    if type(session) is not AdminSession:
        raise ScopeError("This operation takes the session of `async with db.admin(reason=...) as session`.")
    return session
