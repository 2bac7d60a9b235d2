"""A service's own fenced tables in the studio: beside ours, with the same lists, and linked both ways."""

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from alembic import command
from derwin_db import Database, repos
from derwin_db.models import ProjectCreate, ProjectType, QATicketCreate
from derwin_db.studio import create_app
from derwin_db.testing import TestDatabase, TestServer
from derwin_db.testing.examples import example
from examples.service.tables import WebhookCreate, WebhookEvent, webhooks
from tests.studio.serving import environment_of, run, started
from tests.studio.test_pages import row_links, words
from tests.tables.conftest import service_chain

TABLE = "p/hooked/tables/webhooks"


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
        assert "webhooks" in (await inside.get("p/hooked/schema")).text

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
