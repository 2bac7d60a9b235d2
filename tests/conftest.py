"""Fixtures of all tests: one server a worker, a database at the newest revision, projects of one's own.

Tests run as the unprivileged logins of production. Each takes a project that nobody else has, so nothing has to be undone.
"""

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import asyncpg
import pytest

from derwin_db import Database, ProjectSession, repos
from derwin_db.fields.scalars import new_id
from derwin_db.models import ComplianceMode, Project, ProjectCreate, ProjectMode, ProjectType
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase, TestServer, choose_server
from tests.faults.victim import Victim, lent_base
from tests.missing import report
from tests.pgbouncer import pooled

PATIENT = Settings(lock_timeout=20, pool_timeout=20)
"""On a machine that is busy with other tests, a queue for one row takes its time."""


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: many tests wait, for servers that start and for limits of time."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_finish() -> None:
    """What is there when tests begin stays to the end: the garbage collector need not look at it, and comes more seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what this machine can't show. Here, not beside these files: with `-n` only workers read conftests there."""
    for line in report():
        terminalreporter.write_line(line, red=True, bold=True)


NewProject = Callable[..., Awaitable[Project]]


@pytest.fixture(scope="session")
def server() -> Iterator[TestServer]:
    """The server that this worker tests on."""
    with choose_server() as chosen, pooled(chosen) as led:
        yield led


@pytest.fixture(scope="session")
def migrated(server: TestServer) -> TestDatabase:
    """A database at the newest revision, for all tests that only add projects of their own."""
    return server.migrated()


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Victim, TestDatabase]]:
    """A stopped cluster with a migrated database, for tests that torment servers to copy."""
    shared = tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else None
    with lent_base(shared) as made:
        yield made


@pytest.fixture(scope="session")
async def db(migrated: TestDatabase) -> AsyncIterator[Database]:
    """A started `Database` on it, as a service has it."""
    async with Database(**migrated.urls, settings=PATIENT) as database:
        yield database


@pytest.fixture
async def own_database(server: TestServer) -> AsyncIterator[TestDatabase]:
    """A migrated database of one's own, for tests that change more than rows of a project."""
    database = await asyncio.to_thread(server.migrated)
    yield database
    await asyncio.to_thread(server.drop, database)


@pytest.fixture
async def owner(own_database: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection to a database of one's own."""
    connection = await asyncpg.connect(**own_database.owner.connect_arguments(), statement_cache_size=0)
    yield connection
    await connection.close(timeout=60)


@pytest.fixture
async def own_db(own_database: TestDatabase) -> AsyncIterator[Database]:
    """A started `Database` on a database of one's own."""
    async with Database(**own_database.urls, settings=PATIENT) as database:
        yield database


@pytest.fixture
def new_project(db: Database) -> NewProject:
    """Makes projects with slugs that nobody else has."""

    async def make(
        *, compliance_mode: ComplianceMode = ComplianceMode.STANDARD, mode: ProjectMode = ProjectMode.OBSERVE
    ) -> Project:
        async with db.admin(reason="a test") as admin:
            return await repos.projects.create(
                admin,
                ProjectCreate(
                    slug=f"p-{new_id().hex[-20:]}",
                    name="Test",
                    type=ProjectType.OTHER,
                    compliance_mode=compliance_mode,
                    mode=mode,
                ),
            )

    return make


@pytest.fixture
async def project(new_project: NewProject) -> Project:
    """A new project."""
    return await new_project()


@pytest.fixture
async def other_project(new_project: NewProject) -> Project:
    """Another new project."""
    return await new_project()


@pytest.fixture
async def session(db: Database, project: Project) -> AsyncIterator[ProjectSession]:
    """An open unit of work of the new project. A test that breaks it expects the error at its end itself."""
    unit = db.project(project.id)
    await unit.__aenter__()
    yield unit
    await unit._abandon()
