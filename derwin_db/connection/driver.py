"""The seam to asyncpg: what this package uses of a connection, how one is made and ended, and the driver's private names.

Nothing outside of this folder imports asyncpg. Others ask for a `Connection`, and tell errors by their SQLSTATE.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import asyncpg

from derwin_db.connection.hosts import connect_to_one
from derwin_db.errors import DatabaseUnavailable
from derwin_db.settings.secrets import password_of
from derwin_db.settings.url import ConnectionInfo

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextlib import AbstractAsyncContextManager

    from derwin_db.connection.time_limit import TimeLimit
    from derwin_db.settings import Settings

DriverError: tuple[type[asyncpg.PostgresError], type[asyncpg.InterfaceError]] = (asyncpg.PostgresError, asyncpg.InterfaceError)
"""What the driver raises: errors of the server, and its own."""

DriverOrNetworkError: tuple[type[asyncpg.PostgresError], type[asyncpg.InterfaceError], type[OSError]] = (*DriverError, OSError)

_STATEMENT_CACHE = 512
_CONNECT_SECONDS = 10.0
_LEAST_SECONDS = 0.1


class Cursor(Protocol):
    """A cursor on the server."""

    async def fetch(self, n: int, *, timeout: float | None = None) -> Sequence[Any]: ...  # noqa: ASYNC109  # the driver's own


class CursorFactory(Protocol):
    """What `cursor` returns: awaited, a cursor; iterated over, rows."""

    def __await__(self) -> Any: ...

    def __aiter__(self) -> AsyncIterator[Any]: ...


class Connection(Protocol):
    """What this package uses of a connection of the driver."""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str: ...  # noqa: ASYNC109

    async def executemany(self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> Any: ...  # noqa: ASYNC109

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]: ...  # noqa: ASYNC109

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...  # noqa: ASYNC109

    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...  # noqa: ASYNC109

    async def prepare(self, query: str, *, name: str | None = None) -> Any: ...

    def cursor(self, query: str, *args: Any, timeout: float | None = None) -> CursorFactory: ...

    def transaction(self) -> "AbstractAsyncContextManager[Any]": ...

    def get_server_pid(self) -> int: ...

    def is_closed(self) -> bool: ...

    def is_in_transaction(self) -> bool: ...

    async def close(self) -> None: ...

    def terminate(self) -> None: ...


async def connect(
    connection: ConnectionInfo,
    *,
    timeout: float | None = None,  # noqa: ASYNC109  # the driver's own, for the attempt
    command_timeout: float | None = None,
    settings: Mapping[str, str] | None = None,
) -> Connection:
    """Open a connection beside the pools. It prepares nothing by name, and so works behind any pooler.

    Errors:
        The driver's own.
    """
    arguments = {
        "timeout": _of_each_host(connection, connection.connect_timeout or timeout or _CONNECT_SECONDS),
        "command_timeout": command_timeout,
        "statement_cache_size": 0,
        "server_settings": dict(settings or {}),
    }
    opened: Connection = await connect_to_one(connection, lambda one: _connect_at(one, arguments))
    return opened


def _of_each_host(connection: ConnectionInfo, seconds: float) -> float:
    """Return how long one host may take, so that all of them together take no longer: some are asked twice."""
    return seconds / len(connection.places) / (2 if connection.target_session_attrs == "prefer-standby" else 1)


async def _connect_at(one: ConnectionInfo, arguments: Mapping[str, Any]) -> Any:
    """Connect to one host, with the password of now: both together take no longer than the connect may."""
    place = one.connect_arguments()
    if one.gets_password:
        begun = asyncio.get_running_loop().time()
        place["password"] = await _fetched_password(one, arguments["timeout"])
        spent = asyncio.get_running_loop().time() - begun
        arguments = {**arguments, "timeout": max(arguments["timeout"] - spent, _LEAST_SECONDS)}
    if one.target_session_attrs is not None:
        place["target_session_attrs"] = one.target_session_attrs
    connecting: Any = asyncpg.connect(**place, **arguments)
    return await connecting


async def _fetched_password(one: ConnectionInfo, seconds: float) -> str | None:
    try:
        async with asyncio.timeout(seconds):
            return await password_of(one)
    except TimeoutError:
        raise DatabaseUnavailable(f"The password of {one.user} did not come within {seconds:g} s.") from None


class ServerProcess(NamedTuple):
    """One process of the server. Its number alone may be another's later on."""

    pid: int
    started_at: datetime
    """When it began, or the transaction in which it was seen."""


