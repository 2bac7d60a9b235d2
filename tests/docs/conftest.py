"""Fixtures of the tests of documentation: what a page finds, as after `make seed` and the README's first minute."""

import os
from pathlib import Path

import pytest

from derwin_db.testing import TestDatabase, TestServer
from derwin_db.testing.server import url_of
from tests.forking import program

ROOT = Path(__file__).parents[2]
_SEED = """
import asyncio
from derwin_db import Database, repos
from derwin_db.cli import main
from derwin_db.models import ProjectCreate, ProjectType

async def acme():
    async with Database() as db, db.admin(reason="a test") as admin:
        await repos.projects.create(admin, ProjectCreate(slug="acme", name="Acme", type=ProjectType.CRM))

main(["seed"], standalone_mode=False)
asyncio.run(acme())
"""


@pytest.fixture(scope="session")
def seeded(server: TestServer) -> TestDatabase:
    """A database with the seed and a project called acme, to be copied."""
    database = server.migrated()
    result = program(_SEED, environment=_environment(database))
    assert result.returncode == 0, result.stderr
    return database


@pytest.fixture
def environment(server: TestServer, seeded: TestDatabase) -> dict[str, str]:
    """The environment of a process that works on a database of its own."""
    return environment_of(server, server.clone(seeded))


def environment_of(server: TestServer, database: TestDatabase) -> dict[str, str]:
    return {**_environment(database), "DERWIN_TEST_DATABASE_URL": url_of(server.owner)}


def _environment(database: TestDatabase) -> dict[str, str]:
    urls = {
        "DATABASE_URL": url_of(database.service),
        "ADMIN_URL": url_of(database.operator),
        "DIRECT_URL": url_of(database.owner),
    }
    return {**os.environ, "PYTHONPATH": str(ROOT), **urls}
