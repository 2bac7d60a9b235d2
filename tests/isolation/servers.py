"""Attacks by what stands between and behind: poolers, backends that die, statements that are prepared (families 20, 21, 25)."""

import asyncio
import contextlib

import asyncpg
import sqlalchemy as sa

from derwin_db import Database
from derwin_db.errors import ConcurrentUse, DatabaseUnavailable, DerwinError, ScopeError
from derwin_db.settings import Settings
from derwin_db.testing.server import url_of
from tests.isolation.pooler import pooled
from tests.isolation.units import only, outliving, reading, refused, script

# --- family 20: two clients on one server connection ------------------------------------------------------------------


@script(20)
async def behind_a_pooler_in_transaction_mode(arena, repository):
    async with pooled(arena.shared.database.service) as (pooler, info):
        rest = {name: url for name, url in arena.shared.database.urls.items() if name != "url"}
        url = url_of(info)
        async with Database(url, **rest) as one, Database(url, **rest) as two:

            async def turn(database, project):
                backends = set()
                for _ in range(3):
                    async with database.project(project.project_id) as session:
                        await only(session, repository, project)
                        await session.sql.execute(sa.text("SELECT 1"))
                        backends.add(await (await session._connected()).fetchval("SELECT pg_backend_pid()"))
                        await only(session, repository, project)
                return backends

            used = await asyncio.gather(turn(one, arena.a), turn(two, arena.b), turn(one, arena.b), turn(two, arena.a))
            assert len(set.union(*used)) == 1, "the clients did not share a server connection"
            assert pooler.turns >= 12


@script(20)
async def a_task_that_outlives_its_block_behind_a_pooler(arena, repository):
    async with pooled(arena.shared.database.service) as (_, info):
        rest = {name: url for name, url in arena.shared.database.urls.items() if name != "url"}
        async with Database(url_of(info), settings=Settings(pool_size=1), **rest) as database:
            await outliving(arena, repository, database)


# --- family 21: backends that die -------------------------------------------------------------------------------------


@script(21)
async def a_backend_that_is_killed(arena, repository):
    world = arena.shared
    with contextlib.suppress(DerwinError, asyncpg.InterfaceError):  # how it ends is a matter of tests/faults
        async with world.narrow.project(arena.a.project_id) as session:
            await only(session, repository, arena.a)
            pid = await (await session._connected()).fetchval("SELECT pg_backend_pid()")
            await world.owner.execute("SELECT pg_terminate_backend($1)", pid)
            await refused(lambda: repository.list(session), DatabaseUnavailable, ScopeError)
    async with world.narrow.project(arena.b.project_id) as session:
        await only(session, repository, arena.b)


@script(21)
async def idle_backends_that_are_killed(arena, repository):
    world = arena.shared
    await reading(world.narrow, arena.a.project_id, repository)
    await world.owner.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1 AND datname = current_database()",
        world.database.service.user,
    )
    for project in (arena.b, arena.a, arena.b):
        with contextlib.suppress(DatabaseUnavailable, ConcurrentUse):  # whether the first one fails is a matter of tests/faults
            async with world.narrow.project(project.project_id) as session:
                await only(session, repository, project)
    async with world.narrow.project(arena.a.project_id) as session:
        await only(session, repository, arena.a)


@script(21)
async def a_pool_that_is_exhausted(arena, repository):
    world = arena.shared
    settings = Settings(pool_size=1, pool_timeout=1.0)
    async with Database(**world.database.urls, settings=settings) as database, database.project(arena.a.project_id) as session:
        await only(session, repository, arena.a)
        await session._connected()  # what it only reads would hold no connection
        await refused(lambda: reading(database, arena.b.project_id, repository), DatabaseUnavailable)
        await only(session, repository, arena.a)


# --- family 25: statements that are prepared already ------------------------------------------------------------------


@script(25)
async def one_statement_for_two_projects(arena, repository):
    ids = {project.project_id: project.ids(repository.model.__tablename__) for project in (arena.a, arena.b)}
    for turn in range(ROUNDS):
        project = (arena.a, arena.b)[turn % 2]
        foreign = (arena.b, arena.a)[turn % 2]
        async with arena.shared.narrow.project(project.project_id) as session:
            await only(session, repository, project)
            assert await repository.find(session, ids[foreign.project_id][0]) is None
            assert not await repository.exists(session, ids[foreign.project_id][-1])
            assert await repository.count(session) == len(ids[project.project_id])


ROUNDS = 80
"""How often a statement changes hands; over all repositories this is more than a thousand times."""