class PooledConnection(asyncpg.Connection):
    """A connection that knows when it has to go, and what was seen of its server when it was made."""

    __slots__ = (
        "_without_timer",
        "activity_query_size",
        "expires_at",
        "is_read_committed",
        "process",
        "server_clock",
        "time_limit",
    )

    expires_at: float
    activity_query_size: int
    """How much of a statement pg_stat_activity shows. It changes with a restart alone, which ends this connection."""
    server_clock: float
    """The server's time less this machine's `time.monotonic()`, in seconds; behind the truth by the way of the answer."""
    is_read_committed: bool
    """Whether each statement of a transaction sees its own moment, as here it does by default."""
    process: ServerProcess | None
    """Who runs its statements; behind a transaction pooler nobody in particular."""

    _config: Any
    _drop_local_statement_cache: Any
    _protocol: Any
    _query_loggers: Any
    _stmt_cache: Any
    _stmt_exclusive_section: Any
    time_limit: "TimeLimit | None"
    """What keeps the command timeout of statements that bring no other one, once the pool has set it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.time_limit = None
        self._without_timer = self._config._replace(command_timeout=None)

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109
        if timeout is not None or self.time_limit is None or not self._takes_short_way():
            return await super().execute(query, *args, timeout=timeout)
        call = super().execute(query, *args) if args else self._protocol.query(query, None)
        result: str = await self.time_limit.over(self, call)
        return result

    async def fetch(self, query: str, *args: Any, timeout: float | None = None, record_class: Any = None) -> list[Any]:  # noqa: ASYNC109
        records: list[Any]
        if timeout is not None or self.time_limit is None or not self._takes_short_way():
            records = await super().fetch(query, *args, timeout=timeout, record_class=record_class)
            return records
        prepared = self._stmt_cache.get(
            (query, self._protocol.get_record_class() if record_class is None else record_class, False)
        )
        if prepared is None:
            records = await self.time_limit.over(self, super().fetch(query, *args, record_class=record_class))
            return records
        try:
            records = await self.time_limit.over(self, self._protocol.bind_execute(prepared, args, "", 0, False, None))
        except asyncpg.InvalidCachedStatementError:  # a table was changed: it has to be prepared anew
            self._drop_local_statement_cache()
            if self.is_in_transaction():
                raise
            records = await super().fetch(query, *args, record_class=record_class)
        except asyncpg.OutdatedSchemaCacheError:
            await self.reload_schema_state()
            raise
        return records

    def _takes_short_way(self) -> bool:
        """Tell whether a statement may go to the driver's protocol at once: past its timer, its loggers and its repetitions.

        It can begin there: the connection is open, nothing that was ended is waited for, and nothing is being prepared.
        """
        return (
            not self._query_loggers
            and not self.is_closed()
            and not self._protocol._is_cancelling()
            and not self._stmt_exclusive_section._acquired
        )

    def begin_without_timer(self, statement: "Coroutine[Any, Any, Any]") -> "asyncio.Future[Any]":
        """Send the statement, with no timer of the driver's own. Returns what it waits for."""
        timed, self._config = self._config, self._without_timer
        try:
            awaited: asyncio.Future[Any] = statement.send(None)
            return awaited
        finally:
            self._config = timed

    def time_out(self, future: "asyncio.Future[Any]") -> None:
        """Have the server end the statement that waits for this, and the statement raise TimeoutError."""
        self._protocol._request_cancel()
        future.set_exception(TimeoutError())


_SEEN = """
SELECT pg_backend_pid() AS pid,
    (SELECT backend_start FROM pg_stat_get_activity(pg_backend_pid())) AS started_at,
    settings.activity_query_size, settings.stored,
    extract(epoch FROM clock_timestamp())::float8 AS clock,
    current_setting('default_transaction_isolation') = 'read committed' AS is_read_committed
FROM (
    SELECT max(setting::int) FILTER (WHERE name = 'track_activity_query_size') AS activity_query_size,
        jsonb_object_agg(name, coalesce(boot_val, '')) FILTER (
            WHERE context = 'user' AND source IN ('user', 'database user')
        )::text AS stored
    FROM pg_settings
) AS settings
"""


