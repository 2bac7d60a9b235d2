"""How migrations run: on one direct connection, one starter at a time, with bounded waits.

A session-level advisory lock on a connection of its own lets the first starter migrate and the others wait and find
nothing left to do. Lock and statement timeouts keep live traffic from queueing behind a revision. A transaction pooler is
refused: the lock would protect nothing there.
"""

import asyncio
import logging
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

import derwin_db.models  # noqa: F401  # fills SQLModel.metadata
from alembic import context
from derwin_db import sql
from derwin_db.connection.driver import Connection
from derwin_db.deploy.blocking import run
from derwin_db.deploy.migrations import MIGRATION_LOCK, MigrationSettings, connect_directly, migration_settings
from derwin_db.fields.table import PydanticJson
from derwin_db.fields.vector import Vector

logger = logging.getLogger("derwin_db.migrations")

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


def render_item(kind: str, item: Any, autogen_context: AutogenContext) -> str | bool:
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


def is_ours(name: str | None, kind: str, parent_names: Any) -> bool:
    """Look at the schema public only, and at its tables that the models know: a service may keep its own beside them.

    Columns that the database derives are in no model.
    """
    if kind == "schema":
        return name == "public"
    if kind == "table":
        return f"public.{name}" in SQLModel.metadata.tables
    if kind == "column":
        return name not in sql.DERIVED_COLUMNS.get(parent_names["table_name"], ())
    return True


def tell(*, step: Any, **_: Any) -> None:
    """Say which revision was applied, or taken back: the first words of what its file says."""
    revision = step.up_revision
    logger.info("%s %s: %s", "applied" if step.is_upgrade else "took back", revision.revision, revision.doc)


def run_on(connection: sa.Connection) -> None:
    """Configure Alembic for this connection and run the revisions, each in its own transaction."""
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        include_schemas=True,
        include_name=is_ours,
        render_item=render_item,
        version_table_schema="public",
        compare_type=True,
        transaction_per_migration=True,
        on_version_apply=tell,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_online(settings: MigrationSettings) -> None:
    """Hold the migration lock on one connection, run the revisions on another."""
    lock = await connect_directly(settings)
    try:
        await _acquire(lock, settings.wait_seconds)
        engine = create_async_engine(
            "postgresql+asyncpg://", async_creator=lambda: connect_directly(settings), poolclass=sa.NullPool
        )
        async with engine.connect() as connection:
            for statement in PREAMBLE:
                await connection.exec_driver_sql(statement)
            home = await connection.scalar(sa.text(VECTOR_SCHEMA))
            if home is not None:
                await connection.exec_driver_sql(f"SET search_path = public, {home}")
            await connection.exec_driver_sql(f"SET lock_timeout = '{settings.lock_timeout_ms}ms'")
            await connection.exec_driver_sql(f"SET statement_timeout = '{settings.statement_timeout_ms}ms'")
            await connection.commit()
            await connection.run_sync(run_on)
        await engine.dispose()
    finally:
        await lock.close()


async def _acquire(connection: Connection, wait_seconds: float) -> None:
    """Poll for the lock: a blocking wait would be cut by lock_timeout, and holds a snapshot open."""
    for attempt in range(int(wait_seconds * 10) + 1):
        if await connection.fetchval("SELECT pg_try_advisory_lock($1)", MIGRATION_LOCK):
            return
        if attempt == 0:
            logger.info("another starter is migrating this database; waiting for it")
        await asyncio.sleep(0.1)
    raise TimeoutError


if context.is_offline_mode():
    raise SystemExit(
        "The revisions look at the server while they run (Citus, pgvector, rows to convert), so there is no script of them. "
        "Let `derwin-db migrate` run as the owner, or `derwin-db migrate --to <revision>` one by one."
    )
run(run_online(migration_settings(context.config)))
