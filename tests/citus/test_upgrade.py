"""A cluster that was distributed before the one policy and the seal: a migration mends its shards, `distribute` seals them."""

import asyncio
from typing import Any

import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.connection.driver import connect
from derwin_db.deploy import citus, migrations
from derwin_db.doctor import examine
from derwin_db.testing import TestDatabase, TestServer
from tests.citus.test_isolation import SHARDS
from tests.repos.rows import a_ticket
from tests.scale.test_pooled_verbs import new_project

BEFORE = "d92b6c41e8f5"
"""The last revision whose shards let derwin_app see every row."""

ROLES = ("ALTER ROLE derwin_app LOGIN", "ALTER ROLE derwin_admin LOGIN")
SLUG = "ALTER TABLE public.projects DROP CONSTRAINT IF EXISTS uq_projects_slug"


async def distribute_as_before(database: TestDatabase) -> set[str]:
    """Distribute the tables with the policies of that revision, and return what the shards have."""
    owner: Any = await connect(database.owner)
    try:
        for statement in (*citus.SETTINGS, *ROLES, SLUG, *map(citus.distribution, citus.in_order())):
            await owner.execute(statement)
        return {row["result"] for row in await owner.fetch(SHARDS)}
    finally:
        await owner.close()


async def serves(database: TestDatabase) -> None:
    """Two projects each see their own ticket, in a transaction, alone, and by hand."""
    async with Database(**database.urls) as db:
        projects = [await new_project(db) for _ in range(2)]
        made = {}
        for project in projects:
            async with db.project(project) as session:
                made[project] = (await repos.qa_tickets.create(session, a_ticket())).id
        for project in projects:
            async with db.project(project) as session:
                assert [row.id for row in (await repos.qa_tickets.list(session)).items] == [made[project]]
            async with db.project(project) as session:
                assert (await session.sql.execute(sa.text("SELECT id FROM public.qa_tickets"))).scalars().all() == [
                    made[project]
                ]


async def test_an_existing_cluster_is_mended(server: TestServer) -> None:
    database = await asyncio.to_thread(server.empty)
    settings = migrations.MigrationSettings(database.owner)
    await asyncio.to_thread(migrations.upgrade, settings, BEFORE)
    assert await distribute_as_before(database) == {"derwin_app_rows true,derwin_scope true"}
    await asyncio.to_thread(migrations.upgrade, settings)
    report = await examine(database.service, owner=database.owner)
    assert {check.name for check in report.checks if not check.ok} == {
        "scope-sealed", "node-commands", "shown-statements", "statistics"
    }  # fmt: skip
    await serves(database)
    owner: Any = await connect(database.owner)
    done = await citus.distribute(owner)
    await owner.close()
    assert (done.distributed, done.before) == ([], citus.in_order())
    report = await examine(database.service, owner=database.owner)
    assert {check.name for check in report.checks if not check.ok} == set()
    await serves(database)
    await asyncio.to_thread(server.drop, database)
