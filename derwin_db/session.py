"""Units of work: the sessions of a project and of the admin door, and how statements of repositories run in them.

A unit commits at the end of its block and rolls back on any exception, cancellation included.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, final
from uuid import UUID

from derwin_db.connection.driver import PooledConnection
from derwin_db.connection.pool import DataSource
from derwin_db.connection.replica import wait_for
from derwin_db.errors import ConfigurationError, DatabaseUnavailable, DerwinError, ScopeError, SqlState
from derwin_db.fields.scalars import NIL, SHORT_TEXT_LENGTH, is_slug, project_id_of
from derwin_db.isolation.preamble import Preamble, TransactionMode
from derwin_db.observe.events import Watch
from derwin_db.observe.text import one_line
from derwin_db.query.statement import Statement
from derwin_db.translation.driver_errors import is_of_the_driver, raise_translated, sqlstate_of, translate_any
from derwin_db.translation.sqlstates import EXACT
from derwin_db.unit.alone import Reader
from derwin_db.unit.backend import Backend, Route
from derwin_db.unit.transaction import TAKES_NO_WRITES, Savepoint, State, Transaction

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

R = TypeVar("R")
admin_log: logging.Logger = logging.getLogger("derwin_db.admin")
_STREAM_ROWS = 500
_READ_ONLY = "25006"
_NAMES_NO_PROJECT = "A project is named by its slug or its id (a UUID that is not nil)."
_STANDBY = "This server takes no writes now: it is a standby. After a fail-over, DATABASE_URL has to lead to the new primary."


class UnitOfWork(Transaction):
    """What both kinds of session share. Made by `Database`, used once, by one task at a time."""

    _is_observed = True
    """Not where there is no project, and no use of the admin door, for which observers would take it."""

    async def __aenter__(self) -> Self:
        if self._state is not State.NEW:
            raise ScopeError("A unit of work is used once: open another one.")
        self._state = State.OPEN
        if self._backend.observers and self._is_observed:
            self._watch = Watch(self._backend.observers, self._project)
        return self

    @property
    def _project(self) -> UUID | None:
        return None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._leave(error)
        except BaseException as raised:
            error = raised
            raise
        finally:
            if self._watch is not None:
                self._watch.left(self._outcome, error)

    async def _leave(self, error: BaseException | None) -> None:
        if error is None:
            await self._commit()
            return
        if isinstance(error, GeneratorExit):
            await self._leave_at_once()
            return
        try:
            if is_of_the_driver(error):
                self._blame_limit(error)
                raise_translated(error)
        finally:
            await self._abandon()

    def savepoint(self) -> Savepoint:
        """Return a block. When it raises, its statements alone are undone, and the unit can go on.

        Cost:
            Two round trips, beside those of its statements.
        """
        return Savepoint(self._begin_savepoint, self._end_savepoint)

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call `callback` after the commit, and only if it succeeded. A coroutine function is awaited.

        One that is handed in within a `savepoint()` goes with it where that is undone. All others are called; the block then
        raises the first error of one, although the unit is committed.
        """
        self._check_usable()
        self._callbacks.append(callback)

    @property
    def sql(self) -> "AsyncSession":
        """A SQLAlchemy session on the same connection and transaction, scoped by the database.

        It is for what no repository does. It is flushed before the commit; commit, rollback and begin are refused. JSON that
        raw SQL selects without a type comes as text.
        """
        self._check_usable()
        if self._sql is None:
            self._sql = self._backend.sessions.session(self._lend)
        return self._sql

    async def fetch(self, statement: Statement[R], values: Mapping[str, Any]) -> list[R]:
        """Run the statement and return its rows. Repositories' way in; errors are translated."""
        records = await self._read_alone(statement, values) if self._may_read_alone(statement) else None
        if records is None:
            records = await self._driver("fetch", statement.sql, *self._arguments(statement, values), by=statement)
        try:
            return statement.rows(records)
        except (ValueError, LookupError):
            raise _unreadable(statement) from None

    def _may_read_alone(self, _statement: Statement[Any]) -> bool:
        """Tell whether the statement needs no transaction."""
        return False

    async def _read_alone(self, _statement: Statement[Any], _values: Mapping[str, Any]) -> Sequence[Any] | None:
        """Return the records of a statement that runs without a transaction; None where it has to run in one."""
        raise AssertionError("unreachable: no statement may")

    async def execute(self, statement: Statement[None], values: Mapping[str, Any]) -> int:
        """Run the statement and return how many rows it touched."""
        tag = await self._driver("execute", statement.sql, *self._arguments(statement, values), by=statement)
        return int(tag.rpartition(" ")[2])

    async def execute_many(self, statement: Statement[None], rows: list[Mapping[str, Any]]) -> None:
        """Run the statement once for each row of values, in one batch."""
        await self._driver("executemany", statement.sql, [self._arguments(statement, row) for row in rows], by=statement)

    async def set_for_unit(self, settings: str) -> None:
        """Send `SET LOCAL` commands: they end with the transaction."""
        self._check_usable()
        await self._driver("execute", settings)

    async def wait_for_locks(self, seconds: float) -> None:
        """Let this unit wait for locks for so long, where DERWIN_LOCK_TIMEOUT says otherwise."""
        await self.set_for_unit(f"SET LOCAL lock_timeout = '{round(seconds * 1000)}ms'")

    async def allow_long_statements(self) -> None:
        """Give this unit and its statements the time of the setting delete_timeout. A clock that runs is stopped first."""
        seconds = self._backend.delete_timeout
        self._options = {"timeout": seconds}
        names = (await self._choose()).preamble.timeout_names
        await self.set_for_unit(
            "; ".join(f"SET LOCAL {name} = 0; SET LOCAL {name} = '{round(seconds * 1000)}ms'" for name in names)
        )

    async def stream(self, statement: Statement[R], values: Mapping[str, Any]) -> AsyncIterator[R]:
        """Yield the rows through a cursor on the server: constant memory. Other statements may run in between."""
        arguments = self._arguments(statement, values)
        connection = await self._connected()
        cursor = await self._guarded(connection.cursor(statement.sql, *arguments), statement)
        while records := await self._guarded(self._next(cursor), statement):
            try:
                rows = statement.rows(records)
            except (ValueError, LookupError):
                raise _unreadable(statement) from None
            for row in rows:
                yield row

    async def _next(self, cursor: Any) -> Any:
        return await cursor.fetch(_STREAM_ROWS)

    def _arguments(self, statement: Statement[Any], values: Mapping[str, Any], *, is_alone: bool = False) -> list[Any]:
        self._check_takes(statement)
        try:
            return (statement.alone if is_alone else statement).arguments(values)
        except KeyError:
            raise  # a parameter that the repository forgot
        except Exception as error:
            raise translate_any(error) from None

    def _check_takes(self, statement: Statement[Any]) -> None:
        """Let a statement run that belongs to this kind of session."""
        self._check_usable()
        if statement.is_scoped is not self._expects_scope:
            raise ScopeError("This operation belongs to the other kind of session: `db.project(...)` or `db.admin(...)`.")

    def __reduce__(self) -> NoReturn:
        raise ScopeError("A unit of work can't be copied or pickled.")

    def __deepcopy__(self, _memo: object) -> NoReturn:
        raise ScopeError("A unit of work can't be copied or pickled.")


