"""Fixtures of the tests past one machine: a primary with a streaming replica, and a PgBouncer before the shared server."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from derwin_db import Database
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase
from tests.faults.victim import Victim
from tests.missing import left_out
from tests.pgbouncer import Pooler
from tests.scale.cluster import Cluster

collect_ignore = left_out(__file__)


@pytest.fixture(scope="session")
def cluster(base: tuple[Victim, TestDatabase]) -> Iterator[Cluster]:
    """A primary and its replica."""
    made = Cluster(base)
    yield made
    made.remove()


@pytest.fixture
async def pair(cluster: Cluster) -> Cluster:
    """Both running, the replica abreast, whatever the test before did to them."""
    await asyncio.to_thread(cluster.mend)
    await cluster.abreast()
    return cluster


@pytest.fixture
async def replicated(pair: Cluster) -> AsyncIterator[Database]:
    """A `Database` that reads from the replica."""
    async with pair.open() as database:
        yield database


@pytest.fixture(scope="module")
def narrow(migrated: TestDatabase) -> Iterator[Pooler]:
    """A pooler before the shared server, with one server connection for all clients of a login."""
    pooler = Pooler.of(migrated, size=1)
    pooler.start()
    yield pooler
    pooler.remove()


@pytest.fixture(scope="module")
async def clients(migrated: TestDatabase, narrow: Pooler) -> AsyncIterator[tuple[Database, Database]]:
    """Two services on the one server connection, their operators on another one."""
    led = TestDatabase(migrated.owner, narrow.declared(migrated.service), narrow.declared(migrated.operator))
    settings = Settings(_env_file=None, pool_timeout=20, lock_timeout=20)
    async with Database(**led.urls, settings=settings) as one, Database(**led.urls, settings=settings) as two:
        yield one, two
