"""The driver's connection as a unit of work lends it to SQLAlchemy and to callers: for as long as the unit, and no further.

What is lent can neither close the connection nor leave something on it, and it can't end the transaction: a statement that
would is refused. A script, several statements in one message, can't be told apart so: one that may hold such a statement is
looked at after it ran, and where the transaction is another one then, the unit is over.
"""

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

from derwin_db.connection.driver import Connection
from derwin_db.errors import ScopeError
from derwin_db.observe.events import Watch, caller_name
from derwin_db.unit.activity import Activity
from derwin_db.unit.naive import ZonedStatement, check_zones, holds_naive, zoned_parameters

T = TypeVar("T")

ENDS_ITSELF = (
    "The unit of work ends its own transaction: leave the `async with db.project(...)` block to commit, raise to roll back."
)

_RUNS = frozenset({"execute", "executemany", "fetch", "fetchmany", "fetchrow", "fetchval"})
_MANY = frozenset({"executemany", "fetchmany"})
_COPIES = frozenset({"copy_from_query", "copy_from_table", "copy_records_to_table", "copy_to_table"})
_LENT = _RUNS | _COPIES | {"prepare", "cursor", "transaction"}
_LENT |= {"get_server_pid", "get_server_version", "get_settings", "is_in_transaction", "is_closed", "reload_schema_state"}
"""What of the driver's connection ends with the unit. Listeners, loggers and codecs would stay, and see other units."""

_SKIPPED = re.compile(r"(?:[\s;]|--[^\n\r]*)+")
_WORD = re.compile(r"[A-Za-z_]+")
_ENDING = frozenset({"ABORT", "COMMIT", "END", "ROLLBACK"})
_MAY_END = re.compile(r"\b(?:abort|commit|end|prepare|rollback)\b", re.IGNORECASE)
"""What a message holds that ends a transaction: a keyword can't be written in another way. `end` also closes a CASE."""


def ends_transaction(sql: str) -> bool:
    """Tell whether one statement would end its transaction: by its first words, as the server reads them."""
    first, rest = _next_word(sql)
    if first == "PREPARE":
        return _next_word(rest)[0] == "TRANSACTION"
    if first != "ROLLBACK":
        return first in _ENDING
    word, rest = _next_word(rest)
    if word in ("WORK", "TRANSACTION"):
        word, _ = _next_word(rest)
    return word != "TO"  # a savepoint


def _next_word(sql: str) -> tuple[str, str]:
    """Return the next word in capitals, and what follows it; comments, white space and empty statements are skipped."""
    while True:
        skipped = _SKIPPED.match(sql)
        sql = sql[skipped.end() :] if skipped else sql
        if not sql.startswith("/*"):
            break
        sql = _after_comment(sql)
    word = _WORD.match(sql)
    return (word.group().upper(), sql[word.end() :]) if word else ("", sql)


def _after_comment(sql: str) -> str:
    """Return what follows the comment; the server's comments nest."""
    depth = position = 0
    while position < len(sql):
        pair = sql[position : position + 2]
        depth += (pair == "/*") - (pair == "*/")
        position += 2 if pair in ("/*", "*/") else 1
        if depth == 0:
            return sql[position:]
    return ""


