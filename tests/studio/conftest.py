"""A studio over real HTTP on a database with the demo, two projects that are filled alike, an empty one, and a hostile one."""

import os
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from derwin_db import Database, repos
from derwin_db.models import Project, ProjectCreate, ProjectType
from derwin_db.seed import seed_demo, seed_lifeline
from derwin_db.testing import Filled, TestDatabase, TestServer, create_filled
from tests.studio.browser import CHROMIUM
from tests.studio.hostile import fill_hostile
from tests.studio.serving import Studio, environment_of, started


@pytest.fixture(scope="package")
def database(server: TestServer) -> TestDatabase:
    return server.migrated()


@pytest.fixture(scope="package")
async def data(database: TestDatabase) -> AsyncIterator[Database]:
    """The database that the studio shows, with Lifeline and its demo in it."""
    async with Database(**database.urls) as opened:
        await seed_lifeline(opened)
        await seed_demo(opened)
        yield opened


@pytest.fixture(scope="package")
async def ours(data: Database) -> Filled:
    return await create_filled(data)


@pytest.fixture(scope="package")
async def theirs(data: Database) -> Filled:
    return await create_filled(data)


@pytest.fixture(scope="package")
async def empty(data: Database) -> Project:
    async with data.admin(reason="a project without rows") as admin:
        return await repos.projects.create(admin, ProjectCreate(slug="empty", name="Empty", type=ProjectType.OTHER))


@pytest.fixture(scope="package")
async def hostile(data: Database) -> Project:
    return await fill_hostile(data)


@pytest.fixture(scope="package")
def studio(database: TestDatabase, data: Database) -> Iterator[Studio]:
    with started("--port", "0", environment=environment_of(database)) as running:
        yield running


@pytest.fixture
async def client(studio: Studio) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who has the address."""
    async with httpx.AsyncClient(base_url=studio.url, timeout=30) as opened:
        yield opened


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a browser where there is none; in CI it has to be there, and the tests say that it is not."""
    if CHROMIUM is not None or os.environ.get("CI"):
        return
    without = [item for item in items if item.path.name == "test_browser.py"]
    if without:
        items[:] = [item for item in items if item not in without]
        config.hook.pytest_deselected(items=without)
        config.stash.setdefault(_LEFT_OUT, []).extend(without)


_LEFT_OUT: pytest.StashKey[list[pytest.Item]] = pytest.StashKey()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    count = len(config.stash.get(_LEFT_OUT, []))
    if count:
        terminalreporter.write_line(
            f"{count} tests of the studio need a browser and were left out: apt-get install chromium chromium-driver"
        )
