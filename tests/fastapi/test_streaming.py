"""Endpoints that yield: a session that lives as long as its response, and ends with it however that ends."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse

from derwin_db import Database, repos
from derwin_db.errors import ScopeError
from derwin_db.fastapi import scoped
from derwin_db.models import Project, QATicket
from derwin_db.testing import factories

TICKETS = [factories.ticket(title=f"Number {number}") for number in range(1200)]


@pytest.fixture
async def filled(db: Database, project: Project) -> Project:
    """A project with more tickets than a cursor takes at once."""
    async with db.project(project.id) as session:
        await repos.qa_tickets.create_many(session, TICKETS)
    return project


class Exchange:
    """One request by hand: the client reads chunk by chunk, and may go away."""

    def __init__(self, app: FastAPI, path: str) -> None:
        self.messages: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)
        self.gone = asyncio.Event()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
            "root_path": "",
            "server": ("service", 80),
            "client": ("client", 1),
        }
        self.task = asyncio.create_task(app(scope, self._receive, self.messages.put))
        self._is_sent = False

    async def _receive(self) -> Any:
        if not self._is_sent:
            self._is_sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}


class TestStream:
    async def test_lives_as_long_as_its_response(
        self, app: FastAPI, client: httpx.AsyncClient, scopes: Any, db: Database, filled: Project
    ) -> None:
        in_use: list[int] = []

        @app.get("/{project}")
        async def export(session: scopes.stream) -> AsyncIterator[QATicket]:
            async for ticket in repos.qa_tickets.stream(session):
                in_use.append(db.connections_in_use())
                yield ticket

        answer = await client.get(f"/{filled.slug}")
        lines = answer.text.splitlines()
        assert answer.headers["content-type"] == "application/jsonl"
        assert len(lines) == len(TICKETS) == len(in_use)
        assert QATicket.model_validate_json(lines[0]).title.startswith("Number")
        assert set(in_use) == {1}
        assert db.connections_in_use() == 0

    async def test_sends_events(
        self, app: FastAPI, client: httpx.AsyncClient, scopes: Any, db: Database, filled: Project
    ) -> None:
        @app.get("/{project}", response_class=EventSourceResponse)
        async def events(session: scopes.stream) -> AsyncIterator[QATicket]:
            async for ticket in repos.qa_tickets.stream(session):
                yield ticket

        answer = await client.get(f"/{filled.slug}")
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.count("data: {") == len(TICKETS)
        assert db.connections_in_use() == 0

    @pytest.mark.parametrize("kind", [None, EventSourceResponse])
    async def test_ends_when_the_client_goes_away(
        self, app: FastAPI, scopes: Any, db: Database, filled: Project, kind: Any
    ) -> None:
        options = {} if kind is None else {"response_class": kind}

        @app.get("/{project}", **options)
        async def export(session: scopes.stream) -> AsyncIterator[QATicket]:
            async for ticket in repos.qa_tickets.stream(session):
                yield ticket

        exchange = Exchange(app, f"/{filled.slug}")
        assert (await exchange.messages.get())["status"] == 200
        assert b"Number" in (await exchange.messages.get())["body"]
        assert db.connections_in_use() == 1
        exchange.gone.set()
        async with asyncio.timeout(10):
            while not exchange.task.done():
                await asyncio.wait([asyncio.create_task(exchange.messages.get()), exchange.task], timeout=0.05)
        error = exchange.task.exception()  # FastAPI's task group for events complains of the reader that is gone
        assert error is None if kind is None else isinstance(error, Exception | None)
        await db.close()
        assert db.connections_in_use() == 0

    async def test_leaves_its_connection_clean_for_the_next_unit(
        self, app: FastAPI, scopes: Any, db: Database, filled: Project, other_project: Project
    ) -> None:
        @app.get("/{project}")
        async def export(session: scopes.stream) -> AsyncIterator[QATicket]:
            async for ticket in repos.qa_tickets.stream(session):
                yield ticket

        exchange = Exchange(app, f"/{filled.slug}")
        await exchange.messages.get()
        exchange.task.cancel()
        await asyncio.wait([exchange.task])
        async with db.project(other_project.id) as session:
            assert await repos.qa_tickets.count(session) == 0
        assert db.connections_in_use() == 0

    async def test_of_an_unknown_project_is_not_found_instead_of_broken_off(
        self, app: FastAPI, client: httpx.AsyncClient, scopes: Any
    ) -> None:
        @app.get("/{project}")
        async def export(session: scopes.stream) -> AsyncIterator[QATicket]:
            async for ticket in repos.qa_tickets.stream(session):
                yield ticket

        answer = await client.get("/nobody")
        assert (answer.status_code, answer.json()["code"]) == (404, "project_not_found")

    def test_never_writes(self, db: Database) -> None:
        with pytest.raises(TypeError, match="only reads"):
            scoped(db, authorize=lambda: "acme", streaming=True)


class TestOtherSessions:
    async def test_are_closed_when_an_endpoint_yields(
        self, app: FastAPI, client: httpx.AsyncClient, scopes: Any, project: Project
    ) -> None:
        errors: list[BaseException] = []

        @app.get("/{project}", response_class=StreamingResponse)
        async def export(session: scopes.read) -> AsyncIterator[str]:
            try:
                await repos.qa_tickets.count(session)
            except ScopeError as error:
                errors.append(error)
            yield "."

        assert (await client.get(f"/{project.slug}")).text == "."
        assert len(errors) == 1