class Lender:
    """One connection that is lent, and by which rules."""

    def __init__(
        self,
        connection: Connection,
        check: Callable[[], None],
        ended: Callable[[], None],
        abort: Callable[[], Awaitable[None]],
        activity: Activity,
        *,
        is_pooled: bool,
        watch: Watch | None = None,
    ) -> None:
        self.connection = connection
        self.is_pooled = is_pooled
        self.check = check
        """Raises unless something may run now."""
        self._ended = ended
        self._abort = abort
        self._activity = activity
        self._watch = watch

    async def run(self, call: Callable[[], Awaitable[T]], name: str) -> T:
        """Run a call of the driver, note when it begins and ends, and see whether the transaction is there after it.

        On a connection that is gone nothing ended: what explains that is older.
        """
        self.check()
        self._activity.statement_begins()
        try:
            return await self.whole(call() if self._watch is None else self._watch.over(call(), name))
        finally:
            if not self.connection.is_closed():
                self._activity.statement_ended()
            self._see_transaction()

    async def whole(self, call: Awaitable[T]) -> T:
        """Run it to its end, or let nothing of the transaction be stored.

        A statement that is cancelled, or takes too long, may have run before the server heard of it. Then the server would go
        on as if nothing had happened, and whoever catches the cancellation would store what he takes for undone.
        """
        try:
            return await call
        except (asyncio.CancelledError, TimeoutError):
            await self._abort()
            raise

    async def check_times(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Refuse a time without an offset where the server says that the parameter has one.

        Errors:
            InvalidInput that names the argument's place.
        """
        naive = [row for row in rows if holds_naive(row)]
        if naive and not ends_transaction(sql):
            zoned = zoned_parameters(await self.connection.prepare(sql))
            for row in naive:
                check_zones(row, zoned)

    async def run_one(self, sql: str, call: Callable[[], Awaitable[T]], name: str) -> T:
        """Run a call that takes one statement alone; the server refuses more."""
        self.check()
        if ends_transaction(sql):
            raise ScopeError(ENDS_ITSELF)
        return await self.run(call, name)

    async def run_script(self, sql: str, call: Callable[[], Awaitable[T]], name: str) -> T:
        """Run a call that takes several statements in one message. Behind a transaction pooler it is refused.

        There the message may end the transaction and go on, on a connection that is somebody else's by then.
        """
        if self.is_pooled:
            raise ScopeError("Behind a transaction pooler the connection takes one statement at a time, and no COPY.")
        if _MAY_END.search(sql) is None or ";" not in sql.rstrip("; \t\n\r\f\v"):
            return await self.run_one(sql, call, name)
        self.check()
        started_at = await self._started_at()
        try:
            result = await self.run_one(sql, call, name)
        except ScopeError:
            raise
        except BaseException:
            self._ended()  # what came before the error may have ended the transaction: nobody can tell
            raise
        if started_at is None or await self._started_at() != started_at:
            self._ended()
        return result

    async def _started_at(self) -> datetime | None:
        """Return when the transaction began, which no other one did; None where a failed one does not answer."""
        try:
            started_at: datetime = await self.connection.fetchval("SELECT pg_catalog.now()")
        except Exception:
            return None
        return started_at

    async def run_in_turn(self, sql: str) -> str:
        """Run one statement as `execute` does, in the protocol that takes one alone."""
        prepared: Any = await self.connection.prepare(sql)
        await prepared.fetch()
        tag: str = prepared.get_statusmsg()
        return tag

    def _see_transaction(self) -> None:
        if not self.connection.is_closed() and not self.connection.is_in_transaction():
            self._ended()


class Borrowed:
    """The driver's connection, without the power to close it or to leave something on it, while its unit of work is open.

    Whoever keeps hold of it afterwards gets a ScopeError: the connection belongs to another unit by then.
    """

    def __init__(self, lender: Lender) -> None:
        self._lender = lender

    def __getattr__(self, name: str) -> Any:
        lender = self._lender
        lender.check()
        if name not in _LENT:
            raise ScopeError(f"{name[:64]} of the driver's connection is not lent: it would outlive the unit of work.")
        method = getattr(lender.connection, name)
        if name == "execute":
            return _executing(lender, method)
        if name in _MANY:
            return _running_many(lender, method)
        if name in _RUNS:
            return _running(lender, method)
        if name in _COPIES:
            return _copying(lender, method, takes_values=name == "copy_from_query")
        if name == "prepare":
            return _preparing(lender, method)
        if name == "cursor":
            return lambda query, *arguments, **options: _LentCursor(
                method(query, *arguments, **options), query, lender, arguments
            )
        return _while_lent(lender, method)

    def is_closed(self) -> bool:
        """Tell whether the connection is gone. SQLAlchemy asks this after errors too."""
        return self._lender.connection.is_closed()

    async def close(self, **_: Any) -> None:
        """Leave it open: the unit of work gives it back."""

    def terminate(self) -> None:
        """Leave it open: the unit of work drops it if it has to."""


def _while_lent(lender: Lender, method: Any) -> Any:
    """Return a method that somebody may keep: it looks again when it runs."""
    if inspect.iscoroutinefunction(method):

        async def run(*arguments: Any, **options: Any) -> Any:
            return await lender.run(lambda: method(*arguments, **options), caller_name(""))

        return run

    def call(*arguments: Any, **options: Any) -> Any:
        lender.check()
        return method(*arguments, **options)

    return call


def _running(lender: Lender, method: Any) -> Any:
    async def run(query: str, *arguments: Any, **options: Any) -> Any:
        lender.check()
        await lender.check_times(query, [arguments])
        return await lender.run_one(query, lambda: method(query, *arguments, **options), caller_name(query))

    return run


def _running_many(lender: Lender, method: Any) -> Any:
    async def run(query: str, args: Iterable[Sequence[Any]], **options: Any) -> Any:
        lender.check()
        rows = list(args)
        await lender.check_times(query, rows)
        return await lender.run_one(query, lambda: method(query, rows, **options), caller_name(query))

    return run


def _executing(lender: Lender, method: Any) -> Any:
    with_arguments = _running(lender, method)

    async def execute(query: str, *arguments: Any, **options: Any) -> Any:
        if arguments:
            return await with_arguments(query, *arguments, **options)
        if lender.is_pooled:
            return await lender.run_one(query, lambda: lender.run_in_turn(query), caller_name(query))
        return await lender.run_script(query, lambda: method(query, **options), caller_name(query))

    return execute


def _copying(lender: Lender, method: Any, *, takes_values: bool) -> Any:
    async def copy(*arguments: Any, **options: Any) -> Any:
        if takes_values and arguments:
            lender.check()
            await lender.check_times(arguments[0], [arguments[1:]])
        written = " ".join(map(str, (*arguments, *options.values())))  # the driver writes them into the text of one message
        return await lender.run_script(written, lambda: method(*arguments, **options), caller_name("COPY"))

    return copy


def _preparing(lender: Lender, method: Any) -> Any:
    async def prepare(query: str, **options: Any) -> Any:
        prepared = await lender.run_one(query, lambda: method(query, **options), caller_name("PREPARE"))
        zoned = zoned_parameters(prepared)
        return _LentStatement(ZonedStatement(prepared, zoned) if zoned else prepared, query, lender)

    return prepare


class _LentStatement:
    """What the driver prepared, or its cursor: each of its calls follows the rules, and is observed."""

    def __init__(self, inner: Any, sql: str, lender: Lender) -> None:
        self._inner = inner
        self._sql = sql
        self._lender = lender

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if name in _RUNS:
            return lambda *arguments, **options: self._lender.run(
                lambda: attribute(*arguments, **options), caller_name(self._sql)
            )
        if name == "cursor":
            return lambda *arguments, **options: _LentCursor(attribute(*arguments, **options), self._sql, self._lender)
        return attribute


class _LentCursor(_LentStatement):
    """A cursor that is opened when it is awaited. Iterated over, it is the driver's own."""

    def __init__(self, inner: Any, sql: str, lender: Lender, arguments: Sequence[Any] = ()) -> None:
        super().__init__(inner, sql, lender)
        self._arguments = arguments

    def __await__(self) -> Generator[Any, Any, _LentStatement]:
        return self._opened().__await__()

    async def _opened(self) -> _LentStatement:
        async def open_cursor() -> Any:
            return await self._inner

        await self._check()
        opened = await self._lender.run_one(self._sql, open_cursor, caller_name(self._sql))
        return _LentStatement(opened, self._sql, self._lender)

    async def __aiter__(self) -> AsyncIterator[Any]:
        await self._check()
        if ends_transaction(self._sql):
            raise ScopeError(ENDS_ITSELF)
        rows = aiter(self._inner)
        with suppress(StopAsyncIteration):
            while True:
                yield await self._lender.whole(anext(rows))

    async def _check(self) -> None:
        self._lender.check()
        await self._lender.check_times(self._sql, [self._arguments])
