"""The database starts before the first request and closes after the last, around the app's own lifespan."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI

from derwin_db import Database
from derwin_db.errors import DatabaseUnavailable
from derwin_db.fastapi import lifespan
from derwin_db.testing import TestDatabase


class Watched(Database):
    """A database that says what it does."""

    def __init__(self, database: TestDatabase) -> None:
        super().__init__(**database.urls)
        self.done: list[str] = []

    async def start(self) -> None:
        await super().start()
        self.done.append("start")

    async def close(self) -> None:
        await super().close()
        self.done.append("close")


class TestLifespan:
    async def test_starts_and_closes_the_database(self, migrated: TestDatabase) -> None:
        db = Watched(migrated)
        app = FastAPI(lifespan=lifespan(db))
        async with app.router.lifespan_context(app) as state:
            assert not state
            assert db.done == ["start"]
        assert db.done == ["start", "close"]

    async def test_is_around_the_apps_own(self, migrated: TestDatabase) -> None:
        db = Watched(migrated)

        @asynccontextmanager
        async def own(app: FastAPI) -> AsyncIterator[dict[str, str]]:
            db.done.append("own start")
            yield {"greeting": app.title}
            db.done.append("own end")

        app = FastAPI(title="Service", lifespan=lifespan(db, own))
        async with app.router.lifespan_context(app) as state:
            assert state == {"greeting": "Service"}
        assert db.done == ["start", "own start", "own end", "close"]

    async def test_closes_when_the_apps_own_fails(self, migrated: TestDatabase) -> None:
        db = Watched(migrated)

        @asynccontextmanager
        async def own(_: FastAPI) -> AsyncIterator[None]:
            raise RuntimeError
            yield

        app = FastAPI(lifespan=lifespan(db, own))
        with pytest.raises(RuntimeError):
            async with app.router.lifespan_context(app):
                pass
        assert db.done == ["start", "close"]

    async def test_keeps_a_service_down_that_has_no_database(self) -> None:
        app = FastAPI(lifespan=lifespan(Database("postgresql://nobody@127.0.0.1:1/nothing")))
        with pytest.raises(DatabaseUnavailable):
            async with app.router.lifespan_context(app):
                pass
