"""A service's own fenced tables in the studio: beside ours, with the same lists, and linked both ways."""

import asyncio
import csv
import io
import json
import re
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest

from alembic import command
from derwin_db import Database, repos
from derwin_db.models import ProjectCreate, ProjectType, QATicketCreate
from derwin_db.repos.own import repositories
from derwin_db.studio import create_app
from derwin_db.studio.related import names_of
from derwin_db.studio.views import Views, _unarranged
from derwin_db.tables import Repository
from derwin_db.testing import TestDatabase, TestServer
from derwin_db.testing.examples import example
from examples.service.tables import WebhookCreate, WebhookEvent, webhooks
from tests.studio.serving import environment_of, run, started
from tests.studio.test_pages import row_links, words
from tests.tables.conftest import service_chain
from tests.tables.test_columns import Box, BoxCreate, Part, PartCreate, a_part, create_and_fence
from tests.tables.test_log import a_project_of, as_operations

TABLE = "p/hooked/tables/webhooks"
LOOSE = "CREATE TABLE own_loose (project_id uuid REFERENCES projects ON DELETE CASCADE)"


@pytest.fixture(scope="module")
async def both(server: TestServer) -> TestDatabase:
    """A database at the newest revision of both chains, with three webhooks of one project and one of another."""
    database = await asyncio.to_thread(server.migrated)
    await asyncio.to_thread(command.upgrade, service_chain(database), "head")
    async with Database(**database.urls) as db:
        for slug in ("hooked", "other"):
            async with db.admin(reason="a test") as admin:
                await repos.projects.create(admin, ProjectCreate(slug=slug, name=slug, type=ProjectType.OTHER))
            async with db.project(slug) as session:
                ticket = await repos.qa_tickets.create(session, example(QATicketCreate, title=f"A ticket of {slug}"))
                for number, event in enumerate((WebhookEvent.TICKET_OPENED, WebhookEvent.TICKET_RESOLVED)):
                    url = f"https://{slug}.example/{number}"
                    ticket_id = None if number else ticket.id
                    await webhooks.create(session, WebhookCreate(url=url, event=event, ticket_id=ticket_id))
    return database


@pytest.fixture(scope="module")
async def inside(both: TestDatabase) -> AsyncIterator[httpx.AsyncClient]:
    async with Database(**both.urls) as db:
        transport = httpx.ASGITransport(app=create_app(db, token="secret"))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost/secret/") as opened:
            yield opened


class TestOwnTables:
    async def test_stand_beside_ours(self, inside: httpx.AsyncClient) -> None:
        text = words((await inside.get("p/hooked/tables")).text)
        assert "Webhooks of the service webhooks 2 " in text
        section = (await inside.get("p/hooked/schema")).text.partition('aria-labelledby="webhooks"')[2]
        assert "Unique url, event Indexes created_at DESC, id DESC; ticket_id" in words(section)

    async def test_have_the_lists_of_their_repository(self, inside: httpx.AsyncClient) -> None:
        every = row_links((await inside.get(TABLE)).text)
        opened = (await inside.get(f"{TABLE}?event=TICKET_OPENED&event=TICKET_RESOLVED&is-none=ticket_id")).text
        wrong = await inside.get(f"{TABLE}?min_version=many")
        assert (len(every), len(row_links(opened))) == (2, 1)
        assert (wrong.status_code, "Version at least" in wrong.text) == (422, True)
        lines = list(csv.reader(io.StringIO((await inside.get(f"{TABLE}.csv?with-column=url&with-column=version")).text)))
        assert [line[1:] for line in lines] == [
            ["url", "version"],
            ["https://hooked.example/1", "1"],
            ["https://hooked.example/0", "1"],
        ]

    async def test_lead_to_ours_and_back(self, inside: httpx.AsyncClient) -> None:
        text = (await inside.get(TABLE)).text
        found = re.search(r'<a href="/secret/(p/hooked/tables/qa_tickets/[^"]+)">A ticket of hooked</a>', text)
        assert found is not None
        assert "tables/webhooks?ticket_id=" in (await inside.get(found[1])).text

    async def test_show_nothing_of_another_project(self, inside: httpx.AsyncClient) -> None:
        other = row_links((await inside.get("p/other/tables/webhooks")).text)[0].rpartition("/")[2]
        assert (await inside.get(f"{TABLE}/{other}")).status_code == 404
        assert "other.example" not in (await inside.get(TABLE)).text


@pytest.fixture(scope="module")
async def odd(server: TestServer) -> AsyncIterator[httpx.AsyncClient]:
    database = await asyncio.to_thread(server.migrated)
    await as_operations(database, create_and_fence)
    await as_operations(database, lambda op: op.execute(LOOSE))
    parts, boxes = Repository(Part, create=PartCreate), Repository(Box, create=BoxCreate)
    async with Database(**database.urls) as db:
        project = await a_project_of(db)
        async with db.project(project.id) as session:
            for number, changes in enumerate(({}, {"code": b"\xff", "weight": float("nan")})):
                await parts.create(session, a_part(number).model_copy(update=changes))
            await boxes.create(session, BoxCreate(unit="kg", part="Part 1"))
        app = create_app(db, token="secret")
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        base = f"http://localhost/secret/p/{project.slug}/tables/"
        async with httpx.AsyncClient(transport=transport, base_url=base) as opened:
            yield opened
    del repositories["own_parts"], repositories["own_boxes"]


