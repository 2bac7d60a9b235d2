"""Tables of a service's own on a cluster: split with their project, and fenced on each shard as ours are."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from alembic import command
from derwin_db import Database
from derwin_db.connection.driver import connect
from derwin_db.deploy import citus
from derwin_db.doctor import examine
from derwin_db.errors import DerwinError
from derwin_db.testing import TestDatabase, TestServer
from derwin_db.testing.factories import create_own
from examples.service.tables import webhooks
from tests.citus.conftest import apart
from tests.tables.conftest import service_chain

TABLE = "webhooks"


@pytest.fixture(scope="module")
async def both(server: TestServer) -> AsyncIterator[TestDatabase]:
    """A distributed database that the example service's chain was run on afterwards."""
    database = await asyncio.to_thread(server.migrated)
    await asyncio.to_thread(command.upgrade, service_chain(database), "head")
    yield database
    await asyncio.to_thread(server.drop, database)


@pytest.fixture(scope="module")
async def own(both: TestDatabase) -> AsyncIterator[Database]:
    async with Database(**both.urls) as db:
        yield db


@pytest.fixture(scope="module")
async def projects(own: Database, both: TestDatabase) -> tuple[UUID, UUID]:
    return await apart(own, both, "own")


class TestOwnTables:
    async def test_is_split_and_fenced_on_each_shard(self, both: TestDatabase) -> None:
        report = await examine(both.service, owner=both.owner)
        assert {check.name: check.detail for check in report.checks if not check.ok} == {}
        owner: Any = await connect(both.owner)
        try:
            assert await citus.own_in_order(owner) == [TABLE]
            assert (await citus.distribute(owner)).distributed == []
        finally:
            await owner.close()

    async def test_each_project_has_its_own_rows(self, own: Database, projects: tuple[UUID, UUID]) -> None:
        for project in projects:
            async with own.project(project) as session:
                made = await create_own(session, webhooks)
            async with own.project(project) as session:
                assert [row.id for row in (await webhooks.list(session)).items] == [made.id]
            async with own.project(project, read_only=True) as session:
                found = await session.sql.execute(sa.text(f"SELECT DISTINCT project_id FROM public.{TABLE}"))
                assert found.scalars().all() == [project]

    async def test_sql_by_hand_changes_nothing_of_the_other(self, own: Database, projects: tuple[UUID, UUID]) -> None:
        one, other = projects
        async with own.project(other) as session:
            before = {(row.id, row.note) for row in (await webhooks.list(session)).items}
        for sql in (f"UPDATE public.{TABLE} SET note = 'x'", f"DELETE FROM public.{TABLE}"):
            with pytest.raises(DerwinError, match="undo"):
                async with own.project(one) as session:
                    await session.sql.execute(sa.text(f"{sql} WHERE project_id = '{other}'"))
                    assert (await session.sql.execute(sa.text(f"SELECT count(*) FROM public.{TABLE}"))).scalar_one() > 0
                    raise DerwinError("undo")
        async with own.project(other) as session:
            assert {(row.id, row.note) for row in (await webhooks.list(session)).items} == before
