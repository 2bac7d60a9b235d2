"""`session.sql`: a SQLAlchemy AsyncSession on the connection and in the transaction of a unit of work.

It can do all that SQLAlchemy can, but end the transaction or close the connection: these belong to the unit of work.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, NoReturn

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.url import make_url
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.pool import NullPool

from derwin_db.errors import ScopeError
from derwin_db.observe.events import Watch, caller_name
from derwin_db.query.statement import Dialect
from derwin_db.unit.naive import ZonedStatement, check_zones, holds_naive, zoned_parameters
from derwin_db.unit.orm import JsonWatch, amend, is_ours, stamp

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

_URL = make_url("postgresql+asyncpg://")
_REFUSED = (
    "The unit of work ends its own transaction: leave the `async with db.project(...)` block to commit, raise to roll back."
)


_LENT = frozenset(
    {"execute", "executemany", "fetch", "fetchmany", "fetchrow", "fetchval", "prepare", "cursor", "transaction"}
    | {"copy_from_query", "copy_from_table", "copy_records_to_table", "copy_to_table"}
    | {"get_server_pid", "get_server_version", "get_settings", "is_in_transaction", "is_closed", "reload_schema_state"}
)
"""What of the driver's connection ends with the unit. Listeners, loggers and codecs would stay, and see other units."""


