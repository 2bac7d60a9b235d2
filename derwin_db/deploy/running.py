"""How a chain of revisions runs, ours or a service's: on one direct connection, one starter at a time, with bounded waits.

A session-level advisory lock on a connection of its own lets the first starter migrate and the others wait and find nothing
left to do. Lock and statement timeouts keep live traffic from queueing behind a revision. A transaction pooler is refused: the
lock would protect nothing there.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel.sql.sqltypes import AutoString

from derwin_db.connection.driver import Connection
from derwin_db.deploy.migrations import MIGRATION_LOCK, MigrationSettings, connect_directly
from derwin_db.fields.table import PydanticJson
from derwin_db.fields.vector import Vector

logger: logging.Logger = logging.getLogger("derwin_db.migrations")

ischema_names["vector"] = Vector  # so that reflection, and with it `alembic check`, knows the type

PREAMBLE = (
    "SET citus.multi_shard_modify_mode = 'sequential'",
    "SET citus.enable_unsafe_triggers = on",
    "SET citus.enable_local_reference_table_foreign_keys = off",
    "SET search_path = public",
)
"""What every revision runs under. The citus settings are placeholders without effect on a plain server."""

VECTOR_SCHEMA = """
SELECT quote_ident(n.nspname) FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector' AND n.nspname <> 'public'
"""
"""Where pgvector is, if elsewhere: hosted platforms keep extensions in a schema of their own."""

Step = Callable[[Connection], Awaitable[None]]


def render_item(kind: str, item: Any, _context: AutogenContext) -> str | bool:
    """Write types of our own as what the database sees, so that a revision depends on no model."""
    if kind != "type":
        return False
    if isinstance(item, PydanticJson):
        return "postgresql.JSONB()"
    if isinstance(item, Vector):
        return f"sql.ColumnType({item.get_col_spec().lower()!r})"
    if isinstance(item, sa.Enum):
        return f"sa.String(length={item.length})"
    if isinstance(item, AutoString):
        return f"sa.String(length={item.length})" if item.length else "sa.Text()"
    return False


def tell(*, step: Any, **_: Any) -> None:
    """Say which revision was applied, or taken back: the first words of what its file says."""
    revision = step.up_revision
    logger.info("%s %s: %s", "applied" if step.is_upgrade else "took back", revision.revision, revision.doc)


async def run_online(
    settings: MigrationSettings,
    revisions: Callable[[sa.Connection], None],
    *,
    before: Step | None = None,
    after: Step | None = None,
) -> None:
    """Hold the migration lock on one connection, run the revisions on another. `before` and `after` have the first one."""
    lock = await connect_directly(settings)
    try:
        await _acquire(lock, settings.wait_seconds)
        if before is not None:
            await before(lock)
        engine = create_async_engine(
            "postgresql+asyncpg://", async_creator=lambda: connect_directly(settings), poolclass=sa.NullPool
        )
        try:
            async with engine.connect() as connection:
                for statement in PREAMBLE:
                    await connection.exec_driver_sql(statement)
                home = await connection.scalar(sa.text(VECTOR_SCHEMA))
                if home is not None:
                    await connection.exec_driver_sql(f"SET search_path = public, {home}")
                await connection.exec_driver_sql(f"SET lock_timeout = '{settings.lock_timeout_ms}ms'")
                await connection.exec_driver_sql(f"SET statement_timeout = '{settings.statement_timeout_ms}ms'")
                await connection.commit()
                await connection.run_sync(revisions)
        finally:
            await engine.dispose()
            if after is not None:
                await _quietly(after, lock)
    finally:
        await lock.close()


async def _quietly(step: Step, connection: Connection) -> None:
    """Whatever came of the run, a failed revision too, its error is the one that counts."""
    try:
        await step(connection)
    except Exception:
        logger.warning("what follows a run of revisions could not be done", exc_info=True)


async def _acquire(connection: Connection, wait_seconds: float) -> None:
    """Poll for the lock: a blocking wait would be cut by lock_timeout, and holds a snapshot open."""
    for attempt in range(int(wait_seconds * 10) + 1):
        if await connection.fetchval("SELECT pg_try_advisory_lock($1)", MIGRATION_LOCK):
            return
        if attempt == 0:
            logger.info("another starter is migrating this database; waiting for it")
        await asyncio.sleep(0.1)
    raise TimeoutError
