"""Connections: a pool of asyncpg connections of one login, bounded, each with an end of life.

A connection goes back as it came: the unit of work ends its transaction, and only one that gave SQL to a caller
(`session.sql`) is cleaned at return. Nothing else is sent, so that a unit costs its statements alone.

Connections are made by tasks of the pool, never by the task that waits for one: a cancelled caller leaves a warm pool
behind. The first of those who wait gets the first connection that is made or given back.
"""

import asyncio
import contextlib
import itertools
import logging
import math
import random
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from derwin_db.connection.driver import (
    PooledConnection,
    clean,
    connect_pooled,
    end,
    forget,
    look_at_server,
    pooled_arguments,
    refuse_what_was_kept,
    session_settings,
    session_setup,
)
from derwin_db.connection.ending import Ender
from derwin_db.connection.facts import ServerFacts
from derwin_db.connection.hosts import COMES_BACK, NoHostFits
from derwin_db.connection.refused import connection_error
from derwin_db.connection.time_limit import TimeLimit
from derwin_db.errors import DatabaseUnavailable, DerwinError
from derwin_db.isolation.keys import KeyRing, ServerSeal
from derwin_db.isolation.preamble import ADMIN_ROLE, APP_ROLE, Preamble
from derwin_db.observe.events import Endpoint, Observer, PoolWatch
from derwin_db.settings.url import ConnectionInfo
from derwin_db.translation.driver_errors import is_connection_lost, sqlstate_of, translate

if TYPE_CHECKING:
    from derwin_db.settings import Settings

logger: logging.Logger = logging.getLogger("derwin_db")

_APPLICATION = "derwin-db"
_REFUSED_LOGIN = frozenset({"28000", "28P01"})
"""SQLSTATEs of a password that is not right. One that is fetched at each connect may be changed on one side just now."""

_SHORT_PAUSE, _LOGIN_PAUSE = 0.1, 0.5


_IN_USE = "Keep units of work short, open none inside another one, or raise the size."
_NESTED = (
    "Units of work are nested: each holds a connection while it waits for another one. Use the session of the outer unit, or "
    "open the inner one before or after it."
)

_held: ContextVar[tuple[object, ...]] = ContextVar("derwin_held", default=())
"""Tickets of the connections that this task, or the one that started it, took."""


