"""`session.sql`: a SQLAlchemy AsyncSession on the connection and in the transaction of a unit of work.

It can do all that SQLAlchemy can, but end the transaction or close the connection: these belong to the unit of work.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.url import make_url
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, object_session
from sqlalchemy.pool import NullPool

from derwin_db.errors import ScopeError
from derwin_db.fields.table import Table
from derwin_db.query.statement import Dialect
from derwin_db.unit.lent import ENDS_ITSELF, Borrowed
from derwin_db.unit.orm import JsonWatch, amend, is_ours, stamp

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

_URL = make_url("postgresql+asyncpg://")


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
        raise ScopeError(ENDS_ITSELF)

    def rollback(self) -> NoReturn:
        raise ScopeError(ENDS_ITSELF)

    def begin(self, nested: bool = False) -> Any:
        if not nested:
            raise ScopeError(ENDS_ITSELF)
        return super().begin(nested=True)

    def prepare(self) -> NoReturn:
        raise ScopeError(ENDS_ITSELF)

    def end(self) -> None:
        """Let go of the connection. The transaction goes on."""
        super().close()

    def undone(self) -> None:
        """Forget what was read: a savepoint was rolled back. After a failed flush, forget the objects too."""
        if self.is_active:
            self.json.undo(self)
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
@event.listens_for(UnitSession, "deleted_to_persistent")
def _take(session: UnitSession, row: Any) -> None:
    session.json.take(row) if is_ours(row) else None


@event.listens_for(UnitSession, "persistent_to_detached")
@event.listens_for(UnitSession, "persistent_to_deleted")
@event.listens_for(UnitSession, "persistent_to_transient")
def _forget(session: UnitSession, row: Any) -> None:
    session.json.forget(row)


@event.listens_for(UnitSession, "after_soft_rollback")
def _undo(session: UnitSession, _: SessionTransaction) -> None:
    session.json.undo(session)


@event.listens_for(Table, "refresh", propagate=True)
def _take_refreshed(row: Any, _context: object, names: Iterable[str] | None) -> None:
    _take_expired(row, names)


@event.listens_for(Table, "expire", propagate=True)
def _take_expired(row: Any | None, names: Iterable[str] | None) -> None:
    session = None if row is None else object_session(row)  # None: nobody but the session held it
    if isinstance(session, UnitSession) and is_ours(row):
        session.json.take(row, names)


@event.listens_for(UnitSession, "after_flush_postexec")
def _take_flushed(session: UnitSession, context: Any) -> None:
    for state in context.states:
        row = state.obj()
        if row is not None and is_ours(row) and state.persistent:
            session.json.take(row)


class SessionFactory:
    """Makes the sessions of one `Database`. The dialect looks at the server once."""

    def __init__(self) -> None:
        dialect: Any = Dialect  # SQLAlchemy does not type its dialects
        self._dialect: Any = dialect(dbapi=dialect.import_dbapi())
        self._is_initialized = False

    def session(self, lend: Callable[[], Awaitable[Borrowed]]) -> "AsyncSession":
        """Return a session that asks for its connection at the first statement, and checks at each that it may go on."""
        from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

        async def borrow(*_: Any, **__: Any) -> Borrowed:
            return await lend()

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
