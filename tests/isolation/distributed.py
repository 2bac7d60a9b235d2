"""What the attacks need on a cluster of Citus: where B is, copies of a database, how B is looked at inside of an attack.

Nothing can be cloned there, and what runs in a transaction under another role has connections to the workers of its own. So
a copy is made row by row, and the attacker's own transaction is given the scope of B, by the key of the seal, to look at B.
"""

import io
from enum import StrEnum
from typing import Any
from uuid import UUID

import asyncpg

from derwin_db.deploy import citus
from derwin_db.fields.scalars import project_id_of
from derwin_db.isolation.seal import Kind, Seal
from derwin_db.models import ProjectCreate
from derwin_db.testing import TestDatabase, TestServer
from derwin_db.testing.examples import example
from derwin_db.testing.filling import models_by_table
from derwin_db.testing.server import TestCluster
from derwin_db.testing.traces import digest_query


class Place(StrEnum):
    """Where the project B is, seen from A."""

    OTHER_WORKER = "another worker"
    OTHER_SHARD = "another shard of the same worker"
    SAME_SHARD = "the same shard"


_PLACED = """
SELECT shardid, groupid FROM pg_dist_placement
WHERE shardid = get_shard_id_for_distribution_column('public.projects', $1::uuid)
"""
_COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""
_MOST_MARKERS = 5_000


async def marker_beside(owner: asyncpg.Connection, neighbour: UUID, place: Place) -> str:
    """Return the marker of a project that will be at this place.

    Errors:
        AssertionError where the cluster has no such place.
    """
    shard, node = await owner.fetchrow(_PLACED, neighbour)
    for number in range(_MOST_MARKERS):
        marker = f"mk{number:010x}"
        other_shard, other_node = await owner.fetchrow(_PLACED, project_id_of(example(ProjectCreate, marker=marker).slug))
        found = Place.OTHER_WORKER if other_node != node else Place.OTHER_SHARD if other_shard != shard else Place.SAME_SHARD
        if found is place:
            return marker
    raise AssertionError(f"the cluster has no place like this: {place}")


def twin(server: TestServer, database: TestDatabase) -> TestDatabase:
    """Return a copy of a database that nobody writes to."""
    return server.migrated() if isinstance(server, TestCluster) else server.clone(database)


async def copy_rows(of: TestDatabase, to: TestDatabase) -> None:
    """Write all rows of one distributed database into another, parents first, with every column as it is."""
    source = await asyncpg.connect(**of.owner.connect_arguments())
    target = await asyncpg.connect(**to.owner.connect_arguments())
    try:
        for table in citus.in_order():
            columns = [row["attname"] for row in await source.fetch(_COLUMNS, f"public.{table}")]
            rows = io.BytesIO()
            await source.copy_from_table(table, schema_name="public", columns=columns, output=rows)
            rows.seek(0)
            await target.copy_to_table(table, schema_name="public", columns=columns, source=rows)
    finally:
        await source.close()
        await target.close()


def digest_of(project: UUID) -> str:
    """Return SQL that digests what a project stores, and that Citus sends to one shard: it names the project."""
    rows = digest_query(models_by_table()).replace("$1", f"'{project}'")
    return f"SELECT string_agg(seen::text, ' ' ORDER BY seen.name) FROM ({rows}) AS seen"


async def digest_inside(connection: Any, seal: Seal, project: UUID) -> str:
    """Digest a project in a transaction of another one, on the connections to workers that this one has. It ends thereafter."""
    clock = await connection.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    scope = seal.token(Kind.SCOPES_ANYWHERE, project, clock)
    await connection.execute(
        f"SET LOCAL citus.propagate_set_commands = 'local'; SET LOCAL ROLE derwin_app; SET LOCAL derwin.project_id = '{scope}'"
    )
    digest: str = await connection.fetchval(digest_of(project))
    return digest
