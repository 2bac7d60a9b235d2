"""Where attacks take place: two databases that differ in one thing, whether project B exists.

`shared` holds A and B, `alone` is its twin without B. A call in A has to end alike in both: what is absent, foreign or
forbidden can't be told apart, and no count, order or score depends on what another project stores. Whatever B holds is
digested inside of the attacker's own transaction, by a function that sees everything, before it is rolled back.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from derwin_db import Database, repos
from derwin_db.deploy import citus
from derwin_db.models import ProjectCreate
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase, TestServer
from derwin_db.testing.examples import example
from derwin_db.testing.filling import Filled, create_filled, models_by_table
from derwin_db.testing.traces import Traces, digest_query
from tests.isolation import distributed
from tests.isolation.distributed import Place, copy_rows, marker_beside, twin

DIGEST = f"""
CREATE SCHEMA attack;
GRANT USAGE ON SCHEMA attack TO PUBLIC;
CREATE FUNCTION attack.digest(project uuid) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$ SELECT string_agg(seen::text, ' ' ORDER BY seen.name) FROM ({digest_query(models_by_table())}) AS seen $$;
"""
ADVISORY = "GRANT EXECUTE ON FUNCTION pg_catalog.pg_advisory_lock(bigint) TO derwin_app"
"""As where no superuser migrated: a unit may leave a lock behind there, and it is let go with all else."""


@dataclass(frozen=True)
class World:
    """One database: units of work on a pool of many connections, and of one. `b` names what only the shared one holds.

    Attacks come from the project `seat`: A, or an empty project where a method works in an empty one alone.
    """

    name: str
    database: TestDatabase
    wide: Database
    narrow: Database
    owner: asyncpg.Connection
    a: Filled
    b: Filled
    empty: UUID
    seat: UUID
    is_distributed: bool

    @property
    def has_b(self) -> bool:
        return self.name == "shared"

    async def digest(self, project_id: UUID) -> str:
        """Digest what a project stores, as the owner sees it."""
        if self.is_distributed:
            return await self.owner.fetchval(distributed.digest_of(project_id))
        return await self.owner.fetchval("SELECT attack.digest($1)", project_id)

    async def digest_inside(self, connection: Any) -> str:
        """Digest what B stores, as the transaction on this connection sees it, which has to be rolled back then."""
        if not self.is_distributed:
            return await connection.fetchval("SELECT attack.digest($1)", self.b.project_id)
        seal = (await self.wide.app_pool(read_only=False)).preamble.seal
        assert seal is not None
        return await distributed.digest_inside(connection, seal.current, self.b.project_id)


@dataclass(frozen=True)
class Arena:
    """Both worlds, what is known of A and B before any attack, and the digest of B."""

    shared: World
    alone: World
    of_a: Traces
    of_b: Traces
    digest: str

    @property
    def a(self) -> Filled:
        return self.shared.a

    @property
    def b(self) -> Filled:
        return self.shared.b

    @property
    def known(self) -> set[Any]:
        return self.of_a.ids | self.of_a.times | self.of_b.ids | self.of_b.times


def one_connection(database: TestDatabase) -> dict[str, Any]:
    """Return what makes a `Database` whose pool holds one connection: every unit of work has the same backend."""
    return {**database.urls, "settings": Settings(pool_size=1)}


@dataclass(frozen=True)
class Ground:
    """Both databases, before they are opened: the second one is a copy of the first, with B."""

    alone: TestDatabase
    shared: TestDatabase
    a: Filled
    b: Filled
    empty: UUID
    place: Place | None = None
    """Where B is on a cluster."""


async def prepare(server: TestServer, place: Place | None = None) -> Ground:
    """Make both databases: fill A, copy, fill B in the copy; on a cluster at a place that is given."""
    alone = await asyncio.to_thread(server.migrated)
    owner = await asyncpg.connect(**alone.owner.connect_arguments())
    await owner.execute(ADVISORY if place else f"{DIGEST}; {ADVISORY}")
    await owner.close()
    async with Database(**alone.urls) as database:
        a = await create_filled(database)
        async with database.admin(reason="an empty project") as admin:
            empty = await repos.projects.create(admin, example(ProjectCreate, marker="empty"))
    shared = await copied(server, alone, place)
    marker = None
    if place is not None:
        owner = await asyncpg.connect(**shared.owner.connect_arguments())
        marker = await marker_beside(owner, a.project_id, place)
        await owner.close()
    async with Database(**shared.urls) as database:
        b = await create_filled(database, marker=marker)
    return Ground(alone, shared, a, b, empty.id, place)


async def copied(server: TestServer, database: TestDatabase, place: Place | None) -> TestDatabase:
    """Copy a database with all that it holds."""
    copy = await asyncio.to_thread(twin, server, database)
    if place is not None:
        await copy_rows(database, copy)
        owner = await asyncpg.connect(**copy.owner.connect_arguments())
        await owner.execute(ADVISORY)
        await owner.close()
    return copy


@asynccontextmanager
async def open_world(name: str, database: TestDatabase, ground: Ground) -> AsyncIterator[World]:
    owner = await asyncpg.connect(**database.owner.connect_arguments())
    a, b, empty = ground.a, ground.b, ground.empty
    try:
        if ground.place is not None:
            await owner.execute("; ".join(citus.SETTINGS))
        async with Database(**database.urls) as wide, Database(**one_connection(database)) as narrow:
            yield World(name, database, wide, narrow, owner, a, b, empty, a.project_id, ground.place is not None)
    finally:
        await owner.close()


@asynccontextmanager
async def open_arena(ground: Ground) -> AsyncIterator[Arena]:
    async with open_world("alone", ground.alone, ground) as alone, open_world("shared", ground.shared, ground) as shared:
        yield Arena(shared, alone, Traces(ground.a), Traces(ground.b), await shared.digest(ground.b.project_id))


@asynccontextmanager
async def new_arena(server: TestServer) -> AsyncIterator[Arena]:
    """Make an arena and open it."""
    async with open_arena(await prepare(server)) as arena:
        yield arena
