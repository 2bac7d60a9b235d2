"""One connection of a pool: its settings, its end, and what is undone before it is somebody else's."""

from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from derwin_db.settings import Settings


class PooledConnection(asyncpg.Connection):
    """A connection that knows when it has to go."""

    __slots__ = ("expires_at",)

    expires_at: float


def session_settings(settings: "Settings", server_version: int) -> dict[str, str]:
    """Return the server settings of a unit of work, in milliseconds. transaction_timeout exists from 17 on."""
    values = {
        "statement_timeout": settings.statement_timeout,
        "lock_timeout": settings.lock_timeout,
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout,
    }
    if server_version >= 170000:
        values["transaction_timeout"] = settings.transaction_timeout
    return {name: str(round(value * 1000)) for name, value in values.items()}


def _end(connection: PooledConnection) -> None:
    """Close the connection without waiting for the server."""
    try:
        connection.terminate()
    except RuntimeError:  # its event loop is closed, and nobody else closes the socket
        transport = getattr(connection, "_transport", None)
        raw = getattr(transport, "_sock", None)
        if transport is not None and raw is not None:
            raw.close()
            transport._sock = None


CLEAN_IN_TRANSACTION = (
    "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; CLOSE ALL; DEALLOCATE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); "
    "DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES"
)
"""What `DISCARD ALL` does, which no transaction block takes: behind a transaction pooler the next statement after COMMIT may
run on another server connection, so this one is cleaned while it is ours."""


async def clean(connection: Any, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  # the driver's own, no task
    """Undo what SQL of a caller can leave behind: settings, cursors, temporary tables, locks, prepared statements.

    DISCARD ALL also drops the driver's own prepared statements on the server, so its cache of them is dropped as well;
    without that, a statement that a caller prepared under the driver's next name would run in another unit of work.
    """
    await connection.execute("DISCARD ALL", timeout=timeout)
    forget(connection)


def forget(connection: Any) -> None:
    """Have the driver refuse what a caller kept of this connection. Nothing is sent."""
    connection._drop_local_statement_cache()
    connection._listeners.clear()
    connection._log_listeners.clear()
