"""`override_scoped`: an app's requests in the test's own session, as close to the real thing as one transaction allows."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, FastAPI, HTTPException

from derwin_db import Database, Page, ProjectSession, repos
from derwin_db.fastapi import Paging, install_error_handlers, scoped
from derwin_db.models import Project, QATicket, QATicketCreate
from derwin_db.testing import override_scoped
from derwin_db.testing.factories import create_ticket, ticket
from derwin_db.testing.override import _OTHER_LOOP


def nobody(project: str) -> str:
    raise HTTPException(403)


@pytest.fixture
def app(db: Database) -> FastAPI:
    """A service that lets nobody in, with a router and a mounted app."""
    made = FastAPI()
    Scoped = Annotated[ProjectSession, scoped(db, authorize=nobody)]  # noqa: N806  # a type
    ReadScoped = Annotated[ProjectSession, scoped(db, authorize=nobody, read_only=True)]  # noqa: N806
    Streamed = Annotated[ProjectSession, scoped(db, authorize=nobody, read_only=True, streaming=True)]  # noqa: N806
    router = APIRouter(prefix="/{project}/tickets")

    @router.get("")
    async def tickets(session: ReadScoped, paging: Paging) -> Page[QATicket]:
        return await repos.qa_tickets.list(session, **paging)

    @router.post("", status_code=201)
    async def create(session: Scoped, data: QATicketCreate, fail: bool = False) -> QATicket:
        row = await repos.qa_tickets.create(session, data)
        if fail:
            raise HTTPException(418)
        return row

    @router.get("/export")
    async def export(session: Streamed) -> AsyncIterator[QATicket]:
        async for row in repos.qa_tickets.stream(session):
            yield row

    @router.post("/wrongly")
    async def wrongly(session: ReadScoped, data: QATicketCreate) -> None:
        await repos.qa_tickets.create(session, data)

    mounted = FastAPI()

    @mounted.get("/{project}")
    async def count(session: ReadScoped) -> int:
        return await repos.qa_tickets.count(session)

    made.include_router(router)
    made.mount("/mounted", mounted)
    install_error_handlers(made)
    return made


@pytest.fixture
async def client(app: FastAPI) -> Any:
    """A client of it."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as opened:
        yield opened


BODY = ticket().model_dump(mode="json")


class TestOverride:
    async def test_gives_every_request_the_session(
        self, app: FastAPI, client: httpx.AsyncClient, session: ProjectSession
    ) -> None:
        override_scoped(app, session)
        assert (await client.post("/any/tickets", json=BODY)).status_code == 201
        await create_ticket(session)
        assert len((await client.get("/any/tickets")).json()["items"]) == 2
        assert len((await client.get("/any/tickets/export")).text.splitlines()) == 2
        assert (await client.get("/mounted/any")).json() == 2
        assert await repos.qa_tickets.count(session) == 2

    async def test_ends(self, app: FastAPI, client: httpx.AsyncClient, session: ProjectSession) -> None:
        with override_scoped(app, session):
            assert (await client.get("/any/tickets")).status_code == 200
        assert (await client.get("/any/tickets")).status_code == 403
        assert (await client.get("/mounted/any")).status_code == 403
        assert not app.dependency_overrides

    async def test_commits_nothing(
        self, app: FastAPI, client: httpx.AsyncClient, session: ProjectSession, db: Database, project: Project
    ) -> None:
        override_scoped(app, session)
        await client.post("/any/tickets", json=BODY)
        async with db.project(project.id) as other:
            assert await repos.qa_tickets.count(other) == 0

    async def test_undoes_a_request_that_fails_alone(
        self, app: FastAPI, client: httpx.AsyncClient, session: ProjectSession
    ) -> None:
        override_scoped(app, session)
        assert (await client.post("/any/tickets", json=BODY)).status_code == 201
        assert (await client.post("/any/tickets", json=BODY, params={"fail": True})).status_code == 418
        unknown = {**BODY, "run_id": str(UUID(int=1))}
        assert (await client.post("/any/tickets", json=unknown)).status_code == 422
        assert (await client.post("/any/tickets", json=BODY)).status_code == 201
        assert await repos.qa_tickets.count(session) == 2

    async def test_of_a_session_that_reads_refuses_a_write_and_the_next_request_may(
        self, app: FastAPI, client: httpx.AsyncClient, session: ProjectSession
    ) -> None:
        override_scoped(app, session)
        assert (await client.post("/any/tickets/wrongly", json=BODY)).status_code == 500
        assert (await client.post("/any/tickets", json=BODY)).status_code == 201
        await create_ticket(session)

    async def test_says_that_the_app_runs_in_another_loop(
        self, app: FastAPI, session: ProjectSession, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As under Starlette's TestClient."""

        async def elsewhere() -> int:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                return (await client.get("/any/tickets")).status_code

        override_scoped(app, session)
        await create_ticket(session)
        assert await asyncio.to_thread(asyncio.run, elsewhere()) == 500
        assert _OTHER_LOOP in caplog.text
        assert await repos.qa_tickets.count(session) == 1

    async def test_in_a_fixture_that_is_not_async_takes_the_loop_of_the_test(
        self, app: FastAPI, client: httpx.AsyncClient, session: ProjectSession
    ) -> None:
        await asyncio.to_thread(override_scoped, app, session)  # no loop runs there
        assert (await client.post("/any/tickets", json=BODY)).status_code == 201
        assert await repos.qa_tickets.count(session) == 1

    async def test_by_the_fixture_is_undone_after_the_test(self, app: FastAPI, session: ProjectSession) -> None:
        from derwin_db.testing import plugin

        fixture = plugin.override_scoped.__wrapped__()
        next(fixture)(app, session)
        assert len(app.dependency_overrides) == 3
        assert next(fixture, None) is None
        assert not app.dependency_overrides
