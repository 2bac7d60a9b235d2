"""A database on a real cluster, and two projects on different workers. Needs DERWIN_TEST_CITUS_URL: a coordinator, as an
administrator."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from derwin_db import Database, repos
from derwin_db.connection.driver import connect
from derwin_db.models import ProjectCreate, ProjectType
from derwin_db.settings import ConnectionInfo, Settings
from derwin_db.testing import TestDatabase
from tests.missing import left_out
from tests.repos.filling import fill

collect_ignore = left_out(__file__)

PLACE = """
SELECT n.nodename, n.nodeport FROM pg_dist_placement p JOIN pg_dist_node n USING (groupid)
WHERE p.shardid = get_shard_id_for_distribution_column('public.projects', $1::uuid)
"""


@dataclass(frozen=True)
class Neighbours:
    """Two projects with rows in all tables, whose shards are on different workers."""

    db: Database
    one: UUID
    other: UUID


async def place_of(database: TestDatabase, project: UUID) -> tuple[str, int]:
    """The worker that holds the project."""
    connection = await connect(database.owner)
    try:
        row = await connection.fetchrow(PLACE, project)
    finally:
        await connection.close()
    return row["nodename"], row["nodeport"]


async def apart(db: Database, database: TestDatabase, prefix: str) -> tuple[UUID, UUID]:
    """Create two projects on different workers."""
    seen: dict[tuple[str, int], UUID] = {}
    for number in range(100):
        async with db.admin(reason="a test") as admin:
            data = ProjectCreate(slug=f"{prefix}-{number}", name="Test", type=ProjectType.OTHER)
            project = (await repos.projects.create(admin, data)).id
        seen.setdefault(await place_of(database, project), project)
        if len(seen) == 2:
            one, other = seen.values()
            return one, other
    raise AssertionError("a cluster of two workers is needed")


@pytest.fixture(scope="session")
async def neighbours(db: Database, migrated: TestDatabase) -> Neighbours:
    one, other = await apart(db, migrated, "neighbour")
    for project in (one, other):
        await fill(db, project)
    return Neighbours(db, one, other)


@pytest.fixture
async def owner(migrated: TestDatabase) -> AsyncIterator[Any]:
    connection = await connect(migrated.owner)
    yield connection
    await connection.close()


@pytest.fixture
async def single(migrated: TestDatabase) -> AsyncIterator[Database]:
    """A `Database` of one connection in each pool: what a unit leaves behind, the next one meets."""
    async with Database(**migrated.urls, settings=Settings(pool_size=1)) as database:
        yield database


def on_worker(database: TestDatabase, place: tuple[str, int]) -> ConnectionInfo:
    """The administrator's login on a worker, in this database."""
    from dataclasses import replace

    return replace(database.owner, host=place[0], port=place[1])
