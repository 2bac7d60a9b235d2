"""`override_scoped`: an app's sessions are the test's own, so that its requests are rolled back with the test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Self

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount

from derwin_db.errors import ScopeError
from derwin_db.fastapi.scope import ScopedUnit, ScopedUnits
from derwin_db.session import ProjectSession

_OTHER_LOOP = (
    "The app runs in another event loop than the test's session (Starlette's TestClient starts one). Call it through "
    "httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url='http://test')."
)


def override_scoped(app: FastAPI, session: ProjectSession) -> "Override":
    """Have every `scoped(...)` of the app's routes give `session`. Undone by `.undo()`, or at the end of a `with` block.

    A FastAPI dependency override: `authorize` is not asked. Each request is a savepoint of the session: one that fails
    undoes its own work alone. Sessions that only read refuse writes as ever. `after_commit` callbacks do not run: nothing
    commits. Call it when all routes are in place.

    Errors:
        ScopeError where a request runs in another event loop than the test.
    """
    return Override(app, session)


class Override:
    """What `override_scoped` has put in place."""

    def __init__(self, app: FastAPI, session: ProjectSession) -> None:
        self._undo: list[tuple[dict[Any, Any], ScopedUnit]] = []
        loop = _loop_of_the_fixture()
        for overrides, unit in _units(app):
            many = isinstance(unit, ScopedUnits)
            make = _requests_of if many else _request_of
            overrides[unit] = make(session, loop, is_read_only=unit.is_read_only)
            self._undo.append((overrides, unit))

    def undo(self) -> None:
        """Give the app its own sessions again."""
        for overrides, unit in self._undo:
            overrides.pop(unit, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


def _loop_of_the_fixture() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs; None in a fixture that is not async."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _request_of(
    session: ProjectSession, loop: asyncio.AbstractEventLoop | None, *, is_read_only: bool
) -> Callable[[], AsyncIterator[ProjectSession]]:
    async def request() -> AsyncIterator[ProjectSession]:
        if loop is not None and loop is not asyncio.get_running_loop():
            raise ScopeError(_OTHER_LOOP)
        async with session.savepoint():
            await session.hold_to_reading(is_read_only=is_read_only)
            yield session

    return request


def _requests_of(
    session: ProjectSession, loop: asyncio.AbstractEventLoop | None, *, is_read_only: bool
) -> Callable[[], Callable[[], Any]]:
    """Return what stands in for `scoped_units`: each unit that it opens is a savepoint."""
    request = _request_of(session, loop, is_read_only=is_read_only)
    return lambda: asynccontextmanager(request)


def _units(app: FastAPI) -> Iterator[tuple[dict[Any, Any], ScopedUnit]]:
    """Find the sessions of all routes, mounted apps included, and where each app looks for its overrides."""
    for context in iter_route_contexts(app.routes):
        dependant = getattr(context, "dependant", None)
        if isinstance(dependant, Dependant):
            yield from ((app.dependency_overrides, unit) for unit in _of_dependant(dependant))
        route = context.original_route
        if isinstance(route, Mount) and isinstance(route.app, FastAPI):
            yield from _units(route.app)


def _of_dependant(dependant: Dependant) -> Iterator[ScopedUnit]:
    if isinstance(dependant.call, ScopedUnit):
        yield dependant.call
    for inner in dependant.dependencies:
        yield from _of_dependant(inner)
