"""The server, the schema, and what stands between."""

from collections.abc import Iterable
from dataclasses import replace

from derwin_db.connection.driver import Connection, DriverError
from derwin_db.connection.facts import read_facts, read_revision
from derwin_db.connection.schema import Schema, Standing, schema_of
from derwin_db.deploy.citus import open_node_commands, probe_topology, showing_nodes, unfenced_shards
from derwin_db.deploy.migrations import check_revisions, refuse_transaction_pooler
from derwin_db.doctor.report import MIGRATE, Check, verdict
from derwin_db.errors import ConfigurationError
from derwin_db.isolation.preamble import APP_ROLE
from derwin_db.settings import ConnectionInfo

OLDEST_VERSION = 16


async def check_server(opened: Connection, connection: ConnectionInfo) -> list[Check]:
    """Check what the server is."""
    facts = await read_facts(opened)
    major = facts.version // 10000
    old = [f"PostgreSQL {major} is too old"] if major < OLDEST_VERSION else []
    return [
        Check("server", ok=True, detail=f"PostgreSQL {major}, {connection.place}"),
        verdict("server-version", old, well=f"{OLDEST_VERSION} or newer", fix=f"PostgreSQL {OLDEST_VERSION} or newer"),
        verdict(
            "pgvector",
            [] if facts.vector_version else ["the extension vector is not there"],
            well="the extension is there",
            fix="install pgvector on the server, CREATE EXTENSION vector as an administrator, then migrate",
        ),
    ]


async def look_at_schema(opened: Connection) -> Schema | None:
    """Return how the schema stands to this code; None where neither this login nor derwin_app may read its revision."""
    for role in (None, APP_ROLE):
        await opened.execute("SAVEPOINT reading")
        try:
            if role is not None:
                await opened.execute(f"SET LOCAL ROLE {role}")
            return schema_of(await read_revision(opened), (await read_facts(opened)).schema_note)
        except DriverError:
            continue
        finally:
            await opened.execute("ROLLBACK TO reading")
    return None


_MENDS = {
    Standing.MISSING: MIGRATE,
    Standing.OLDER: MIGRATE,
    Standing.NEWER: "deploy the newer version",
    Standing.UNCLEAR: "delete the rows of derwin_alembic_version that are not true of this database",
}


def check_schema(schema: Schema | None) -> Check:
    """Check the revision."""
    try:
        check_revisions()
    except ConfigurationError as error:
        return Check("schema", ok=False, detail=error.message.rstrip("."), fix="the revisions in alembic/versions")
    if schema is None:
        return Check("schema", ok=False, detail="a revision that this login can't read", fix=MIGRATE)
    return Check("schema", ok=schema.serves, detail=schema.sentence.rstrip("."), fix=_MENDS.get(schema.standing))


async def check_poolers(connections: Iterable[ConnectionInfo]) -> list[Check]:
    """A transaction pooler is fine for the service if its URL says so, and never for migrations."""
    wrong = []
    for connection in connections:
        try:
            await refuse_transaction_pooler(replace(connection, is_pooled=False))
        except ConfigurationError:
            if not connection.is_pooled:
                wrong.append(f"the login {connection.user} goes through a transaction pooler, and its URL does not say so")
    return [
        verdict(
            "pooler",
            wrong,
            well="none that is not declared",
            fix="add pgbouncer=true to DATABASE_URL; DIRECT_URL leads to the server itself",
        )
    ]


async def check_distribution(opened: Connection, *, is_owner: bool) -> list[Check]:
    """Check that all tables are distributed alike, on nodes that answer, and fenced on each shard.

    Nothing to check without Citus. The shards are looked at with the owner's login alone: another may run nothing on them.
    """
    facts = await read_facts(opened)
    if not facts.is_distributed:
        return []
    seen = await probe_topology(opened)
    spread = ", ".join(f"{name} {shards}" for name, shards in sorted(seen.shards.items()))
    wrong = [f"{name} is on one node" for name in seen.forgotten]
    wrong += [f"{name} is split unlike projects" for name in seen.misplaced]
    idle = [name for name, shards in seen.shards.items() if not shards and not seen.forgotten]
    silent = [f"{name} is not active" for name in seen.silent]
    return [
        verdict(
            "distribution",
            wrong,
            well="every table is split by project, beside projects",
            fix="`derwin-db distribute`, as the owner; what is split otherwise: SELECT undistribute_table('...') before",
        ),
        verdict(
            "nodes",
            [*silent, *(f"{name} holds no shard" for name in idle)],
            well=f"shards of projects: {spread}",
            fix="SELECT citus_activate_node(...) for one that is back, citus_rebalance_start() for one that is empty",
        ),
        verdict(
            "shards",
            await unfenced_shards(opened, facts.scope) if is_owner and not seen.forgotten else [],
            well="each has the scope's policy and no other" if is_owner else "not looked at: that takes the owner's login",
            fix="DROP POLICY on the shard; what is ours: `derwin-db migrate`, then `derwin-db distribute`",
        ),
        verdict(
            "node-commands",
            [f"derwin_app may call {name}" for name in await open_node_commands(opened)],
            well="no session sends SQL to a node beside its unit of work",
            fix="as a superuser: `derwin-db distribute`, again after a node was added",
        ),
        verdict(
            "shown-statements",
            [f"SQL by hand on {name} sees what other units send" for name in await showing_nodes(opened, is_owner=is_owner)],
            well="a worker shows no unit what others send",
            fix="as a superuser: `derwin-db distribute`; then start the services anew",
        ),
    ]
