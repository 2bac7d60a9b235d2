"""A primary that goes away, and a standby that is promoted: one URL names both, and a service goes on by itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import pytest

from derwin_db import Database, repos
from derwin_db.connection import hosts
from derwin_db.connection.driver import connect, connect_pooled
from derwin_db.errors import DatabaseUnavailable, DerwinError, OutcomeUnknown
from derwin_db.settings import ConnectionInfo
from derwin_db.settings.url import TargetServer
from derwin_db.testing import TestDatabase
from tests.faults.conftest import settings
from tests.faults.load import make_ticket, new_project
from tests.faults.victim import Victim
from tests.scale.cluster import Cluster


@pytest.fixture(scope="module")
def cluster(base: tuple[Victim, TestDatabase]) -> Iterator[Cluster]:
    """A primary and its standby."""
    made = Cluster(base)
    yield made
    made.remove()


@pytest.fixture
def another_cluster(base: tuple[Victim, TestDatabase]) -> Iterator[Cluster]:
    """A primary and its standby, for one test: nothing makes a standby again of one that was promoted."""
    made = Cluster(base)
    yield made
    made.remove()


def both(cluster: Cluster, login: ConnectionInfo, target: str = "read-write") -> str:
    """Return the URL of a login that names both servers, the first one first."""
    servers = (cluster.primary, cluster.replica)
    folders, ports = (",".join(str(getattr(server, name)) for server in servers) for name in ("folder", "port"))
    place = f"host={folders}&port={ports}&target_session_attrs={target}"
    return f"postgresql://{login.user}:{login.password or ''}@/{login.database}?{place}"


@contextlib.asynccontextmanager
async def opened(cluster: Cluster, **changes: Any) -> AsyncIterator[Database]:
    urls = {"url": cluster.database.service, "admin_url": cluster.database.operator, "direct_url": cluster.database.owner}
    named = {name: both(cluster, login) for name, login in urls.items()}
    async with Database(**named, settings=settings(**changes)) as db:
        yield db


async def written(db: Database, project: UUID) -> UUID:
    async with db.project(project) as session:
        return (await make_ticket(session)).id


class TestChoice:
    @pytest.mark.parametrize(
        ("target", "is_standby"),
        [("read-write", False), ("primary", False), ("standby", True), ("read-only", True), ("prefer-standby", True)],
    )
    async def test_is_what_the_url_wants(self, cluster: Cluster, target: TargetServer, is_standby: bool) -> None:
        info = ConnectionInfo.parse(both(cluster, cluster.database.owner, target))

        async def ask() -> bool:
            connection = await connect(info)
            try:
                return bool(await connection.fetchval("SELECT pg_is_in_recovery()"))
            finally:
                await connection.close()

        assert await ask() is is_standby

    async def test_of_one_that_is_not_there_is_refused_with_a_sentence(self, cluster: Cluster) -> None:
        url = both(cluster, cluster.database.service).replace(str(cluster.primary.folder) + ",", "/nowhere,")
        with pytest.raises(DatabaseUnavailable, match=r"No server of .* is what is wanted .*read-write.*fail-over") as caught:
            await Database(url, settings=settings()).start()
        assert str(cluster.database.service.password) not in str(caught.value)

    async def test_what_was_right_is_tried_first_next_time(self, cluster: Cluster) -> None:
        info = ConnectionInfo.parse(both(cluster, cluster.database.owner, "standby"))
        tried: list[str] = []

        async def make(one: ConnectionInfo) -> str:
            tried.append(one.host)
            if one.host == str(cluster.primary.folder):
                raise ConnectionRefusedError
            return one.host

        hosts._right.clear()
        for _ in range(2):
            assert await hosts.connect_to_one(info, make) == str(cluster.replica.folder)
        assert tried == [str(server.folder) for server in (cluster.primary, cluster.replica, cluster.replica)]


class TestFailover:
    async def test_connections_that_lead_to_a_standby_are_dropped_and_no_unit_fails(self, cluster: Cluster) -> None:
        async with opened(cluster) as db:
            project = (await new_project(db)).id
            await cluster.abreast()
            pool = (await db.app_pool(read_only=False)).pool
            stale = [await connect_pooled(cluster.on_replica.service, pool._arguments) for _ in range(2)]
            for connection in stale:
                await pool._is_set_up(connection)
                connection.expires_at = pool._loop.time() + 60
            pool.forget_idle()
            pool._idle += stale
            assert await written(db, project)
            assert all(connection.is_closed() for connection in stale)

    async def test_a_service_goes_on_with_the_standby_that_was_promoted(self, another_cluster: Cluster) -> None:
        cluster = another_cluster
        errors: list[DerwinError] = []
        stored: list[UUID] = []
        async with opened(cluster, pool_timeout=20.0) as db:
            project = (await new_project(db)).id
            await cluster.abreast()
            is_over = False

            async def work() -> None:
                while not is_over:
                    try:
                        stored.append(await written(db, project))
                    except DerwinError as error:
                        errors.append(error)
                    await asyncio.sleep(0.01)

            tasks = [asyncio.create_task(work()) for _ in range(3)]
            while len(stored) < 6:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(cluster.primary.stop)  # it hands on all that it has
            waiting = asyncio.create_task(written(db, project))  # begun while nobody takes writes: it waits for the new primary
            await cluster.replica.fetch("SELECT pg_promote()")
            assert await waiting
            seen = len(stored)
            async with asyncio.timeout(60):
                while len(stored) < seen + 6:
                    await asyncio.sleep(0.01)
            is_over = True
            await asyncio.gather(*tasks)
            assert {type(error) for error in errors} <= {DatabaseUnavailable, OutcomeUnknown}
            assert len(errors) <= 2 * len(tasks)
            async with db.project(project) as session:
                assert set(stored) <= {row.id async for row in repos.qa_tickets.stream(session)}
        async with opened(cluster) as db:  # a service that starts now finds it, too
            assert await written(db, project)
