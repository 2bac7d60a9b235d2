"""`health_router`: whether the process lives, and whether it can serve."""

import asyncio
import logging
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import BaseModel

from derwin_db.connection.facts import schema_out_of_date
from derwin_db.database import Database
from derwin_db.errors import DatabaseTimeout, DerwinError
from derwin_db.fastapi.problem import failure
from derwin_db.query.statement import Statement, scalars
from derwin_db.sql import HEAD_REVISION, VERSION_TABLE

logger: logging.Logger = logging.getLogger("derwin_db.fastapi")

_VERSIONS = sa.table(VERSION_TABLE, sa.column("version_num", sa.String), schema="public")


class Health(BaseModel):
    """What a healthy service answers."""

    status: str = "ok"


def health_router(db: Database, *, timeout: float = 5.0) -> APIRouter:
    """Return the routes `/health/live` (the process answers) and `/health/ready` (a statement reached the database).

    Ready is 503, as a problem, while the database is away, too slow, or of another schema than this code.

    Units:
        `timeout` is how long it may take in all, in seconds.
    """
    router = APIRouter(prefix="/health", tags=["health"])

    @router.get("/live", summary="Whether the process answers")
    async def live() -> Health:
        return Health()

    @router.get("/ready", summary="Whether the service can serve", response_model=Health)
    async def ready() -> Any:
        error = await _look(db, timeout)
        if error is None:
            return Health()
        logger.warning("not ready: %s", error.message)
        return failure(error, 503)

    return router


async def _look(db: Database, seconds: float) -> DerwinError | None:
    """Run a statement through the pool of the service, as the role that serves."""
    try:
        async with asyncio.timeout(seconds), db.probe() as unit:
            revisions = await unit.fetch(_revision_statement(), {})
    except TimeoutError:
        return DatabaseTimeout()
    except DerwinError as error:
        return error
    return None if revisions == [HEAD_REVISION] else schema_out_of_date(", ".join(sorted(revisions)))


def _revision_statement() -> Statement[Any]:
    return scalars("health.ready", sa.select(_VERSIONS.c.version_num), is_scoped=False)