@final
class ProjectSession(UnitOfWork):
    """A unit of work of one project, which never changes. What it writes is one transaction."""

    _expects_scope = True
    _is_held_to_reading = False

    def __init__(
        self,
        backend: Backend,
        route: Route,
        project_id: UUID,
        begin: TransactionMode = TransactionMode.READ_WRITE,
        after: str | None = None,
    ) -> None:
        super().__init__(backend, route)
        self.__project_id = project_id
        self.__begin = begin
        self.__after = after

    @property
    def project_id(self) -> UUID:
        """The project of this unit of work."""
        return self.__project_id

    @property
    def _project(self) -> UUID:
        return self.__project_id

    @property
    def is_read_only(self) -> bool:
        """Whether writes are refused."""
        return self.__begin is not TransactionMode.READ_WRITE

    async def hold_to_reading(self, *, is_read_only: bool) -> None:
        """Refuse writes to the end of the innermost savepoint, or take them again where an earlier one refused them."""
        self._is_held_to_reading = is_read_only  # then a refusal is not that of a server that takes no writes
        if is_read_only:
            await self.set_for_unit("SET LOCAL transaction_read_only = on")

    async def _open(self, connection: PooledConnection, preamble: Preamble) -> None:
        if self.__after is not None and self.is_read_only:
            await wait_for(connection, self.__after, self._backend.read_wait, is_kept=preamble.finds_prepared)
        await preamble.for_project(connection, self.__project_id, self.__begin)

    def _fail(self, error: BaseException) -> NoReturn:
        is_held = (
            self.is_read_only or self._is_held_to_reading or self._sql is not None
        )  # SQL of a caller may have asked for it
        state = sqlstate_of(error)
        if (state == _READ_ONLY or (state == TAKES_NO_WRITES and self._connection is None)) and not is_held:
            self._move(State.LOST)  # these connections lead to a server that was a primary once
            raise DatabaseUnavailable(_STANDBY) from None
        super()._fail(error)

    def _arguments(self, statement: Statement[Any], values: Mapping[str, Any], *, is_alone: bool = False) -> list[Any]:
        return super()._arguments(statement, {**values, "project_id": self.__project_id}, is_alone=is_alone)

    def _check_takes(self, statement: Statement[Any]) -> None:
        super()._check_takes(statement)
        if self.is_read_only and not statement.reads:
            raise ScopeError(EXACT[_READ_ONLY].sentence())

    async def _read_alone(self, statement: Statement[Any], values: Mapping[str, Any]) -> Sequence[Any] | None:
        arguments = self._arguments(statement, values, is_alone=True)
        reader = Reader(self._backend, self.__project_id, self._watch)
        return await self._run_alone(lambda source: reader.read(source, statement, arguments))

    def _may_read_alone(self, statement: Statement[Any]) -> bool:
        """Tell whether the statement needs no transaction: it only reads, and nothing of this unit is to be seen by it yet."""
        return (
            statement.reads
            and self._connection is None
            and self._sql is None
            and self.__begin is not TransactionMode.SNAPSHOT
            and (self.__after is None or not self.is_read_only)
        )


