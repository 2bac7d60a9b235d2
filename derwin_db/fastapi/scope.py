"""`scoped`: a unit of work of one project as a FastAPI dependency, behind the service's own authorization."""

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends
from fastapi.requests import HTTPConnection

from derwin_db import repos
from derwin_db.database import Database
from derwin_db.errors import ProjectNotFound, ScopeError
from derwin_db.session import ProjectSession

Authorize = Callable[..., Any]
"""A dependency that returns the project (slug or id), or raises. May be async, and depend on whatever it likes."""


def scoped(db: Database, *, authorize: Authorize, read_only: bool = False, streaming: bool = False) -> Any:
    """Return the dependency that gives an endpoint its session, a unit of work of the project that it is about.

    The unit commits before the response is sent: a failing commit is never a 2xx. Any exception of the endpoint, an
    HTTPException too, rolls back. Dependencies and endpoint that ask for the same arguments share one unit a request.

    `streaming` is for endpoints that yield: the unit, which has to be `read_only`, ends with the response instead. It holds
    a connection and a transaction for as long, so a feed without an end opens a unit for each look.

    Errors:
        TypeError without `authorize`, or for a stream that writes. ProjectNotFound where it returns text that can't name a
        project; ScopeError where it returns no project at all.
    """
    if not callable(authorize):
        raise TypeError("scoped() wants authorize=..., a dependency that returns the project or raises.")
    if streaming and not read_only:
        raise TypeError("A stream only reads: its unit ends after the response, when a failing commit can't be told any more.")
    return Depends(ScopedUnit(db, authorize, read_only, streaming), scope="request" if streaming else "function")


def scoped_units(db: Database, *, authorize: Authorize, read_only: bool = False) -> Any:
    """Return the dependency for what lives longer than a unit of work may: web sockets, and streams without an end.

    It is a function that opens a unit of the project: one for each message, committed before it is acknowledged.

        async with unit() as session:
            ticket = await repos.qa_tickets.create(session, data)
        await socket.send_text(str(ticket.id))

    The project is authorized once, when the socket is opened.

    Errors:
        As for `scoped`.
    """
    if not callable(authorize):
        raise TypeError("scoped_units() wants authorize=..., a dependency that returns the project or raises.")
    return Depends(ScopedUnits(db, authorize, read_only, streaming=False), scope="request")


OpenUnit = Callable[[], ProjectSession]
"""What `scoped_units` gives: it opens a unit of work of the project."""


_IN_A_SOCKET = (
    "A web socket lives longer than a unit of work: what it stores would be committed when the socket is closed, and lost if "
    "that fails. Ask for scoped_units(...), and open one for each message: `async with unit() as session`."
)


class ScopedUnit:
    """The dependency itself. Two with the same arguments are equal, so that FastAPI makes one unit of them a request."""

    def __init__(self, db: Database, authorize: Authorize, read_only: bool, streaming: bool) -> None:
        self.is_read_only = read_only
        self._db = db
        self._streaming = streaming
        self._key = (type(self), db, authorize, read_only, streaming)
        project = inspect.Parameter("project", inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[Any, Depends(authorize)])
        connection = inspect.Parameter("connection", inspect.Parameter.KEYWORD_ONLY, annotation=HTTPConnection)
        self.__signature__: inspect.Signature = inspect.Signature([project, connection])

    async def __call__(self, *, project: object, connection: HTTPConnection) -> AsyncIterator[ProjectSession]:
        if connection.scope["type"] == "websocket" and not self.is_read_only:
            raise ScopeError(_IN_A_SOCKET)
        async with self._unit(project) as session:
            if self._streaming:
                await repos.projects.current(session)  # what can fail at the begin fails while there is a status to say it
            yield session

    def _unit(self, project: object) -> ProjectSession:
        if not isinstance(project, str | UUID) or not project:
            raise ScopeError("authorize=... returned no project: it returns a slug or an id, or raises.")
        try:
            return self._db.project(project, read_only=self.is_read_only)
        except ScopeError:
            raise ProjectNotFound from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScopedUnit) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


class ScopedUnits(ScopedUnit):
    """The dependency of `scoped_units`: units of the project, as many as are asked for."""

    async def __call__(self, *, project: object, connection: HTTPConnection) -> AsyncIterator[OpenUnit]:  # type: ignore[override]  # noqa: ARG002  # it gives what opens sessions
        yield lambda: self._unit(project)
