"""Connections: an asyncpg pool of our own configuration.

A connection goes back as it came: the unit of work ends its transaction, and only one that gave SQL to a caller
(`session.sql`) is cleaned at return. Nothing else is sent, so that a unit costs its statements alone.
"""

import asyncio
import contextlib
import random
from typing import Any

import asyncpg

from derwin_db.errors import DatabaseUnavailable, translate
from derwin_db.settings import ConnectionInfo, Settings

_STATEMENT_CACHE = 512
_APPLICATION = "derwin-db"


class PooledConnection(asyncpg.Connection):
    """A connection that knows when it has to go."""

    __slots__ = ("expires_at",)

    expires_at: float


def session_settings(settings: Settings, server_version: int) -> dict[str, str]:
    """Return the server settings of a unit of work, in milliseconds. transaction_timeout exists from 17 on."""
    values = {
        "statement_timeout": settings.statement_timeout,
        "lock_timeout": settings.lock_timeout,
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout,
    }
    if server_version >= 170000:
        values["transaction_timeout"] = settings.transaction_timeout
    return {name: str(round(value * 1000)) for name, value in values.items()}


class Pool:
    """The connections of one login. Opened at the first use, bounded, each with an end of life."""

    def __init__(self, connection: ConnectionInfo, settings: Settings, server_version: int) -> None:
        self._info = connection
        self._settings = settings
        self._timeout = connection.pool_timeout if connection.pool_timeout is not None else settings.pool_timeout
        self._size = connection.pool_size or settings.pool_size
        server_settings = {"application_name": connection.application_name or _APPLICATION}
        if not connection.is_pooled:
            server_settings.update(session_settings(settings, server_version), jit="off")
        self._pool = asyncpg.create_pool(
            **connection.connect_arguments(),
            min_size=0,
            max_size=self._size,
            timeout=connection.connect_timeout or settings.connect_timeout,
            command_timeout=settings.command_timeout,
            statement_cache_size=0 if connection.is_pooled else _STATEMENT_CACHE,
            max_cached_statement_lifetime=0,
            max_inactive_connection_lifetime=settings.connection_life,
            connection_class=PooledConnection,
            server_settings=server_settings,
            init=self._note_birth,
            reset=_leave_as_it_is,
        )

    async def _note_birth(self, connection: Any) -> None:
        """Spread the ends of life, so that not all connections are made anew at once."""
        life = self._settings.connection_life * random.uniform(0.8, 1.0)  # noqa: S311  # spreads load, guards nothing
        connection.expires_at = asyncio.get_running_loop().time() + life

    @property
    def login(self) -> str:
        """The database user of these connections."""
        return self._info.user

    async def open(self) -> None:
        """Make the pool usable. No connection is taken."""
        await self._pool

    async def acquire(self) -> Any:
        """Return a connection. Errors: DatabaseUnavailable when none is free in `pool_timeout`, or none can be made."""
        try:
            return await self._pool.acquire(timeout=self._timeout)
        except TimeoutError:
            if self._pool.get_size() >= self._size and self._pool.get_idle_size() == 0:
                raise DatabaseUnavailable(
                    "All connections of the pool are in use. Keep units of work short, or raise DERWIN_POOL_SIZE."
                ) from None
            raise DatabaseUnavailable(f"No connection to {self._info.place} in time.") from None
        except Exception as error:
            raise translate(error) or error from None

    async def release(self, connection: Any, *, is_dirty: bool = False) -> None:
        """Give the connection back: idle, clean and alive, or it is dropped."""
        try:
            if is_dirty:
                await clean(connection)
            if connection.is_in_transaction() or connection.expires_at < asyncio.get_running_loop().time():
                await connection.close(timeout=self._settings.cleanup_timeout)
        except Exception:
            connection.terminate()
        finally:
            await self._pool.release(connection, timeout=self._settings.cleanup_timeout)

    async def drop(self, connection: Any) -> None:
        """End the connection at once; the pool makes another when it needs one."""
        connection.terminate()
        with contextlib.suppress(Exception):
            await self._pool.release(connection)

    async def forget_idle(self) -> None:
        """Make every connection anew at its next use: after one was found dead, the others are likely dead too."""
        await self._pool.expire_connections()

    def in_use(self) -> int:
        """Return how many connections are checked out."""
        return self._pool.get_size() - self._pool.get_idle_size()

    async def close(self) -> None:
        """Close all connections; those in use are waited for, up to `cleanup_timeout`."""
        try:
            await asyncio.wait_for(self._pool.close(), self._settings.cleanup_timeout)
        except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            self._pool.terminate()


async def clean(connection: Any) -> None:
    """Undo what SQL of a caller can leave behind: settings, cursors, temporary tables, locks, prepared statements.

    DISCARD ALL also drops the driver's own prepared statements on the server, so its cache of them is dropped as well;
    without that, a statement that a caller prepared under the driver's next name would run in another unit of work.
    """
    await connection.execute("DISCARD ALL")
    connection._drop_local_statement_cache()


async def _leave_as_it_is(_connection: Any) -> None:
    """The pool's reset: nothing to send, the unit of work has ended its transaction."""