class Borrowed:
    """The driver's connection, without the power to close it or to leave something on it, while its unit of work is open.

    Whoever keeps hold of it afterwards gets a ScopeError: the connection belongs to another unit by then.
    """

    def __init__(
        self, connection: Any, check_open: Callable[[], None], note: Callable[[], None], watch: Watch | None = None
    ) -> None:
        self._connection = connection
        self._check_open = check_open
        self._note = note
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        self._check_open()
        if name not in _LENT:
            raise ScopeError(f"{name[:64]} of the driver's connection is not lent: it would outlive the unit of work.")
        method = getattr(self._connection, name)
        observed = method if self._watch is None else _observed(method, name, self._watch)
        return self._while_open(observed, name, is_coroutine=inspect.iscoroutinefunction(method))

    async def _refuse_naive(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Refuse a time without an offset, where the server says that the parameter has one."""
        zoned = zoned_parameters(await self._connection.prepare(arguments[0]))
        for row in arguments[1] if name in _MANY else [arguments[1:]]:
            check_zones(row, zoned)

    def _zoned(self, prepared: Any) -> Any:
        zoned = zoned_parameters(prepared)
        return ZonedStatement(prepared, zoned) if zoned else prepared

    def _while_open(self, method: Any, name: str, *, is_coroutine: bool) -> Any:
        """Return the method, which somebody may keep: it looks again when it runs, a coroutine at its first step."""

        async def run(*arguments: Any, **options: Any) -> Any:
            self._check_open()
            if not self._connection.is_closed():
                self._note()
            try:
                if name in _TAKES_ARGUMENTS and holds_naive(arguments[1:]):
                    await self._refuse_naive(name, arguments)
                result = await method(*arguments, **options)
                return self._zoned(result) if name == "prepare" else result
            finally:
                self._note()

        def call(*arguments: Any, **options: Any) -> Any:
            self._check_open()
            return method(*arguments, **options)

        return run if is_coroutine else call

    def is_closed(self) -> bool:
        """Tell whether the connection is gone. SQLAlchemy asks this after errors too."""
        closed: bool = self._connection.is_closed()
        return closed

    async def close(self, **_: Any) -> None:
        """Leave it open: the unit of work gives it back."""

    def terminate(self) -> None:
        """Leave it open: the unit of work drops it if it has to."""


_MANY = frozenset({"executemany", "fetchmany"})
_TAKES_ARGUMENTS = frozenset({"execute", "fetch", "fetchrow", "fetchval"}) | _MANY
_RUNS = frozenset({"execute", "executemany", "fetch", "fetchmany", "fetchrow", "fetchval"})


class _Observed:
    """What the driver prepared, or its cursor: each of its calls is observed."""

    def __init__(self, inner: Any, name: str, watch: Watch) -> None:
        self._inner = inner
        self._name = name
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if name in _RUNS:
            return lambda *arguments, **options: self._watch.over(attribute(*arguments, **options), self._name)
        if name == "cursor":
            return lambda *arguments, **options: _ObservedCursor(attribute(*arguments, **options), self._name, self._watch)
        return attribute


class _ObservedCursor(_Observed):
    """A cursor that is opened when it is awaited. Iterated over, it is the driver's own."""

    def __await__(self) -> Generator[Any, Any, _Observed]:
        return self._opened().__await__()

    async def _opened(self) -> _Observed:
        return _Observed(await self._watch.over(self._inner, self._name), self._name, self._watch)

    def __aiter__(self) -> AsyncIterator[Any]:
        rows: AsyncIterator[Any] = aiter(self._inner)
        return rows


def _observed(attribute: Any, name: str, watch: Watch) -> Any:
    """Return a method of the driver's connection that is observed, where it runs a statement."""
    if name in _RUNS:
        return lambda sql, *arguments, **options: watch.over(attribute(sql, *arguments, **options), caller_name(sql))
    if name.startswith("copy_"):
        return lambda *arguments, **options: watch.over(attribute(*arguments, **options), caller_name("COPY"))
    if name == "cursor":
        return lambda sql, *arguments, **options: _ObservedCursor(
            attribute(sql, *arguments, **options), caller_name(sql), watch
        )
    if name != "prepare":
        return attribute

    async def prepare(sql: str, **options: Any) -> _Observed:
        return _Observed(await watch.over(attribute(sql, **options), caller_name("PREPARE")), caller_name(sql), watch)

    return prepare


class UnitSession(Session):
    """The session inside `session.sql`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.json: JsonWatch = JsonWatch()

    def flush(self, objects: Any = None) -> None:
        self.json.changed()
        stamp(self)
        super().flush(objects)

    def commit(self) -> NoReturn:
        raise ScopeError(_REFUSED)

    def rollback(self) -> NoReturn:
        raise ScopeError(_REFUSED)

    def begin(self, nested: bool = False) -> Any:
        if not nested:
            raise ScopeError(_REFUSED)
        return super().begin(nested=True)

    def prepare(self) -> NoReturn:
        raise ScopeError(_REFUSED)

    def end(self) -> None:
        """Let go of the connection. The transaction goes on."""
        super().close()

    def undone(self) -> None:
        """Forget what was read: a savepoint was rolled back. After a failed flush, forget the objects too."""
        if self.is_active:
            self.expire_all()
        else:
            self.end()

    def merge(self, instance: Any, **options: Any) -> Any:
        """Merge a row; columns that it was read without (`with_embedding=False`) are left as they are stored."""
        absent = sa.inspect(instance).info.get("absent", ())
        kept = {name: instance.__dict__.pop(name) for name in absent if instance.__dict__.get(name, ...) is None}
        try:
            return super().merge(instance, **options)
        finally:
            instance.__dict__.update(kept)


@event.listens_for(UnitSession, "do_orm_execute")
def _amend(state: ORMExecuteState) -> None:
    amend(state)


@event.listens_for(UnitSession, "loaded_as_persistent")
@event.listens_for(UnitSession, "detached_to_persistent")
@event.listens_for(UnitSession, "pending_to_persistent")
def _take(session: UnitSession, row: Any) -> None:
    session.json.take(row) if is_ours(row) else None


@event.listens_for(UnitSession, "after_flush_postexec")
def _take_flushed(session: UnitSession, context: Any) -> None:
    for state in context.states:
        row = state.obj()
        if row is not None and is_ours(row):
            session.json.take(row)


class SessionFactory:
    """Makes the sessions of one `Database`. The dialect looks at the server once."""

    def __init__(self) -> None:
        dialect: Any = Dialect  # SQLAlchemy does not type its dialects
        self._dialect: Any = dialect(dbapi=dialect.import_dbapi())
        self._is_initialized = False

    def session(
        self,
        connection: Callable[[], Awaitable[Any]],
        check_open: Callable[[], None],
        note: Callable[[], None],
        watch: Watch | None = None,
    ) -> "AsyncSession":
        """Return a session that asks for its connection at the first statement, and checks at each that it may go on.

        `note` is called when something of it begins and ends.
        """
        from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

        async def borrow(*_: Any, **__: Any) -> Borrowed:
            return Borrowed(await connection(), check_open, note, watch)

        def connect(*_: Any) -> Any:
            adapted = self._dialect.connect(async_creator_fn=borrow)
            adapted.set_isolation_level("autocommit")
            return adapted

        engine = Engine(NullPool(connect, dialect=self._dialect), self._dialect, _URL)
        event.listen(engine, "engine_connect", self._initialize)
        return AsyncSession(AsyncEngine(engine), sync_session_class=UnitSession, expire_on_commit=False)

    def _initialize(self, connection: sa.Connection) -> None:
        """Let the dialect look at the server. Cut short, the next connection does it: a dialect that saw half is of no use."""
        if self._is_initialized:
            return
        try:
            self._dialect.initialize(connection)
        except BaseException:
            connection.close()  # nobody has it yet, so nobody else would
            raise
        self._is_initialized = True
