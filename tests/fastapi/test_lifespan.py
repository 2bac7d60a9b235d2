"""The database starts before the first request and closes after the last, around the app's own lifespan."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from derwin_db import Database
from derwin_db.errors import DatabaseUnavailable
from derwin_db.fastapi import lifespan
from derwin_db.testing import TestDatabase


def is_started(db: Database) -> bool:
    return db._app is not None


class TestLifespan:
    async def test_starts_and_closes_the_database(self, migrated: TestDatabase) -> None:
        db = Database(**migrated.urls)
        app = FastAPI(lifespan=lifespan(db))
        async with app.router.lifespan_context(app) as state:
            assert state is None or state == {}
            assert is_started(db)
        assert not is_started(db)

    async def test_is_around_the_apps_own(self, migrated: TestDatabase) -> None:
        db = Database(**migrated.urls)
        seen: list[Any] = []

        @asynccontextmanager
        async def own(app: FastAPI) -> AsyncIterator[dict[str, str]]:
            seen.append(is_started(db))
            yield {"greeting": app.title}
            seen.append(is_started(db))

        app = FastAPI(title="Service", lifespan=lifespan(db, own))
        async with app.router.lifespan_context(app) as state:
            assert state == {"greeting": "Service"}
        assert seen == [True, True]
        assert not is_started(db)

    async def test_closes_when_the_apps_own_fails(self, migrated: TestDatabase) -> None:
        db = Database(**migrated.urls)

        @asynccontextmanager
        async def own(_: FastAPI) -> AsyncIterator[None]:
            raise RuntimeError
            yield

        app = FastAPI(lifespan=lifespan(db, own))
        with pytest.raises(RuntimeError):
            async with app.router.lifespan_context(app):
                pass
        assert not is_started(db)

    async def test_keeps_a_service_down_that_has_no_database(self) -> None:
        app = FastAPI(lifespan=lifespan(Database("postgresql://nobody@127.0.0.1:1/nothing")))
        with pytest.raises(DatabaseUnavailable):
            async with app.router.lifespan_context(app):
                pass
