"""Fixtures of the tests of a service's own tables: a database with both chains, ours and the example service's."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.config import Config

from alembic import command
from derwin_db import Database, ProjectSession, repos
from derwin_db.deploy.migrations import MigrationSettings
from derwin_db.fields.scalars import new_id
from derwin_db.models import Project, ProjectCreate, ProjectType
from derwin_db.testing import TestDatabase, TestServer
from tests.conftest import PATIENT

SERVICE = Path(__file__).parents[2] / "examples" / "service" / "alembic.ini"


def service_chain(database: TestDatabase) -> Config:
    """Return the configuration of the example service's chain for this database."""
    config = Config(str(SERVICE))
    config.attributes["derwin_migration"] = MigrationSettings(database.owner)
    return config


@pytest.fixture(scope="package")
async def chains(server: TestServer) -> TestDatabase:
    """A database at the newest revision of both chains. Nobody connects to it, so that it can be cloned."""
    database = await asyncio.to_thread(server.migrated)
    await asyncio.to_thread(command.upgrade, service_chain(database), "head")
    return database


@pytest.fixture(scope="package")
async def both(server: TestServer, chains: TestDatabase) -> TestDatabase:
    """A database at the newest revision of both chains."""
    return await asyncio.to_thread(server.clone, chains)


@pytest.fixture
async def own(server: TestServer, chains: TestDatabase) -> AsyncIterator[TestDatabase]:
    """A database of one's own with both chains, to be damaged."""
    database = await asyncio.to_thread(server.clone, chains)
    yield database
    await asyncio.to_thread(server.drop, database)


@pytest.fixture(scope="package")
async def db(both: TestDatabase) -> AsyncIterator[Database]:
    async with Database(**both.urls, settings=PATIENT) as database:
        yield database


async def _a_project(db: Database) -> Project:
    async with db.admin(reason="a test") as admin:
        slug = f"own-{new_id().hex[-20:]}"
        return await repos.projects.create(admin, ProjectCreate(slug=slug, name="Own", type=ProjectType.OTHER))


@pytest.fixture
async def project(db: Database) -> Project:
    return await _a_project(db)


@pytest.fixture
async def other_project(db: Database) -> Project:
    return await _a_project(db)


@pytest.fixture
async def session(db: Database, project: Project) -> AsyncIterator[ProjectSession]:
    unit = db.project(project.id)
    await unit.__aenter__()
    yield unit
    await unit._abandon()
