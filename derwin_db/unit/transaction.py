"""Transactions and their savepoints: the only begin, commit and rollback.

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
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from derwin_db.connection.driver import PooledConnection, serving_process
from derwin_db.connection.pool import DataSource, Pool
from derwin_db.errors import (
    UNIT_FAILED,
    ConcurrentUse,
    DatabaseTimeout,
    DatabaseUnavailable,
    OutcomeUnknown,
    ScopeError,
    SqlState,
)
from derwin_db.isolation.preamble import Preamble
from derwin_db.observe.events import Watch
from derwin_db.query.statement import Statement
from derwin_db.translation.driver_errors import (
    breaks_connections,
    is_connection_lost,
    is_of_the_driver,
    raise_translated,
    sqlstate_of,
    translate,
    translate_any,
)
from derwin_db.unit.activity import Activity
from derwin_db.unit.alone import NeedsTransaction
from derwin_db.unit.backend import Backend, KeyAttempts, Outcome, Route, aborted, call_all, ended, ended_later, give_back
from derwin_db.unit.lent import Borrowed, Lender
from derwin_db.unit.resumable import Resumable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("derwin_db")
_NOT_ENTERED = "This unit of work is not open: use it inside its `async with` block."
_TAKEN = (
    "SQL in this unit of work ended its transaction, so nobody can tell what of it was stored, and nothing further runs in it."
)
_BEGIN_ATTEMPTS = 3
TAKES_NO_WRITES = "0A000"
"""What a standby answers to BEGIN READ WRITE."""


class State(StrEnum):
    """Where a unit of work stands. `_MOVES` says what may follow."""

    NEW = "not entered"
    OPEN = "may run a statement"
    RUNNING = "a statement is on its way"
    FAILED = "a statement failed: nothing runs but the way back to a savepoint"
    LOST = "its connection, and those like it, are not to be used again"
    TAKEN = "SQL of a caller ended its transaction"
    ENDED = "left, or being left"


_MOVES = {
    State.NEW: {State.OPEN},
    State.OPEN: {State.RUNNING, State.FAILED, State.LOST, State.TAKEN, State.ENDED},
    State.RUNNING: {State.OPEN, State.FAILED, State.LOST, State.TAKEN, State.ENDED},
    State.FAILED: {State.RUNNING, State.LOST, State.TAKEN, State.ENDED},
    State.LOST: {State.ENDED},
    State.TAKEN: {State.ENDED},
    State.ENDED: set[State](),
}


class Transaction(ABC):
    """One transaction on one connection, with what may happen to both. `derwin_db.session` says what it is for."""

    _expects_scope: bool
    _pool: Pool | None = None
    _connection: PooledConnection | None = None
    _source: DataSource | None = None
    _aborting: "asyncio.Task[None] | None" = None
    _watch: Watch | None = None

    def __init__(self, backend: Backend, route: Route) -> None:
        self._backend = backend
        self._route = route
        self._state = State.NEW
        self._activity = Activity()
        self._sql: AsyncSession | None = None
        self._callbacks: list[Callable[[], object]] = []
        self._outcome: Outcome = "rolled back"
        self._savepoints: dict[str, int] = {}
        self._options: dict[str, Any] = {}

    def __del__(self) -> None:
        if self._connection is not None and self._pool is not None:
            self._pool.drop(self._connection)
            warnings.warn("a unit of work was never left: its connection is dropped", ResourceWarning, stacklevel=1)

    @property
    def outcome(self) -> Outcome:
        """How the unit ended; "rolled back" for as long as it has not."""
        return self._outcome

    async def _driver(self, method: str, sql: str, *arguments: Any, by: Statement[Any] | None = None) -> Any:
        self._start()
        try:
            connection = self._connection or await self._begin()
            self._activity.statement_begins()
            call = getattr(connection, method)(sql, *arguments, **self._options)
            return await (call if self._watch is None else self._watch.called(call, method, sql, by, arguments))
        except BaseException as error:
            self._fail(error)
        finally:
            self._finish()
            self._activity.statement_ended()

    async def _guarded(self, awaitable: Awaitable[Any], by: Statement[Any] | None = None) -> Any:
        """Await something of the driver under the same rules as `_driver`. What belongs to a statement is observed."""
        try:
            self._start()
        except ScopeError:
            if inspect.iscoroutine(awaitable):
                awaitable.close()
            raise
        try:
            return await (awaitable if self._watch is None or by is None else self._watch.over(awaitable, by.name, by))
        except BaseException as error:
            self._fail(error)
        finally:
            self._finish()
            self._activity.statement_ended()

    def _start(self) -> None:
        """Let one statement run, and no second one beside it."""
        if self._state is State.RUNNING:
            raise ConcurrentUse
        if State.RUNNING not in _MOVES[self._state]:
            self._check_usable()
        self._state = State.RUNNING

    def _finish(self) -> None:
        """Let the next statement run, unless this one failed or the unit was left meanwhile."""
        if self._state is State.RUNNING:
            self._state = State.OPEN

    def _move(self, to: State) -> None:
        """Go on to this state, if it may follow; a unit that was left stays so."""
        if to in _MOVES[self._state]:
            self._state = to

    def _fail(self, error: BaseException) -> NoReturn:
        """Let nothing further run in this unit, and raise what came out of the driver."""
        self._move(State.LOST if breaks_connections(error) else State.FAILED)
        self._blame_limit(error)
        raise_translated(error)

    def _blame_limit(self, error: BaseException | None) -> None:
        """Raise what explains that the connection is gone, where it is one of the server's limits and nothing else is known.

        Errors:
            DatabaseUnavailable (idle for too long), DatabaseTimeout (the whole unit took too long).
        """
        if self._connection is None or not self._connection.is_closed():
            return
        known = translate(error) if error is not None else None
        if error is not None and (known is None or known.sqlstate not in (None, "08003", "08006")):
            return
        reason = self._activity.reason(**self._backend.session_limits())
        if reason is not None:
            raise reason from None

    async def _connected(self) -> PooledConnection:
        self._check_usable()
        if self._connection is None:
            await self._guarded(self._begin())
        assert self._connection is not None
        return self._connection

    async def _lend(self) -> Borrowed:
        """Lend the connection to SQLAlchemy, and to callers behind it."""
        connection = await self._connected()
        if connection.process is None:
            connection.process = await self._guarded(serving_process(connection))
        return Borrowed(
            Lender(
                connection,
                self._check_lent,
                self._note_taken,
                self._abort_on_server,
                self._activity,
                is_pooled=self._source is not None and self._source.preamble.is_pooled,
                watch=self._watch,
            )
        )

    def _check_lent(self) -> None:
        """Let SQL of a caller run. SQLAlchemy goes back to its savepoints after errors, so an earlier one is no reason."""
        self._check_open()
        if self._state is State.TAKEN:
            raise ScopeError(_TAKEN)

    def _note_taken(self) -> None:
        """Note that SQL of a caller ended the transaction: what was done in it may be stored, or not."""
        if State.TAKEN in _MOVES[self._state]:
            self._state = State.TAKEN
            self._outcome = "outcome unknown"

    async def _abort_on_server(self) -> None:
        """Have the server refuse what comes next, as after an error, whatever became of the statement before."""
        connection = self._connection
        if connection is not None and not connection.is_closed():
            self._aborting = self._backend.in_background(self._abort(connection))
            await asyncio.shield(self._aborting)

    async def _abort(self, connection: PooledConnection) -> None:
        if not await aborted(connection, self._backend.cleanup_timeout):
            self._move(State.LOST)

    def _check_open(self) -> None:
        if self._state in (State.NEW, State.ENDED):
            raise ScopeError(_NOT_ENTERED)

    def _check_usable(self) -> None:
        if self._state is State.OPEN:
            return
        self._check_open()
        if self._state in (State.FAILED, State.LOST):
            raise ScopeError(UNIT_FAILED)
        if self._state is State.TAKEN:
            raise ScopeError(_TAKEN)

    @abstractmethod
    async def _open(self, connection: PooledConnection, preamble: Preamble) -> None:
        """Open the transaction, for whom this kind of session is."""

    async def _choose(self) -> DataSource:
        """Return where this unit takes its connections: always the same server, so that it never goes back in time."""
        return self._source or await self._route.choose()

    async def _run_alone(self, work: Callable[[DataSource], Awaitable[T]]) -> T | None:
        """Run what takes and gives back a connection by itself, under the rules of this unit. None: it needs a transaction."""
        self._start()
        try:
            source = await self._choose()
            if not source.preamble.allows_alone:
                return None
            try:
                result = await work(source)
            except Exception as error:
                other = self._stand_in(source, error)
                if other is None:
                    raise
                source = other
                result = await work(source)
            if self._state is State.ENDED:  # another task left the unit meanwhile
                raise ScopeError(_NOT_ENTERED)
            self._source = source
            return result
        except NeedsTransaction:
            return None
        except BaseException as error:
            self._fail(error)
        finally:
            self._finish()

    def _stand_in(self, source: DataSource, error: Exception) -> DataSource | None:
        """Return where work may run that failed on this server, unless the server has answered."""
        state = sqlstate_of(error)
        has_answered = isinstance(error, NeedsTransaction) or (
            state is not None and state != SqlState.FOREIGN_SEAL and not is_connection_lost(error)
        )
        other = None if has_answered else self._route.stand_in(source.pool, error)
        return None if self._state is State.ENDED else other

    async def _begin(self) -> PooledConnection:
        """Take a connection and open the transaction, on another server where one may stand in: nothing ran yet."""
        source = await self._choose()
        try:
            return await self._begin_on(source)
        except Exception as error:
            other = self._route.stand_in(source.pool, error)
            if other is None or self._state is State.ENDED:
                raise
        return await self._begin_on(other)

    async def _begin_on(self, source: DataSource) -> PooledConnection:
        """Do it on connections of this pool. One that turns out dead is replaced."""
        pool, preamble = source
        keys = KeyAttempts(preamble)
        attempt = 1
        while True:
            connection = await pool.acquire()
            keys.begin()
            try:
                opened = self._open(connection, preamble)
                await (opened if self._watch is None else self._watch.opening(opened, "BEGIN", pool.server))
            except BaseException as error:
                if breaks_connections(error):
                    pool.drop_all_like(connection)
                    raise
                await self._backend.outlive(give_back(pool, connection, self._backend.cleanup_timeout))
                if await keys.has_another(error):
                    continue
                if sqlstate_of(error) == TAKES_NO_WRITES:
                    pool.forget_idle()  # they lead to a server that was the primary: new ones find who is it now
                    if pool.has_other_hosts and attempt < _BEGIN_ATTEMPTS:
                        attempt += 1
                        continue
                    raise
                is_dead = isinstance(translate(error), DatabaseUnavailable)
                if not is_dead or attempt == _BEGIN_ATTEMPTS:
                    raise
                attempt += 1
                pool.forget_idle()  # the one that was just given back too: its clock may be wrong
                continue
            if self._state is State.ENDED:  # another task ended the unit meanwhile
                await self._backend.outlive(give_back(pool, connection, self._backend.cleanup_timeout))
                raise ScopeError(_NOT_ENTERED)
            self._pool, self._connection = pool, connection
            self._activity.begin()
            self._source = source
            return connection

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
        if self._connection is not None or self._sql is not None:
            await self._end_whatever_comes()
        else:  # nothing was begun
            self._move(State.ENDED)
            self._outcome = "committed"
        if self._callbacks:
            await call_all(self._callbacks)

    async def _end_whatever_comes(self) -> None:
        """Send COMMIT and see it through, also past a cancellation of this task."""
        ending = Resumable(self._end_well())
        try:
            await ending.run()
        except asyncio.CancelledError:
            await self._backend.outlive(self._commit_late(ending))
            raise
        except BaseException:
            await self._abandon(is_lost=self._outcome == "outcome unknown")
            raise

    def _check_may_commit(self) -> None:
        if self._state is State.RUNNING:
            raise ConcurrentUse
        self._check_usable()
        if self._connection is not None and self._connection.is_closed():
            self._blame_limit(None)
            raise DatabaseUnavailable("The connection was lost before the commit. Run the unit of work again (`db.run` does).")

    async def _flush(self, sql: "AsyncSession") -> None:
        try:
            await sql.flush()
        except BaseException as error:
            self._fail(error)

    async def _end_well(self) -> None:
        """Send COMMIT and give the connection back. No cancellation reaches this."""
        self._move(State.ENDED)
        if self._connection is not None:
            await self._send_commit(self._connection)
        self._outcome = "committed"
        pool, connection = self._let_go()
        await self._end_sql()
        if pool is not None and connection is not None:
            await pool.release(connection, is_dirty=self._is_dirty)

    async def _send_commit(self, connection: PooledConnection) -> None:
        self._outcome = "outcome unknown"
        try:
            sent = connection.execute("; ".join([*self._cleaning, "COMMIT"]))
            tag = await (sent if self._watch is None else self._watch.over(sent, "COMMIT"))
        except Exception as error:
            translated = translate_any(error)
            is_lost = isinstance(translated, DatabaseUnavailable | DatabaseTimeout)
            if is_lost and (connection.is_closed() or self._may_have_committed(translated.sqlstate)):
                raise OutcomeUnknown from None
            self._outcome = "rolled back"
            raise_translated(error)
        if tag != "COMMIT":
            self._outcome = "rolled back"
            raise ScopeError(UNIT_FAILED)

    def _may_have_committed(self, state: str | None) -> bool:
        """Tell whether an error of COMMIT says nothing of its outcome: a node of a distributed server may have stored it.

        Of a node that did not answer the coordinator says so in class 08, or as an internal error.
        """
        is_distributed = self._source is not None and self._source.preamble.is_distributed
        return state is None or state.startswith("08") or (is_distributed and state.startswith("XX"))

    async def _commit_late(self, ending: Resumable[None]) -> None:
        """See a commit through whose task was cancelled."""
        try:
            async with asyncio.timeout(self._backend.cleanup_timeout):
                await ending.run()
        except Exception:
            await self._abandon(is_lost=True)
            with contextlib.suppress(Exception):  # what it waited for is over now
                await ending.run()
            logger.warning("a unit of work was cancelled during its commit: %s", self._outcome)
        else:
            await call_all(self._callbacks)

    async def _end_sql(self) -> None:
        """Take the connection from the SQLAlchemy session, so that nobody who kept it holds it too."""
        if self._sql is not None and not await ended(self._sql):
            self._backend.in_background(ended_later(self._sql, self._backend.cleanup_timeout))

    async def _abandon(self, *, is_lost: bool = False) -> None:
        """Roll back and give the connection back, whatever happens to this task meanwhile."""
        is_lost = is_lost or self._state is State.LOST
        is_taken = self._state is State.TAKEN
        self._move(State.ENDED)
        pool, connection = self._let_go()
        await self._end_sql()
        if pool is None or connection is None:
            return
        if is_lost:
            pool.drop_all_like(connection)
            return
        if is_taken:
            pool.give_up(connection)
            return
        await self._backend.outlive(self._rollback(pool, connection))

    async def _rollback(self, pool: Pool, connection: PooledConnection) -> None:
        if self._aborting is not None:  # whoever was cancelled again did not wait for it
            await asyncio.wait({self._aborting})
        sql = "; ".join(["ROLLBACK", *self._cleaning])
        await give_back(pool, connection, self._backend.cleanup_timeout, sql=sql, is_dirty=self._is_dirty)

    @property
    def _cleaning(self) -> Sequence[str]:
        """What a caller's SQL makes necessary before a server connection behind a pooler is another client's."""
        preamble = None if self._sql is None or self._source is None else self._source.preamble
        return (preamble.clean,) if preamble is not None and preamble.is_pooled else ()

    @property
    def _is_dirty(self) -> bool:
        """Whether a caller's SQL can have left something on the connection."""
        return self._sql is not None

    async def _leave_at_once(self) -> None:
        """Abandon the unit without waiting: a generator that is being closed may not, and its loop may be gone."""
        self._move(State.ENDED)
        pool, connection = self._let_go()
        await self._end_sql()
        if pool is None or connection is None:
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pool.drop(connection)
        else:
            self._backend.in_background(self._rollback(pool, connection))

    def _let_go(self) -> tuple[Pool | None, PooledConnection | None]:
        pool, connection = self._pool, self._connection
        self._pool = self._connection = None
        return pool, connection

    # --- savepoints ---------------------------------------------------------------------------------------------------

    async def _begin_savepoint(self) -> str:
        """Set a savepoint and return its name."""
        self._check_usable()
        if self._sql is not None:
            await self._flush(self._sql)
        await self._connected()
        name = f"derwin_{len(self._savepoints) + 1}"
        self._savepoints[name] = len(self._callbacks)
        await self._driver("execute", f"SAVEPOINT {name}")
        return name

    async def _end_savepoint(self, name: str, error: BaseException | None) -> None:
        """Keep what was done since the savepoint where no error leaves its block; else undo it."""
        if error is None:
            await self._release_savepoint(name)
        elif isinstance(error, asyncio.CancelledError):
            with contextlib.suppress(Exception):  # a timeout around the block: the unit may go on without it
                async with asyncio.timeout(self._backend.cleanup_timeout):
                    await self._undo_savepoint(name)
        elif isinstance(error, Exception):
            await self._undo_savepoint(name)
            if is_of_the_driver(error):
                raise_translated(error)

    async def _release_savepoint(self, name: str) -> None:
        """Keep what was done, unless something of it failed unseen: then undo it and say so."""
        try:
            self._check_usable()
            if self._sql is not None:
                await self._flush(self._sql)
            await self._driver("execute", f"RELEASE SAVEPOINT {name}")
        except Exception:
            await self._undo_savepoint(name)
            raise

    async def _undo_savepoint(self, name: str) -> None:
        """Go back to the savepoint, and let statements run again. Nothing leads back from a connection that is lost."""
        del self._callbacks[self._savepoints[name] :]
        is_over = (
            self._state in (State.LOST, State.TAKEN, State.ENDED) or self._connection is None or self._connection.is_closed()
        )
        if is_over:
            return
        try:
            if self._sql is not None:
                await self._sql.run_sync(lambda session: session.undone())  # type: ignore[attr-defined]  # UnitSession
            await self._driver("execute", f"ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}")
        except BaseException:
            self._move(State.FAILED)  # as where another task is busy: what was not undone is not to be stored
            raise


class Savepoint:
    """`async with session.savepoint():` undoes its own statements when the block raises, and the unit goes on."""

    def __init__(
        self, begin: Callable[[], Awaitable[str]], end: Callable[[str, BaseException | None], Awaitable[None]]
    ) -> None:
        self._begin = begin
        self._end = end
        self._name = ""
        self._is_used = False

    async def __aenter__(self) -> None:
        if self._is_used:
            raise ScopeError("A savepoint is used once: ask the session for another one.")
        self._name = await self._begin()
        self._is_used = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._end(self._name, error)
