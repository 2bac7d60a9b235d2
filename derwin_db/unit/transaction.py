"""Transactions: the only begin, commit and rollback.

No connection is taken before the first statement. What a failed or cancelled transaction leaves behind is cleaned up by a
task of its own, which no cancellation reaches. A cancellation that arrives when COMMIT is on its way is too late: the commit
is seen through, then the cancellation goes on.
"""

import asyncio
import contextlib
import inspect
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, NoReturn

from derwin_db.connection.driver import CLEAN_IN_TRANSACTION
from derwin_db.connection.pool import Opened, Pool
from derwin_db.errors import (
    UNIT_FAILED,
    ConcurrentUse,
    DatabaseTimeout,
    DatabaseUnavailable,
    OutcomeUnknown,
    ScopeError,
)
from derwin_db.isolation.preamble import Preamble
from derwin_db.observe.events import Watch
from derwin_db.query.statement import Statement
from derwin_db.translation.driver_errors import breaks_connections, raise_translated, translate, translate_any
from derwin_db.unit.backend import Backend, Outcome, call_all, ended, ended_later, give_back
from derwin_db.unit.resumable import Resumable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

logger: logging.Logger = logging.getLogger("derwin_db")
_NOT_ENTERED = "This unit of work is not open: use it inside its `async with` block."
_BEGIN_ATTEMPTS = 3


class Transaction(ABC):
    """One transaction on one connection, with what may happen to both. `derwin_db.session` says what it is for."""

    _expects_scope: bool
    _pool: Pool | None = None
    _connection: Any = None
    _watch: Watch | None = None

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
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

    def __del__(self) -> None:
        if self._connection is not None and self._pool is not None:
            self._pool.drop(self._connection)
            warnings.warn("a unit of work was never left: its connection is dropped", ResourceWarning, stacklevel=1)

    @property
    def outcome(self) -> Outcome:
        """How the unit ended; "rolled back" for as long as it has not."""
        return self._outcome

    async def _driver(self, method: str, sql: str, *arguments: Any, by: Statement[Any] | None = None) -> Any:
        if self._is_busy:
            raise ConcurrentUse
        self._is_busy = True
        try:
            connection = self._connection or await self._begin()
            call = getattr(connection, method)(sql, *arguments, **self._options)
            return await (call if self._watch is None else self._watch.called(call, method, sql, by, arguments))
        except BaseException as error:
            self._fail(error)
        finally:
            self._is_busy = False

    async def _guarded(self, awaitable: Awaitable[Any], by: Statement[Any] | None = None) -> Any:
        """Await something of the driver under the same rules as `_driver`. What belongs to a statement is observed."""
        if self._is_busy or self._is_closed:
            if inspect.iscoroutine(awaitable):
                awaitable.close()
            raise ScopeError(_NOT_ENTERED) if self._is_closed else ConcurrentUse
        self._is_busy = True
        try:
            return await (awaitable if self._watch is None or by is None else self._watch.over(awaitable, by.name, by))
        except BaseException as error:
            self._fail(error)
        finally:
            self._is_busy = False

    def _fail(self, error: BaseException) -> NoReturn:
        """Let nothing further run in this unit, and raise what came out of the driver."""
        self._has_failed = True
        self._is_lost = self._is_lost or breaks_connections(error)
        raise_translated(error)

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

    @abstractmethod
    async def _open(self, connection: Any, opening: Preamble) -> None:
        """Open the transaction, for whom this kind of session is."""

    @abstractmethod
    async def _choose_pool(self) -> Opened:
        """Return the pool of the login that this kind of session takes."""

    async def _begin(self) -> Any:
        """Take a connection and open the transaction, on another server where one may stand in: nothing ran yet."""
        pool, opening = await self._choose_pool()
        try:
            return await self._begin_on(pool, opening)
        except Exception as error:
            other = await self._backend.stand_in(pool, error)
            if other is None or self._is_closed:
                raise
        return await self._begin_on(*other)

    async def _begin_on(self, pool: Pool, opening: Preamble) -> Any:
        """Do it on connections of this pool. One that turns out dead is replaced."""
        for attempt in range(_BEGIN_ATTEMPTS):
            connection = await pool.acquire()
            try:
                opened = self._open(connection, opening)
                await (opened if self._watch is None else self._watch.opening(opened, "BEGIN", pool.server))
            except BaseException as error:
                if breaks_connections(error):
                    pool.drop_all_like(connection)
                    raise
                await self._in_background(give_back(pool, connection, self._backend.cleanup_timeout))
                is_dead = isinstance(translate(error), DatabaseUnavailable)
                if is_dead and attempt + 1 < _BEGIN_ATTEMPTS:
                    pool.forget_idle()
                    continue
                raise
            if self._is_closed:  # another task ended the unit meanwhile
                await self._in_background(give_back(pool, connection, self._backend.cleanup_timeout))
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
        await call_all(self._callbacks)

    def _check_may_commit(self) -> None:
        if self._is_busy:
            raise ConcurrentUse
        if self._has_failed:
            raise ScopeError(UNIT_FAILED)
        if self._connection is not None and self._connection.is_closed():
            raise DatabaseUnavailable("The connection was lost before the commit. Run the unit of work again (`db.run` does).")

    async def _flush(self, sql: "AsyncSession") -> None:
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
            sent = connection.execute(f"{clean}COMMIT")
            tag = await (sent if self._watch is None else self._watch.over(sent, "COMMIT"))
        except Exception as error:
            translated = translate_any(error)
            is_lost = isinstance(translated, DatabaseUnavailable | DatabaseTimeout)
            if is_lost and (translated.sqlstate is None or connection.is_closed()):
                self._is_lost = True
                raise OutcomeUnknown from None
            self._outcome = "rolled back"
            raise_translated(error)
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
            await call_all(self._callbacks)

    async def _end_sql(self) -> None:
        """Take the connection from the SQLAlchemy session, so that nobody who kept it holds it too."""
        if self._sql is not None and not await ended(self._sql):
            self._backend.in_background(ended_later(self._sql, self._backend.cleanup_timeout))

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
        return give_back(pool, connection, self._backend.cleanup_timeout, sql=f"ROLLBACK{clean}", is_dirty=self._is_dirty)

    @property
    def _is_dirty(self) -> bool:
        """Whether a caller's SQL can have left something on the connection."""
        return self._sql is not None

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