class TestOddTables:
    """Columns of kinds that ours do not have, a key to a table that is no project's, and one to another column than an id."""

    @pytest.mark.parametrize("table", ["own_parts", "own_boxes"])
    async def test_have_lists_and_rows(self, odd: httpx.AsyncClient, table: str) -> None:
        links = row_links((await odd.get(table)).text)
        assert links
        for link in links:
            response = await odd.get(link.partition("tables/")[2])
            assert (response.status_code, f"<h1>{'kg' if table == 'own_boxes' else ''}" in response.text) == (200, True)

    async def test_one_that_is_not_fenced_is_not_named(self, odd: httpx.AsyncClient) -> None:
        text = (await odd.get("../tables")).text
        assert ("own_parts" in text, "own_loose" in text) == (True, False)

    async def test_show_their_first_columns_behind_them_references_and_the_time(self, odd: httpx.AsyncClient) -> None:
        part, webhook = (_unarranged(name, is_own=True) for name in ("own_parts", "webhooks"))
        assert part.columns == ("kind", "user", "end", "seenBy", "weight", "shelf", "is_sold")
        assert webhook.columns == ("url", "event", "note", "version", "ticket_id", "created_at")
        assert (webhook.title, webhook.name_of(SimpleNamespace(url="there"))) == ("Webhooks", "there")

    async def test_bytes_are_digits(self, odd: httpx.AsyncClient) -> None:
        query = "with-column=code&with-column=weight&with-column=lasts"
        page = (await odd.get(f"own_parts?{query}")).text
        lines = list(csv.reader(io.StringIO((await odd.get(f"own_parts.csv?{query}")).text)))
        rows: list[dict[str, Any]] = json.loads((await odd.get(f"own_parts.json?{query}")).text)
        assert "<td>ff</td>" in page
        assert [dict(zip(lines[0], line, strict=True))["code"] for line in lines[1:]] == ["ff", "00"]
        assert [(row["code"], row["weight"], row["lasts"]) for row in rows] == [("ff", None, "PT1H"), ("00", 0.0, "PT0S")]

    @pytest.mark.parametrize(("digits", "expected"), [("ff", (200, 1)), ("01", (200, 0)), ("f", (422, 0)), ("zz", (422, 0))])
    async def test_bytes_are_asked_for_by_their_digits(
        self, odd: httpx.AsyncClient, digits: str, expected: tuple[int, int]
    ) -> None:
        response = await odd.get("own_parts", params={"code": digits})
        assert (response.status_code, len(row_links(response.text))) == expected

    async def test_values_of_an_enumeration_are_offered_and_found(self, odd: httpx.AsyncClient) -> None:
        text = (await odd.get("own_parts?kind=used")).text
        offered = re.findall(r'<input type="checkbox" name="kind" value="([^"]+)"( checked)?>', text)
        assert offered == [("new", ""), ("used", " checked"), ("can&#39;t be {sold}", "")]
        assert len(row_links(text)) == 1

    async def test_what_the_server_alone_refuses_is_said(self, odd: httpx.AsyncClient) -> None:
        response = await odd.get("own_parts?shelf=99999")
        assert (response.status_code, "does not fit its column" in response.text) == (422, True)

    async def test_what_has_no_repository_here_is_not_named(self) -> None:
        view: Any = SimpleNamespace(references={"box_id": "own_boxes"})
        session: Any = None
        assert await names_of(session, Views(), view, [SimpleNamespace(box_id=UUID(int=1))]) == {}


class TestCommand:
    async def test_a_module_brings_its_tables_and_without_it_they_are_named(self, both: TestDatabase) -> None:
        with started("--port", "0", environment=environment_of(both)) as studio:
            async with httpx.AsyncClient(base_url=studio.url, timeout=30) as client:
                without = (await client.get("p/hooked/tables")).text
                missing = await client.get(TABLE)
        with started("--port", "0", "--tables", "examples.service.tables", environment=environment_of(both)) as studio:
            async with httpx.AsyncClient(base_url=studio.url, timeout=30) as client:
                shown = row_links((await client.get(TABLE)).text)
        assert ("--tables my_service.tables" in without, "<code>webhooks</code>" in without) == (True, True)
        assert missing.status_code == 404
        assert len(shown) == 2

    @pytest.mark.parametrize(("module", "why"), [("no_such_module", "No module named"), ("json", "makes no")])
    def test_a_module_without_tables_is_wrong_usage(self, both: TestDatabase, module: str, why: str) -> None:
        result = run("--tables", module, environment=environment_of(both))
        assert (result.returncode, why in result.stderr) == (2, True)
