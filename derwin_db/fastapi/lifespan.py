"""`lifespan`: the database starts before the service takes requests, and closes after the last one."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI

from derwin_db.database import Database

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]


def lifespan(db: Database, app_lifespan: Callable[[Any], AbstractAsyncContextManager[Any]] | None = None) -> Lifespan:
    """Return the lifespan of an app: `FastAPI(lifespan=lifespan(db))`, or around the app's own one, which may use `db`.

    Errors:
        At start: what `Database.start` raises; the service does not come up on a schema that is not its own.
    """

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[Mapping[str, Any] | None]:
        async with db:
            if app_lifespan is None:
                yield None
            else:
                async with app_lifespan(app) as state:
                    yield state

    return run