class Pool:
    """The connections of one login on one event loop. Nothing is opened before the first use."""

    def __init__(
        self,
        connection: ConnectionInfo,
        settings: "Settings",
        server_version: int,
        observers: Sequence[Observer],
        *,
        defaults: Mapping[str, str],
        role: str | None,
        keeps_statements: bool,
        ender: Ender,
        is_distributed: bool,
    ) -> None:
        self.server: Endpoint = Endpoint(connection.host or "localhost", connection.port, connection.database, connection.user)
        self._watch = PoolWatch(observers, self.server)
        self._info = connection
        self._settings = settings
        self._timeout = connection.pool_timeout if connection.pool_timeout is not None else settings.pool_timeout
        self._size = connection.pool_size or settings.pool_size
        self._loop = asyncio.get_running_loop()
        self._idle: list[PooledConnection] = []
        self._used: set[PooledConnection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._tickets: dict[PooledConnection, object] = {}
        self._waiters: deque[_Waiter] = deque()
        self._nested_at = -math.inf
        self._turns = itertools.count()
        self._reaper: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._drained = asyncio.Event()
        self._time_limit = TimeLimit(settings.command_timeout, self._loop)
        self._setup = session_setup(role)
        self._ender = ender
        self._is_distributed = is_distributed
        server_settings = {"application_name": connection.application_name or _APPLICATION}
        if not connection.is_pooled:
            server_settings.update(defaults, **session_settings(settings, server_version), jit="off")
        self._arguments = pooled_arguments(connection, settings, server_settings, keeps_statements=keeps_statements)

    # --- taking and giving back ---------------------------------------------------------------------------------------

    def acquire(self) -> Coroutine[Any, Any, PooledConnection]:
        """Return a connection.

        Errors:
            DatabaseUnavailable when none is free in `pool_timeout`, or none can be made.
        """
        return self._watch.taking(self._acquire()) if self._watch else self._acquire()

    async def _acquire(self) -> PooledConnection:
        while self._idle:
            connection = self._idle.pop()
            if self._is_fit(connection):
                self._used.add(connection)
                return self._held_here(connection)
            end(connection)
        return self._held_here(await self._wait())

    def _held_here(self, connection: PooledConnection) -> PooledConnection:
        """Remember which task has the connection, and what it starts: whoever waits in there waits for itself."""
        self._ender.look_now_and_then()
        ticket = self._tickets[connection] = object()
        _held.set((*[held for held in _held.get() if held in self._tickets.values()], ticket))
        return connection

    def _no_longer_used(self, connection: PooledConnection) -> None:
        self._used.discard(connection)
        self._tickets.pop(connection, None)

    async def release(self, connection: PooledConnection, *, is_dirty: bool = False) -> None:
        """Give the connection back: idle, clean and alive, or it is ended. `is_dirty`: SQL of a caller ran on it."""
        is_clean = not is_dirty or await self._cleaned(connection)
        if is_clean and not self._is_closed and not connection.is_in_transaction() and self._is_fit(connection):
            self._no_longer_used(connection)
            self._watch.given_back(connection)
            refuse_what_was_kept(connection)
            if self._info.is_pooled:
                connection.process = None  # the next unit may run on another one
            self._offer(connection)
        else:
            self.drop(connection)

    def drop(self, connection: PooledConnection) -> None:
        """End the connection at once; another is made for whoever waits."""
        self._no_longer_used(connection)
        self._watch.given_back(connection)
        end(connection)
        self._grow()
        if not self._used:
            self._drained.set()

    def give_up(self, connection: PooledConnection) -> None:
        """End a connection on which something may run still, and see that the server ends it too: SQL may catch its cancel."""
        process = connection.process
        self.drop(connection)
        self._watch.gave_up()
        if process is not None and not self._loop.is_closed():
            self._ender.end(process)

    def drop_all_like(self, connection: PooledConnection) -> None:
        """Give up a connection that is not to be used again, and end the idle ones, which are likely no better."""
        self.give_up(connection)
        self.forget_idle()

    def forget_idle(self) -> None:
        """End what is idle: after one connection was found dead, the others are likely dead too."""
        while self._idle:
            end(self._idle.pop())

    def in_use(self) -> int:
        """Return how many connections are checked out."""
        return len(self._used)

    @property
    def has_other_hosts(self) -> bool:
        """Whether a new connection may lead to another server than those that are there."""
        return self._info.target_session_attrs is not None

    def load(self) -> dict[str, int]:
        """Return how many connections are idle, in use and allowed, and how many callers wait for one."""
        return {"idle": len(self._idle), "used": len(self._used), "max": self._size, "pending": self._waiting()}

    def _waiting(self) -> int:
        return sum(not waiter.future.done() for waiter in self._waiters)

    async def close(self) -> None:
        """End all connections; those in use are waited for, up to `cleanup_timeout`. Nobody gets one any more."""
        self._is_closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        for waiter in self._waiters:
            if not waiter.future.done():
                waiter.future.set_exception(DatabaseUnavailable("The Database was closed."))
        self.forget_idle()
        connecting = list(self._connecting)
        for task in connecting:
            task.cancel()
        try:
            await asyncio.gather(*connecting, return_exceptions=True)
            if self._used:
                self._drained.clear()
                async with asyncio.timeout(self._settings.cleanup_timeout):
                    await self._drained.wait()
        except TimeoutError:
            logger.warning("%d units of work were open when the Database was closed: they are ended", len(self._used))
            for connection in list(self._used):
                self.give_up(connection)
        finally:
            self.abandon()
        await self._ender.close()
        await asyncio.sleep(0)  # lets the transports finish closing

    def abandon(self) -> None:
        """End all connections at once, also those of an event loop that is gone."""
        self._is_closed = True
        self._time_limit.stop()
        self.forget_idle()
        self._tickets.clear()
        while self._used:
            end(self._used.pop())

    # --- what happens behind ------------------------------------------------------------------------------------------

    def _is_fit(self, connection: PooledConnection) -> bool:
        return not connection.is_closed() and connection.expires_at > self._loop.time()

    async def _cleaned(self, connection: PooledConnection) -> bool:
        if self._is_distributed:
            return False  # what SQL of a caller left in its sessions on the workers ends with it alone
        if self._info.is_pooled:
            forget(connection)  # what the server knows was undone with the transaction
            return True
        try:
            await clean(connection, self._setup, timeout=self._settings.cleanup_timeout)
        except Exception:
            return False
        except BaseException:
            self.drop(connection)
            raise
        return True

    async def _wait(self) -> PooledConnection:
        if self._is_closed:
            raise DatabaseUnavailable("The Database was closed.")
        is_nested = any(held in self._tickets.values() for held in _held.get())
        waiter = _Waiter(self._loop.create_future(), next(self._turns), self._loop.time(), is_nested)
        self._waiters.append(waiter)
        if is_nested:
            self._nested_at = waiter.since
        self._grow()
        try:
            async with asyncio.timeout(self._timeout):
                return await waiter.future
        except TimeoutError:
            self._take_back(waiter)
            self._watch.timed_out()
            raise self._nothing_free(waiter) from None
        except asyncio.CancelledError:
            self._take_back(waiter)
            raise

    def _take_back(self, taken: "_Waiter") -> None:
        """Keep the connection that arrived at the moment when nobody wanted it any more."""
        with contextlib.suppress(ValueError):  # whoever offered to it took it out already
            self._waiters.remove(taken)
        waiter = taken.future
        if waiter.cancel() or waiter.cancelled() or waiter.exception() is not None:
            return
        connection = waiter.result()
        self._no_longer_used(connection)
        if self._is_closed:
            end(connection)
        else:
            self._offer(connection)

    def _nothing_free(self, waiter: "_Waiter") -> DatabaseUnavailable:
        if len(self._used) < self._size:
            return waiter.refusal or DatabaseUnavailable(
                f"No connection to {self._info.place} was made within {self._timeout:g} s (DERWIN_POOL_TIMEOUT)."
            )
        used = (
            f"All {self._size} connections of the pool (DERWIN_POOL_SIZE) stayed in use for {self._timeout:g} s "
            "(DERWIN_POOL_TIMEOUT)."
        )
        error = DatabaseUnavailable(f"{used} {_NESTED if self._sees_nested(waiter) else _IN_USE}")
        error.may_run_again = False  # it has waited already
        return error

    def _sees_nested(self, waiter: "_Waiter") -> bool:
        """Tell whether it waited for one that it holds itself, or behind others that did."""
        return waiter.is_nested or self._nested_at >= waiter.since - self._timeout

    def _offer(self, connection: PooledConnection) -> None:
        """Hand the connection to the first who waits, or keep it."""
        while self._waiters:
            waiter = self._waiters.popleft().future
            if not waiter.done():
                self._used.add(connection)
                waiter.set_result(connection)
                return
        self._idle.append(connection)
        if self._reaper is None:
            self._reaper = self._loop.call_later(self._settings.connection_life / 2, self._reap)

    def _reap(self) -> None:
        """End what has been idle past its life, so that a burst does not hold its connections for ever."""
        self._reaper = None
        idle, self._idle = self._idle, []
        for connection in idle:
            if self._is_fit(connection):
                self._offer(connection)
            else:
                end(connection)

    def _grow(self) -> None:
        """Make connections for those who wait, as far as there is room."""
        if self._is_closed:
            return
        wanted = self._waiting() - len(self._connecting)
        room = self._size - len(self._idle) - len(self._used) - len(self._connecting)
        for _ in range(min(wanted, room)):
            task = self._loop.create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self) -> None:
        """Make one connection, for whoever is first when it is there."""
        turn = next(self._turns)
        try:
            connection = await self._new_connection()
        except DerwinError as error:
            self._settle()
            self._refuse(error, turn)
            self._grow()
            return
        self._settle()
        if connection is not None:
            self._offer(connection)

    def _settle(self) -> None:
        """Count this task no longer as one that is connecting: what it leads to is counted from here on."""
        self._connecting -= {asyncio.current_task()}

    async def _new_connection(self) -> PooledConnection | None:
        """Return a new connection, or None where nobody waits for it any more.

        A server that is full or starting is asked again for as long as a caller waits, each for as long as it may.
        """
        while True:
            is_made = False
            try:
                connecting = connect_pooled(self._info, self._arguments)
                connection = await (self._watch.timing("create", connecting) if self._watch else connecting)
                is_made = True
                connection.time_limit = self._time_limit
                if await self._is_set_up(connection):
                    break
                continue
            except Exception as error:
                refusal = _refused(error, self._info)
                is_refused_login = sqlstate_of(error) in _REFUSED_LOGIN
                comes_back = self._comes_back(error) or (is_made and is_connection_lost(error))
                if not comes_back or not isinstance(refusal, DatabaseUnavailable):
                    raise refusal from None
                for waiter in self._waiters:
                    waiter.refusal = refusal
            longest = _LOGIN_PAUSE if is_refused_login else _SHORT_PAUSE
            await asyncio.sleep(random.uniform(longest / 5, longest))  # noqa: S311  # spreads load, guards nothing
            if not self._waiting():
                return None
        # ends of life are spread, so that not all connections are made anew at once
        life = self._settings.connection_life * random.uniform(0.8, 1.0)  # noqa: S311
        connection.expires_at = self._loop.time() + life
        return connection

    def _comes_back(self, error: Exception) -> bool:
        """Tell whether a server that takes no connection now may do so while a caller waits."""
        is_new_password = self._info.gets_password and sqlstate_of(error) in _REFUSED_LOGIN
        return is_new_password or sqlstate_of(error) in COMES_BACK or isinstance(error, NoHostFits)

    async def _is_set_up(self, connection: PooledConnection) -> bool:
        """Set it up, or end it where it began with what is stored for its login: the next one begins against that."""
        try:
            stored = await look_at_server(connection, is_pooled=self._info.is_pooled)
            if self._info.is_pooled:
                return True
            own: dict[str, str] = self._arguments["server_settings"]
            if stored.keys() - own.keys():
                own.update(stored)
                end(connection)
                return False
            await connection.execute(self._setup)
        except BaseException:
            end(connection)
            raise
        return True

    def _refuse(self, error: DerwinError, turn: int) -> None:
        """Tell the first who waits what came of an attempt that began after it came; whoever came later has another one."""
        while self._waiters and self._waiters[0].turn < turn:
            waiter = self._waiters.popleft().future
            if not waiter.done():
                waiter.set_exception(error)
                return


