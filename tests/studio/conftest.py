"""A studio over real HTTP on a database with the demo, two projects that are filled alike, an empty one, and a hostile one."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
import pytest

from derwin_db import Database, repos
from derwin_db.models import Project, ProjectCreate, ProjectType
from derwin_db.seed import seed_demo, seed_lifeline
from derwin_db.studio import create_app
from derwin_db.studio.views import VIEWS
from derwin_db.testing import Filled, TestDatabase, TestServer, create_filled
from tests.missing import left_out
from tests.studio.hostile import fill_hostile
from tests.studio.pages import pages_of
from tests.studio.serving import Studio, environment_of, started

collect_ignore = left_out(__file__)


@pytest.fixture(scope="session")
def database(server: TestServer) -> TestDatabase:
    return server.migrated()


@pytest.fixture(scope="session")
async def data(database: TestDatabase) -> AsyncIterator[Database]:
    """The database that the studio shows, with Lifeline and its demo in it."""
    async with Database(**database.urls) as opened:
        await seed_lifeline(opened)
        await seed_demo(opened)
        yield opened


@pytest.fixture(scope="session")
async def ours(data: Database) -> Filled:
    return await create_filled(data)


@pytest.fixture(scope="session")
async def theirs(data: Database) -> Filled:
    return await create_filled(data)


@pytest.fixture(scope="session")
async def empty(data: Database) -> Project:
    async with data.admin(reason="a project without rows") as admin:
        return await repos.projects.create(admin, ProjectCreate(slug="empty", name="Empty", type=ProjectType.OTHER))


@pytest.fixture(scope="session")
async def hostile(data: Database) -> Project:
    return await fill_hostile(data)


@pytest.fixture(scope="session")
def studio(database: TestDatabase, data: Database) -> Iterator[Studio]:
    with started("--port", "0", "--sql", environment=environment_of(database)) as running:
        yield running


@dataclass(frozen=True)
class Visit:
    """Every page of a project, looked at once."""

    pages: dict[str, httpx.Response]
    before: dict[str, list[str]]
    after: dict[str, list[str]]
    """Its rows, by table."""


@pytest.fixture(scope="session")
async def visit(studio: Studio, data: Database, ours: Filled, theirs: Filled) -> Visit:
    """Every page of `ours`, with `theirs` beside it."""
    before = await _rows(data, ours)
    async with httpx.AsyncClient(base_url=studio.url, timeout=30, verify=False) as client:
        pages = {page: await client.get(page) for page in await pages_of(data, ours.slug)}
    return Visit(pages, before, await _rows(data, ours))


async def _rows(data: Database, filled: Filled) -> dict[str, list[str]]:
    async with data.project(filled.slug, read_only=True) as session:
        return {name: [row.model_dump_json() async for row in view.repository.stream(session)] for name, view in VIEWS.items()}


@pytest.fixture
async def client(studio: Studio) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who has the address. No certificates are loaded, which takes longer than a page: the address is http."""
    async with httpx.AsyncClient(base_url=studio.url, timeout=30, verify=False) as opened:
        yield opened


@pytest.fixture
async def inside(database: TestDatabase, data: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with Database(**database.urls) as db:
        transport = httpx.ASGITransport(app=create_app(db, token="secret", takes_sql=True))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost/secret/") as opened:
            yield opened
