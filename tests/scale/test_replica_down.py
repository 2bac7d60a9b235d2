"""A replica that is down, frozen, or behind a migration: the primary stands in, or the error says what is wrong."""

import asyncio
import logging
from uuid import UUID

import pytest

from derwin_db import Database, repos
from derwin_db.connection import replica
from derwin_db.errors import DatabaseUnavailable, SchemaOutOfDate
from tests.faults.load import new_project, settled
from tests.scale.cluster import Cluster
from tests.scale.test_replica import is_replica, ticket_ids


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> float:
    """A replica that failed is looked at again soon."""
    monkeypatch.setattr(replica, "RETRY_SECONDS", 0.3)
    return 0.3


async def known_project(db: Database, pair: Cluster) -> UUID:
    project = (await new_project(db)).id
    await pair.abreast()
    return project


class TestDown:
    async def test_the_primary_stands_in_until_it_is_back(self, pair: Cluster, replicated: Database, soon, caplog):
        project = await known_project(replicated, pair)
        assert await ticket_ids(replicated, project) == (True, [])
        await asyncio.to_thread(pair.replica.stop)
        with caplog.at_level(logging.WARNING, "derwin_db"):
            assert [await ticket_ids(replicated, project) for _ in range(3)] == [(False, [])] * 3
        assert caplog.text.count("the primary stands in") == 1
        await asyncio.to_thread(pair.replica.start)
        await asyncio.sleep(soon)
        assert await ticket_ids(replicated, project) == (True, [])

    async def test_at_the_start_too(self, pair: Cluster, replicated: Database, soon):
        project = await known_project(replicated, pair)
        await asyncio.to_thread(pair.replica.stop)
        async with pair.open() as db:
            assert await ticket_ids(db, project) == (False, [])
            await asyncio.to_thread(pair.replica.start)
            await asyncio.sleep(soon)
            assert await ticket_ids(db, project) == (True, [])

    async def test_without_a_stand_in_it_is_an_error(self, pair: Cluster, replicated: Database):
        project = await known_project(replicated, pair)
        async with pair.open(read_fallback=False) as db:
            await asyncio.to_thread(pair.replica.stop)
            with pytest.raises(DatabaseUnavailable):
                await ticket_ids(db, project)
            async with db.project(project) as session:
                assert await repos.qa_tickets.count(session) == 0
            await asyncio.to_thread(pair.replica.start)
            assert await ticket_ids(db, project) == (True, [])

    async def test_without_a_stand_in_it_has_to_be_there_at_the_start(self, pair: Cluster):
        await asyncio.to_thread(pair.replica.stop)
        with pytest.raises(DatabaseUnavailable):
            await pair.open(read_fallback=False).start()

    async def test_in_the_middle_of_a_unit_the_unit_fails(self, pair: Cluster, replicated: Database):
        project = await known_project(replicated, pair)
        with pytest.raises(DatabaseUnavailable):
            async with replicated.project(project, read_only=True) as session:
                assert await is_replica(session)
                await asyncio.to_thread(pair.replica.kill)
                await repos.qa_tickets.count(session)
        assert await ticket_ids(replicated, project) == (False, [])
        await settled(replicated)

    async def test_one_that_does_not_answer_costs_one_unit_its_wait(self, pair: Cluster, soon):
        async with pair.open(connect_timeout=3, command_timeout=3, pool_timeout=3) as db:
            project = await known_project(db, pair)
            assert await ticket_ids(db, project) == (True, [])
            pair.replica.freeze()
            assert await ticket_ids(db, project) == (False, [])
            await asyncio.sleep(soon)

            units = [asyncio.create_task(ticket_ids(db, project)) for _ in range(5)]
            waiting = set(units)
            while len(waiting) > 1:
                _done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            assert len(waiting) == 1  # the others are served while one looks whether it answers again
            assert await asyncio.gather(*units) == [(False, [])] * 5
            pair.replica.thaw()
            await asyncio.sleep(soon)
            assert await ticket_ids(db, project) == (True, [])

    async def test_one_whose_connections_are_all_in_use_sends_nobody_away(self, pair: Cluster, replicated: Database, soon):
        project = await known_project(replicated, pair)
        async with pair.open(pool_size=1, pool_timeout=0.2) as db:
            while await ticket_ids(db, project) != (True, []):  # a connection may take longer than this pool waits
                await asyncio.sleep(soon)
            async with db.project(project, read_only=True) as session:
                assert await is_replica(session)
                with pytest.raises(DatabaseUnavailable, match="in use"):
                    await ticket_ids(db, project)
            assert await ticket_ids(db, project) == (True, [])


class TestBehindAMigration:
    REVISION = "UPDATE public.derwin_alembic_version SET version_num = $1"

    async def test_the_primary_stands_in_until_it_has_the_schema(self, pair: Cluster, replicated: Database, soon):
        project = await known_project(replicated, pair)
        name = pair.database.owner.database
        newest = (await pair.primary.fetch("SELECT version_num FROM public.derwin_alembic_version", database=name))[0][0]
        await pair.primary.fetch(self.REVISION, "an older one", database=name)
        await pair.abreast()
        await pair.pause()
        await pair.primary.fetch(self.REVISION, newest, database=name)
        with pytest.raises(SchemaOutOfDate):
            await pair.open(read_fallback=False).start()
        async with pair.open() as db:
            assert await ticket_ids(db, project) == (False, [])
            await pair.abreast()
            await asyncio.sleep(soon)
            assert await ticket_ids(db, project) == (True, [])