@final
class AdminSession(UnitOfWork):
    """A unit of work of the admin door, one transaction: for operations on projects, and the few others that say so."""

    _expects_scope = False

    def __init__(self, backend: Backend, route: Route, reason: str) -> None:
        super().__init__(backend, route)
        self.__reason = reason
        self._login: str | None = None
        self._operations: list[str] = []

    @property
    def reason(self) -> str:
        """Why the door was opened."""
        return self.__reason

    def forget_project(self, project_id: UUID) -> None:
        """Have units of the project look again whether it is there, once this one has committed."""
        self.after_commit(lambda: self._backend.forget_project(project_id))

    def note(self, operation: str) -> None:
        """Remember what was done, for the log."""
        self._operations.append(operation)

    async def _choose(self) -> DataSource:
        source = await super()._choose()
        self._login = source.pool.server.login
        return source

    async def _open(self, connection: PooledConnection, preamble: Preamble) -> None:
        await preamble.for_admin(connection)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, traceback)
        finally:
            _log_use(self.__reason, self._outcome, self._login, self._operations)


@final
class ImportSession(UnitOfWork):
    """One transaction of the owner's login that makes a project with all its rows. Made by `Database.importing`.

    It begins as the admin door, which may add a project, and goes on as a session of that project: each step under the policies
    of its role. Until its commit nobody else sees anything of it. Leaves one record of the admin door.
    """

    _expects_scope = False

    def __init__(self, backend: Backend, route: Route, project_id: UUID, reason: str) -> None:
        super().__init__(backend, route)
        self.__project_id = project_id
        self.__reason = reason
        self.__preamble: Preamble | None = None
        self._login: str | None = None

    @property
    def _project(self) -> UUID:
        return self.__project_id

    async def _choose(self) -> DataSource:
        source = await super()._choose()
        self._login = source.pool.server.login
        return source

    async def _open(self, connection: PooledConnection, preamble: Preamble) -> None:
        self.__preamble = preamble
        await preamble.for_import(connection)

    async def enter_project(self) -> None:
        """Go on as a session of the project, which this transaction has made."""
        connection = await self._connected()
        assert self.__preamble is not None
        await self._guarded(self.__preamble.enter_project(connection, self.__project_id))
        self._expects_scope = True

    async def leave_project(self) -> None:
        """Go on as the admin door again."""
        connection = await self._connected()
        assert self.__preamble is not None
        await self._guarded(self.__preamble.leave_project(connection))
        self._expects_scope = False

    def _arguments(self, statement: Statement[Any], values: Mapping[str, Any], *, is_alone: bool = False) -> list[Any]:
        scoped = {**values, "project_id": self.__project_id} if self._expects_scope else values
        return super()._arguments(statement, scoped, is_alone=is_alone)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, traceback)
        finally:
            _log_use(self.__reason, self._outcome, self._login, ["import"])


