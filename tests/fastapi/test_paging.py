"""Paging: checked before anything is opened, and handed on as keywords."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from derwin_db import Database, Page, repos
from derwin_db.fastapi import Paging
from derwin_db.models import Project, QATicket, TicketStatus
from derwin_db.testing import factories

TICKET = factories.ticket(title="Totals drift")


@pytest.fixture
def listed(app: FastAPI, scopes: Any) -> FastAPI:
    """The endpoint of the README."""

    @app.get("/projects/{project}/tickets")
    async def tickets(session: scopes.read, paging: Paging, status: TicketStatus | None = None) -> Page[QATicket]:
        return await repos.qa_tickets.list(session, status=status, **paging)

    return app


class TestPaging:
    async def test_goes_through_all_pages(
        self, listed: FastAPI, client: httpx.AsyncClient, db: Database, project: Project
    ) -> None:
        async with db.project(project.id) as session:
            await repos.qa_tickets.create_many(session, [TICKET] * 7)
        path, cursor, ids, sizes = f"/projects/{project.slug}/tickets", None, [], []
        while True:
            page = (
                await client.get(path, params={"limit": 3, "status": "OPEN", **({"cursor": cursor} if cursor else {})})
            ).json()
            ids += [item["id"] for item in page["items"]]
            sizes.append(len(page["items"]))
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert (sizes, len(set(ids))) == ([3, 3, 1], 7)

    @pytest.mark.parametrize(
        "limit",
        ["0", "-1", "501", "1000000000", "9" * 5000, "1e3", "1.0", "+1", " 1", "1_0", "\uff15", "", "true", "null", "0x1"],
    )
    async def test_refuses_what_is_no_number_of_1_to_500(
        self, listed: FastAPI, client: httpx.AsyncClient, project: Project, limit: str
    ) -> None:
        answer = await client.get(f"/projects/{project.slug}/tickets", params={"limit": limit})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "query.limit"

    @pytest.mark.parametrize("limit", ["1", "500", "050"])
    async def test_takes_1_to_500(self, listed: FastAPI, client: httpx.AsyncClient, project: Project, limit: str) -> None:
        assert (await client.get(f"/projects/{project.slug}/tickets", params={"limit": limit})).status_code == 200

    @pytest.mark.parametrize("cursor", ["", "x", "A" * 48, "é" * 48, "\0", "A" * 60_000])
    async def test_of_a_cursor_that_nobody_made_is_400(
        self, listed: FastAPI, client: httpx.AsyncClient, project: Project, cursor: str
    ) -> None:
        answer = await client.get(f"/projects/{project.slug}/tickets", params={"cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")

    async def test_is_described_with_its_bounds(self, listed: FastAPI) -> None:
        parameters = {
            each["name"]: each for each in listed.openapi()["paths"]["/projects/{project}/tickets"]["get"]["parameters"]
        }
        limit = parameters["limit"]["schema"]
        assert (limit["type"], limit["minimum"], limit["maximum"], limit["default"]) == ("integer", 1, 500, 50)
        assert parameters["cursor"]["required"] is False
