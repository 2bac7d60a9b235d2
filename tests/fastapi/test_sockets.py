"""Web sockets: what writes takes a unit for each message; what was acknowledged is stored, however the socket ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, WebSocket

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import ProjectNotFound
from derwin_db.fastapi import OpenUnit, install_error_handlers, scoped, scoped_units
from derwin_db.models import Project
from derwin_db.testing.factories import ticket
from derwin_db.testing.override import override_scoped


class Client:
    """The other end of a web socket."""

    def __init__(self) -> None:
        self.to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def say(self, text: str) -> str:
        await self.to_app.put({"type": "websocket.receive", "text": text})
        return (await self.from_app.get()).get("text", "")


@asynccontextmanager
async def opened(app: FastAPI, path: str, query: bytes = b"") -> AsyncIterator[Client]:
    """Yield a socket that is open; leaving the block is a client that goes away."""
    client = Client()
    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": [],
        "root_path": "",
    }
    await client.to_app.put({"type": "websocket.connect"})
    serving = asyncio.ensure_future(app(scope, client.to_app.get, client.from_app.put))
    client.first = await client.from_app.get()  # type: ignore[attr-defined]
    try:
        yield client
    finally:
        await client.to_app.put({"type": "websocket.disconnect", "code": 1001})
        await asyncio.wait([serving])
        serving.exception()


@pytest.fixture
def app(db: Database, project: Project) -> FastAPI:
    """A service with a socket of each kind."""

    def may_access(project: str) -> str:
        if project != slug:
            raise ProjectNotFound
        return project

    slug = project.slug
    Scoped = Annotated[ProjectSession, scoped(db, authorize=may_access)]  # noqa: N806  # a type
    ReadScoped = Annotated[ProjectSession, scoped(db, authorize=may_access, read_only=True)]  # noqa: N806
    Units = Annotated[OpenUnit, scoped_units(db, authorize=may_access)]  # noqa: N806
    service = FastAPI()
    install_error_handlers(service)

    @service.websocket("/{project}/one")
    async def one(socket: WebSocket, session: Scoped) -> None:
        await socket.accept()

    @service.websocket("/{project}/reading")
    async def reading(socket: WebSocket, session: ReadScoped) -> None:
        await socket.accept()
        await socket.receive_text()
        await socket.send_text(str(await repos.qa_tickets.count(session)))

    @service.websocket("/{project}/each")
    async def each(socket: WebSocket, unit: Units) -> None:
        await socket.accept()
        while True:
            title = await socket.receive_text()
            async with unit() as session:
                row = await repos.qa_tickets.create(session, ticket(title=title))
            await socket.send_text(str(row.id))

    return service


async def count(db: Database, project: Project) -> int:
    async with db.project(project.id) as session:
        return await repos.qa_tickets.count(session)


class TestSockets:
    async def test_a_unit_that_writes_is_refused(
        self, app: FastAPI, project: Project, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with opened(app, f"/{project.slug}/one") as client:
            assert (client.first["type"], client.first["code"], client.first["reason"]) == (
                "websocket.close",
                1011,
                "scope_error",
            )
        assert "scoped_units(...)" in caplog.text  # the log says what to write instead

    async def test_a_unit_that_reads_is_not(self, app: FastAPI, project: Project) -> None:
        async with opened(app, f"/{project.slug}/reading") as client:
            assert await client.say("how many?") == "0"

    async def test_what_was_acknowledged_is_stored(self, app: FastAPI, db: Database, project: Project) -> None:
        async with opened(app, f"/{project.slug}/each") as client:
            for number in range(3):
                assert await client.say(f"ticket {number}")
                assert await count(db, project) == number + 1  # before the socket ends, and whatever ends it
        assert await count(db, project) == 3
        assert db.connections_in_use() <= 1  # the fixture's own at most

    async def test_another_project_is_refused_before_it_is_open(self, app: FastAPI) -> None:
        async with opened(app, "/somebody-else/each") as client:
            assert (client.first["type"], client.first["reason"]) == ("websocket.close", "project_not_found")

    async def test_in_a_test_units_are_savepoints_of_its_session(
        self, app: FastAPI, db: Database, project: Project, session: ProjectSession
    ) -> None:
        with override_scoped(app, session):
            async with opened(app, f"/{project.slug}/each") as client:
                assert await client.say("a ticket")
        assert await repos.qa_tickets.count(session) == 1
        assert await count(db, project) == 0

    def test_they_need_an_authorization(self, db: Database) -> None:
        with pytest.raises(TypeError, match="authorize"):
            scoped_units(db, authorize=None)  # type: ignore[arg-type]


class TestTheService:
    async def test_stores_and_answers(self, db: Database) -> None:
        from examples.service.access import User
        from examples.service.routers import live

        assert User("Ada", frozenset({"lifeline"}), may_write=True).project_to_write("lifeline") == "lifeline"
        for user in (User("Rosa", frozenset({"lifeline"})), User("Otto", is_operator=True)):
            with pytest.raises(ProjectNotFound):
                user.project_to_write("lifeline")

        def refuse() -> AbstractAsyncContextManager[ProjectSession]:
            raise ProjectNotFound

        assert await live._stored(refuse, "{}") == {"error": "invalid_input"}  # type: ignore[arg-type]
        text = ticket().model_dump_json()
        assert await live._stored(refuse, text) == {"error": "project_not_found"}  # type: ignore[arg-type]