def _log_use(reason: str, outcome: str, login: str | None, operations: Sequence[str]) -> None:
    """Leave the one record of a use of the admin door. Whatever a reason or a login holds, it is one line."""
    admin_log.info(
        "admin door: %s (%s, as %s): %s",
        one_line(reason),
        outcome,
        one_line(login or "nobody"),
        ", ".join(operations) or "nothing done",
        extra={"reason": reason, "outcome": outcome, "login": login, "operations": tuple(operations)},
    )


@final
class ProbeSession(UnitOfWork):
    """One transaction without a project, which only reads: under the policies it sees no row of any. For health checks."""

    _expects_scope = False
    _is_observed = False

    async def _open(self, connection: PooledConnection, preamble: Preamble) -> None:
        await preamble.for_nobody(connection)


@final
class QueueSession(UnitOfWork):
    """One transaction without a project, which is told which projects have something to do: their ids, and nothing else.

    What it asks takes a token of the seal's key, which is made here and travels as a parameter. For workers.
    """

    _expects_scope = False
    _is_observed = False
    __token = ""

    async def _open(self, connection: PooledConnection, preamble: Preamble) -> None:
        if preamble.seal is None:
            raise ConfigurationError("Where the scope is plain the queue is asked through the admin door.")
        self.__token = preamble.token_to_ask(connection)
        await preamble.for_nobody(connection)

    async def ask(self, statement: Statement[UUID], values: Mapping[str, Any]) -> list[UUID]:
        """Run one of the statements that take a token, and return the ids."""
        await self._connected()
        return await self.fetch(statement, {**values, "token": self.__token})

    def _fail(self, error: BaseException) -> NoReturn:
        if sqlstate_of(error) == SqlState.SCOPE_ENDED:
            self._move(State.LOST)  # the server's clock was set: what was seen of it is wrong
        super()._fail(error)


def _unreadable(statement: Statement[Any]) -> DerwinError:
    return DerwinError(
        f"{statement.name}: a stored value does not have the shape of its column; it was not written by this package."
    )


def project_session(session: object) -> ProjectSession:
    """Return the session if it is one of a project.

    Errors:
        ScopeError before any SQL.
    """
    if type(session) is not ProjectSession:
        raise ScopeError("This operation takes the session of `async with db.project(...) as session`.")
    return session


def admin_session(session: object) -> AdminSession:
    """Return the session if it is one of the admin door.

    Errors:
        ScopeError before any SQL.
    """
    if type(session) is not AdminSession:
        raise ScopeError("This operation takes the session of `async with db.admin(reason=...) as session`.")
    return session


def parse_project(project: object) -> UUID:
    """Return the id that a slug or id names.

    Errors:
        ScopeError, before any SQL.
    """
    if isinstance(project, UUID) and project != NIL:
        return project if type(project) is UUID else UUID(int=project.int)  # asyncpg has a subclass of its own
    if isinstance(project, str):
        return _parse_text(str.__str__(project))  # of a subclass, which may hash and compare as it likes, the text
    raise ScopeError(_NAMES_NO_PROJECT)


@lru_cache(maxsize=4096)
def _parse_text(project: str) -> UUID:
    """Return the id that a slug or the text of an id names. What names none is not kept."""
    if is_slug(project):
        return project_id_of(project)
    try:
        parsed = UUID(project)
    except ValueError:
        parsed = NIL
    if parsed == NIL or str(parsed) != project.lower():
        raise ScopeError(_NAMES_NO_PROJECT)
    return parsed


def check_reason(reason: object) -> str:
    """Return the reason for the admin door.

    Errors:
        ScopeError unless it is one line of text, of 1 to 500 characters.
    """
    if isinstance(reason, str) and reason.strip() and len(reason) <= SHORT_TEXT_LENGTH and reason.isprintable():
        return reason
    raise ScopeError("The admin door wants a reason: one line of 1 to 500 characters, db.admin(reason='...').")