@dataclass(eq=False)
class _Waiter:
    """One who waits for a connection: since when, and whether it holds one already. `refusal` is the server's last word.

    `turn` orders those who wait and the attempts; a clock may say the same for several, as uvloop's does.
    """

    future: "asyncio.Future[PooledConnection]"
    turn: int
    since: float
    is_nested: bool
    refusal: DatabaseUnavailable | None = None


class DataSource(NamedTuple):
    """The connections of one login, and how a transaction begins on them."""

    pool: Pool
    preamble: Preamble


def open_pool(
    connection: ConnectionInfo,
    settings: "Settings",
    server: ServerFacts,
    keys: KeyRing | None,
    observers: Sequence[Observer] = (),
    *,
    role: str | None = None,
    ending_keys: KeyRing | None = None,
) -> DataSource:
    """Return the pool of a login, and what was seen of its server. Nothing is connected yet.

    With a `role`, connections are under it between units of work too, so that a statement may run alone: from the start, or
    behind a pooler that keeps prepared statements, from the first transaction on that runs on a server connection. A login that
    is more than this role is left alone: there it would be asked for what it can itself.
    `ending_keys` are the keys where units of the pool have no scope, and so no `keys`: what is given up ends by them.
    """
    if server.is_behind_pooler and not connection.is_pooled:
        logger.info("a pooler answers for %s: taking the profile of pgbouncer=true", connection.place)
        connection = replace(connection, is_pooled=True)
    timeouts = session_settings(settings, server.version) if connection.is_pooled else {}
    defaults = dict(server.own_settings)
    search_path = server.search_path()
    if search_path is not None:
        defaults["search_path"] = search_path
    local = [f"{name} = {_literal(name, defaults[name])}" for name in _local_names(server, search_path)]
    is_kept = connection.is_pooled and server.keeps_statements and role is not None and not server.is_privileged
    ender = Ender(connection, settings, ending_keys or keys, role or ADMIN_ROLE, looks_for_strays=role == APP_ROLE)
    pool = Pool(
        connection,
        settings,
        server.version,
        observers,
        defaults=defaults,
        role=role,
        keeps_statements=is_kept or not connection.is_pooled,
        ender=ender,
        is_distributed=server.is_distributed,
    )
    preamble = Preamble(
        seal=None if keys is None else ServerSeal(keys),
        is_sharded=server.is_sharded,
        is_distributed=server.is_distributed,
        is_pooled=connection.is_pooled,
        keeps_statements=is_kept,
        timeouts=[*(f"{name} = '{value}ms'" for name, value in timeouts.items()), *(local if connection.is_pooled else [])],
        server_version=server.version,
    )
    return DataSource(pool, preamble)


def _local_names(server: ServerFacts, search_path: str | None) -> list[str]:
    """Return what each transaction sets behind a pooler, which takes nothing that a connection would start with."""
    named = {"synchronous_commit", "row_security", *server.stored_settings, *(["search_path"] if search_path else [])}
    return sorted(name for name in named & {*server.own_settings, "search_path"} if not name.startswith(_AT_THE_START))


_AT_THE_START = ("default_transaction_", "local_preload_libraries")
"""Settings that mean nothing to a transaction that has begun."""


def _literal(name: str, value: str) -> str:
    """Return the value as SQL: a list of names is no text."""
    quoted = value.replace("'", "''")
    return value if name == "search_path" and value else f"'{quoted}'"


def _refused(error: Exception, info: ConnectionInfo) -> DerwinError:
    if info.gets_password and sqlstate_of(error) in _REFUSED_LOGIN:
        return DatabaseUnavailable(
            f"The server refused the password that was fetched for {info.user} ({info.place}): where it comes from has another "
            "one than the server."
        )
    translated = connection_error(error, info)
    return translated if isinstance(translated, DerwinError) else translate(translated) or DatabaseUnavailable()