async def look_at_server(connection: PooledConnection, *, is_pooled: bool) -> dict[str, str]:
    """Note what a new connection has to know of its server, and return what it began with that is stored for its login.

    By name, with what each setting is by itself: SQL in a session can store some, at any time.
    """
    async with connection.transaction() if is_pooled else nullcontext():
        seen = await connection.fetchrow(_SEEN)
    assert seen is not None
    connection.server_clock = seen["clock"] - time.monotonic()
    connection.activity_query_size = seen["activity_query_size"]
    connection.is_read_committed = seen["is_read_committed"]
    connection.process = None if is_pooled else ServerProcess(seen["pid"], seen["started_at"])
    stored: dict[str, str] = json.loads(seen["stored"] or "{}")
    return stored


async def serving_process(connection: Connection) -> ServerProcess:
    """Return who runs this transaction. The role of a unit may not see when its process began; it sees when this began."""
    seen = await connection.fetchrow("SELECT pg_backend_pid() AS pid, now() AS started_at")
    return ServerProcess(seen["pid"], seen["started_at"])


def session_setup(role: str | None) -> str:
    """Return what is set on a connection between units: the server looks whether its client is there, the role is taken."""
    checks = "SET client_connection_check_interval = '2s'"
    return checks if role is None else f"{checks}; SET ROLE {role}"


def pooled_arguments(
    connection: ConnectionInfo, settings: "Settings", server_settings: Mapping[str, str], *, keeps_statements: bool
) -> dict[str, Any]:
    """Return what a pool's connections are made with, wherever they lead and whatever the password is then.

    Where a statement would not be prepared by name, what runs after it was prepared may be another client's behind a
    transaction pooler: so there either all are named, of any size, or each runs in a transaction.
    """
    return {
        "timeout": _of_each_host(connection, connection.connect_timeout or settings.connect_timeout),
        "command_timeout": settings.command_timeout,
        "statement_cache_size": _STATEMENT_CACHE if keeps_statements else 0,
        "max_cached_statement_lifetime": 0,
        "max_cacheable_statement_size": 0,
        "connection_class": PooledConnection,
        "server_settings": dict(server_settings),
    }


def connect_pooled(connection: ConnectionInfo, arguments: Mapping[str, Any]) -> Awaitable[PooledConnection]:
    """Open a connection of a pool."""
    return connect_to_one(connection, lambda one: _connect_at(one, arguments))


def idle_limit(settings: "Settings") -> float:
    """Return for how many seconds the server lets a unit of work think between two statements.

    Where the line stalls, this side gives up after command_timeout, and the server hears nothing of it: what it keeps open
    for a client that is gone ends after twice that time.
    """
    return min(settings.idle_in_transaction_timeout, 2 * settings.command_timeout)


def session_settings(settings: "Settings", server_version: int) -> dict[str, str]:
    """Return the server settings of a unit of work, in milliseconds. transaction_timeout exists from 17 on."""
    values = {
        "statement_timeout": settings.statement_timeout,
        "lock_timeout": settings.lock_timeout,
        "idle_in_transaction_session_timeout": idle_limit(settings),
    }
    if server_version >= 170000:
        values["transaction_timeout"] = settings.transaction_timeout
    return {name: str(round(value * 1000)) for name, value in values.items()}


def end(connection: PooledConnection) -> None:
    """Close the connection without waiting for the server."""
    try:
        connection.terminate()
    except RuntimeError:  # its event loop is closed, and nobody else closes the socket
        transport = getattr(connection, "_transport", None)
        raw = getattr(transport, "_sock", None)
        if transport is not None and raw is not None:
            raw.close()
            transport._sock = None


async def clean(
    connection: PooledConnection,
    setup: str,
    *,
    timeout: float | None = None,  # noqa: ASYNC109  # the driver's own, no task
) -> None:
    """Undo what SQL of a caller can leave behind: settings, cursors, temporary tables, locks, prepared statements, a role.

    DISCARD ALL also drops the driver's own prepared statements on the server, so its cache of them is dropped as well;
    without that, a statement that a caller prepared under the driver's next name would run in another unit of work.
    """
    await connection.execute("DISCARD ALL", timeout=timeout)
    forget(connection)
    await connection.execute(setup, timeout=timeout)


def forget(connection: Any) -> None:
    """Have the driver refuse what a caller kept of this connection. Nothing is sent."""
    connection._drop_local_statement_cache()
    connection._listeners.clear()
    connection._log_listeners.clear()


def refuse_what_was_kept(connection: Any) -> None:
    """Have the driver refuse statements and cursors that a caller kept: the connection goes back to its pool."""
    connection._on_release()
