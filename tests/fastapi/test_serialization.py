"""Rows go out through Pydantic's own serializer: `jsonable_encoder` would walk through every value in Python."""

import json
from typing import Any

import fastapi.routing
import httpx
import pytest
from fastapi import FastAPI

from derwin_db import Database, Page, repos
from derwin_db.models import Project, QATicket
from derwin_db.testing import factories


@pytest.fixture
async def filled(db: Database, project: Project) -> Project:
    """A project with 50 tickets."""
    ticket = factories.ticket(title="Totals drift")
    async with db.project(project.id) as session:
        await repos.qa_tickets.create_many(session, [ticket] * 50)
    return project


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is walked through in Python."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("jsonable_encoder was called")

    monkeypatch.setattr(fastapi.routing, "jsonable_encoder", refuse)


@pytest.mark.usefixtures("refused")
class TestRows:
    async def test_of_a_page(self, app: FastAPI, client: httpx.AsyncClient, scopes: Any, db: Database, filled: Project) -> None:
        @app.get("/{project}")
        async def tickets(session: scopes.read) -> Page[QATicket]:
            return await repos.qa_tickets.list(session)

        body = (await client.get(f"/{filled.slug}")).json()
        async with db.project(filled.id) as session:
            rows = (await repos.qa_tickets.list(session)).items
        page = {"next_cursor": None, "total": None, "is_total_exact": None}
        assert body == {"items": [json.loads(row.model_dump_json()) for row in rows], **page}
        assert set(body["items"][0]) == set(QATicket.model_fields)

    async def test_alone_and_in_a_list(
        self, app: FastAPI, client: httpx.AsyncClient, scopes: Any, db: Database, filled: Project
    ) -> None:
        @app.get("/{project}")
        async def tickets(session: scopes.read) -> list[QATicket]:
            return (await repos.qa_tickets.list(session)).items

        @app.get("/{project}/one")
        async def ticket(session: scopes.read) -> QATicket:
            return (await repos.qa_tickets.list(session, limit=1)).items[0]

        listed = (await client.get(f"/{filled.slug}")).json()
        assert len(listed) == 50
        assert (await client.get(f"/{filled.slug}/one")).json() == listed[0]
