"""`health_router`: whether the process lives, and whether it can serve."""

import asyncio
import logging
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import BaseModel, Field

from derwin_db.connection.schema import Schema, Standing, schema_of
from derwin_db.database import Database
from derwin_db.errors import DatabaseTimeout, DerwinError
from derwin_db.fastapi.problem import failure
from derwin_db.query.statement import Statement, tuples
from derwin_db.sql import VERSION_TABLE

logger: logging.Logger = logging.getLogger("derwin_db.fastapi")

_VERSIONS = sa.table(VERSION_TABLE, sa.column("version_num", sa.String), schema="public")


class Health(BaseModel):
    """What a healthy service answers."""

    status: str = Field(default="ok", description="ok: everything else is another HTTP status.")
    standing: Standing | None = Field(
        default=None,
        serialization_alias="schema",
        description="Said where the schema is newer than this code, and this code runs on it: deploy the newer version.",
    )


def health_router(db: Database, *, timeout: float = 5.0) -> APIRouter:
    """Return the routes `/health/live` (the process answers) and `/health/ready` (a statement reached the database).

    Ready is 503, as a problem, while the database is away, too slow, or of another schema than this code.

    Units:
        `timeout` is how long it may take in all, in seconds.
    """
    router = APIRouter(prefix="/health", tags=["health"])

    @router.get("/live", summary="Whether the process answers", response_model_exclude_none=True)
    async def live() -> Health:
        """Answer, whatever the database does."""
        return Health()

    @router.get("/ready", summary="Whether the service can serve", response_model=Health, response_model_exclude_none=True)
    async def ready() -> Any:
        """Answer ok if a statement reaches the database, and this code runs on its schema; else 503."""
        try:
            schema = await _look(db, timeout)
        except DerwinError as caught:
            error = caught
        else:
            return Health(standing=schema.standing if schema.standing is Standing.COMPATIBLE else None)
        logger.warning("not ready: %s", error.message)
        return failure(error, 503)

    return router


async def _look(db: Database, seconds: float) -> Schema:
    """Run a statement through the pool of the service, as the role that serves.

    Errors:
        SchemaOutOfDate, DatabaseTimeout, and those of reaching the database.
    """
    try:
        async with asyncio.timeout(seconds), db.probe() as unit:
            rows = await unit.fetch(_schema_statement(), {})
    except TimeoutError:
        raise DatabaseTimeout from None
    schema = schema_of(", ".join(sorted(revision for revision, _ in rows)), rows[0][1] if rows else None)
    schema.require()
    return schema


def _schema_statement() -> Statement[tuple[Any, ...]]:
    note = sa.func.obj_description(sa.func.to_regclass(f"public.{VERSION_TABLE}"), "pg_class")
    return tuples("health.ready", sa.select(_VERSIONS.c.version_num, note), is_scoped=False)
