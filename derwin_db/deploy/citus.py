"""Everything that is different on a distributed server (Citus): the one place that knows.

`distribute` turns a migrated database into a distributed one: projects by id, all else by project_id, colocated, so
that a unit of work touches one shard. Source: the rules in docs/explanation/scale.md, for Citus 13.2 and 14.0.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from hashlib import md5
from typing import Any

from sqlmodel import SQLModel

import derwin_db.models  # noqa: F401  # fills SQLModel.metadata
from derwin_db import sql
from derwin_db.connection.facts import read_facts, read_revision
from derwin_db.deploy.fences import scope_policies
from derwin_db.errors import ConfigurationError
from derwin_db.isolation.catalog import code
from derwin_db.isolation.catalog.logins import HIDES_STATEMENTS
from derwin_db.isolation.catalog.statistics import value_statistics
from derwin_db.isolation.preamble import ScopeForm, policy_condition
from derwin_db.observe.progress import Progress

SETTINGS = (
    "SET citus.multi_shard_modify_mode = 'sequential'",
    "SET citus.enable_unsafe_triggers = on",
    "SET citus.enable_local_reference_table_foreign_keys = off",
)
"""What DDL on distributed tables runs under. Without Citus these are placeholders without effect."""

_DISTRIBUTED = "SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid = $1::regclass)"
_TABLES = """
SELECT t.relname AS name, p.logicalrelid IS NOT NULL AS is_distributed, p.colocationid AS place,
    CASE WHEN p.partkey IS NOT NULL THEN pg_catalog.column_to_column_name(p.logicalrelid, p.partkey) END AS column,
    (SELECT count(*) FROM pg_catalog.pg_dist_shard s WHERE s.logicalrelid = p.logicalrelid) AS shards
FROM pg_catalog.pg_class t LEFT JOIN pg_catalog.pg_dist_partition p ON p.logicalrelid = t.oid
WHERE t.relnamespace = 'public'::regnamespace AND t.relkind IN ('r', 'p') AND NOT t.relispartition AND (
    t.relname = 'projects' OR EXISTS (
        SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.oid AND a.attname = 'project_id' AND NOT a.attisdropped
    )
)
ORDER BY t.relname
"""
_NODES = """
SELECT nodename || ':' || nodeport AS name, isactive AND metadatasynced AS is_active, shouldhaveshards AS has_shards, (
    SELECT count(*) FROM pg_catalog.pg_dist_placement p JOIN pg_catalog.pg_dist_shard s USING (shardid)
    WHERE p.groupid = n.groupid AND s.logicalrelid = 'public.projects'::regclass
) AS shards
FROM pg_catalog.pg_dist_node n WHERE noderole::text = 'primary' ORDER BY 1
"""


_OWN = """
SELECT t.relname AS name, ARRAY(
    SELECT other.relname FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class other ON other.oid = k.confrelid
    WHERE k.conrelid = t.oid AND k.contype = 'f'
) AS parents
FROM pg_catalog.pg_class t
WHERE t.relnamespace = 'public'::regnamespace AND t.relkind IN ('r', 'p') AND NOT t.relname = ANY ($1::name[])
AND EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = t.oid AND p.polname = 'derwin_scope')
ORDER BY t.relname
"""
_ON_SHARD = """
SELECT t.relrowsecurity::text || ' ' || coalesce(string_agg(
    p.polname || ' ' || p.polpermissive::text || ' ' || p.polcmd::text || ' ' || pg_get_expr(p.polqual, t.oid) || ' '
    || coalesce(pg_get_expr(p.polwithcheck, t.oid), ''), '; ' ORDER BY p.polname
), 'no policy')
FROM pg_class t LEFT JOIN pg_policy p ON p.polrelid = t.oid
    AND (p.polroles = '{0}' OR to_regrole('derwin_app') = ANY (p.polroles))
WHERE t.oid = '%s'::regclass AND set_config('search_path', 'pg_catalog', true) IS NOT NULL GROUP BY t.oid
"""
"""What a shard says of derwin_app. The catalog of the coordinator does not tell: policies travel there as commands."""
_SENDING = """
SELECT p.oid::regprocedure::text AS name FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'pg_catalog'::regnamespace
AND (p.proname LIKE 'run\\_command\\_on\\_%' OR p.proname = 'master_run_on_worker')
AND has_function_privilege('derwin_app', p.oid, 'EXECUTE') ORDER BY 1
"""
_SHARDS = "SELECT success, result FROM pg_catalog.run_command_on_shards($1::text::regclass, $2)"


def in_order() -> list[str]:
    """Return the tables, each after those that it refers to: a foreign key to a table that is not distributed is refused."""
    ours = {"projects", *sql.PROJECT_TABLES}
    return [table.name for table in SQLModel.metadata.sorted_tables if table.schema == "public" and table.name in ours]


async def own_in_order(connection: Any) -> list[str]:
    """Return the fenced tables of the service, each after those of them that it refers to. They come after ours."""
    rows = await connection.fetch(_OWN, ["projects", *sql.PROJECT_TABLES])
    parents = {row["name"]: set(row["parents"]) - {row["name"]} for row in rows}
    order = TopologicalSorter({name: found & parents.keys() for name, found in parents.items()})
    return list(order.static_order())


@dataclass(frozen=True)
class Distribution:
    """What `distribute` found and did: tables that are distributed now, and those that were already."""

    distributed: list[str]
    before: list[str]


@dataclass(frozen=True)
class Topology:
    """Where the tables are. `forgotten` stay on one node, `misplaced` are split unlike the others, `silent` nodes don't answer.

    `shards` of projects for each node that holds some, or should.
    """

    shards: dict[str, int]
    forgotten: list[str]
    misplaced: list[str]
    silent: list[str]


def statements(key: str, tables: Iterable[str]) -> list[str]:
    """Return what prepares the schema: roles that workers may be opened as, keys, policies and triggers in Citus' forms.

    `key` is the name that the key of the seal has on each node, `tables` are those with the scope's policy. To run them again
    changes nothing.
    """
    prepared = ["ALTER ROLE derwin_app LOGIN", "ALTER ROLE derwin_admin LOGIN"]
    prepared.append("DROP INDEX IF EXISTS public.uq_projects_slug")  # the id stands for the slug
    dropped = sorted(code.STAMPS | code.QUEUE)
    prepared += [f"DROP TRIGGER IF EXISTS {trigger} ON public.{table}" for table, trigger in dropped]
    prepared += ["DROP FUNCTION IF EXISTS public.derwin_waiting(text, uuid, integer, integer)"]
    prepared += ["DROP FUNCTION IF EXISTS public.derwin_stalled(text, interval)", "DROP TABLE IF EXISTS derwin.open_runs"]
    prepared.append("ALTER TABLE derwin.restoring DROP CONSTRAINT IF EXISTS restoring_id_fkey")  # no local table may refer
    for table in tables:
        prepared += [f"DROP POLICY IF EXISTS {policy} ON public.{table}" for policy in ("derwin_app_rows", "derwin_scope")]
    prepared.append("DROP FUNCTION IF EXISTS public.derwin_open(text), public.derwin_scope(), public.derwin_scope_on_shard()")
    prepared += sql.read_current("scope_on_shards", key=key)
    prepared.append(f"DROP FUNCTION IF EXISTS {_ENDS}")
    prepared += sql.read_current("end_process")
    prepared += sql.read_current("revoke_public", objects=f"FUNCTION {_FUNCTIONS}, {_ENDS}")
    prepared.append(f"GRANT EXECUTE ON FUNCTION {_FUNCTIONS} TO derwin_app")
    prepared += scope_policies(tables)
    for entity in ("append_only", "retention"):
        function = sql.read_current(entity, project_is_gone="true")[0]
        prepared.append(function.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1))
    return prepared


_FUNCTIONS = "public.derwin_open(text), public.derwin_scope_on_shard()"
_ENDS = "public.derwin_end_process(integer, timestamptz, text)"
_SEAL_ON_NODE = """
SELECT string_agg(
    concat_ws(' ', proname, prosecdef::text, array_to_string(proconfig, ', '), md5(prosrc)), '; ' ORDER BY proname
) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname IN ('derwin_open', 'derwin_scope_on_shard')
"""
_SCOPED = """
SELECT t.relname FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class t ON t.oid = p.polrelid
WHERE p.polname = 'derwin_scope' AND t.relnamespace = 'public'::regnamespace ORDER BY 1
"""
"""Tables with the scope's policy: those of the service too."""
_HIDES = "ALTER ROLE derwin_app IN DATABASE {} SET track_activities = off"
"""Citus writes the values of a statement into its text, and all units are one role on the workers: each could read them there.

It sends this to the nodes, also to one that is added later. On the coordinator sessions come as the service's login.
"""
_SHOWING = """
SELECT string_agg(stored.setting, ', ')
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) AS stored (setting)
WHERE d.datname = current_database() AND s.setrole = to_regrole('derwin_app') AND stored.setting LIKE 'track\\_activities=%'
"""
_SUPERUSER = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
_OWNER = "SELECT relowner::regrole::text FROM pg_catalog.pg_class WHERE oid = 'public.projects'::regclass"
_ON_NODES = "SELECT nodeid, success, result FROM pg_catalog.run_command_on_all_nodes($1)"


async def _seal(connection: Any) -> None:
    """Prepare the schema, and seal its scope in the form that shards check.

    Errors:
        ConfigurationError where the coordinator is no node of its own cluster: it has no copy of the key then.
    """
    if not await connection.fetchval(_DISTRIBUTED, "derwin.scope_key"):
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_node WHERE groupid = 0)"):
            raise ConfigurationError(
                "The coordinator is no node of its own cluster. As an administrator: SELECT citus_set_coordinator_host('...')."
            )
        await connection.execute("SELECT create_reference_table('derwin.scope_key')")
    key = await code.key_on_shards(connection)
    assert key is not None
    tables = [row["relname"] for row in await connection.fetch(_SCOPED)]
    async with connection.transaction():
        for statement in statements(key, tables):
            await connection.execute(statement)


async def _close_nodes(connection: Any) -> None:
    """Take from everybody, on each node, what reaches other units, shows them or sends SQL beside the own one.

    Only a superuser may.
    """
    if not await connection.fetchval(_SUPERUSER):
        return
    revoke = "REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC"
    signals = "GRANT EXECUTE ON FUNCTION %s TO pg_signal_backend"
    statements = sql.read_current("node_commands", owner=await connection.fetchval(_OWNER))
    statements += sql.read_current("shared_stores", change=revoke)
    statements += sql.read_current("signals", public=revoke, signals=signals)
    for statement in statements:
        await connection.fetch(_ON_NODES, statement)
    await connection.execute(_HIDES.format(await connection.fetchval("SELECT quote_ident(current_database())")))


def distribution(table: str) -> str:
    """Return the call that distributes a table."""
    if table == "projects":
        return "SELECT create_distributed_table('public.projects', 'id')"
    return f"SELECT create_distributed_table('public.{table}', 'project_id', colocate_with => 'public.projects')"


async def _drop_statistics(connection: Any, table: str, *, is_distributed: bool) -> None:
    """Gather no statistics of values, on the shards too where there are some already: Citus does not send it there."""
    await connection.execute("SET citus.enable_ddl_propagation = off")
    for statement in sql.read_current("no_statistics", table=table):
        await connection.execute(statement)
    await connection.execute("RESET citus.enable_ddl_propagation")
    if is_distributed:
        for statement in sql.read_current("no_shard_statistics", shard="%1$s"):
            await connection.fetch(_SHARDS, f"public.{table}", statement)


async def distribute(connection: Any, *, progress: Progress | None = None) -> Distribution:
    """Distribute the tables of a migrated database, and those of the service that are fenced, parents first. Idempotent.

    Runs as the owner, directly.

    One whose scope was plain is sealed. Services that run meanwhile know nothing of it, and their units fail until they start
    anew. After a node was added, it closes there what a superuser takes from everybody.

    Errors:
        ConfigurationError without Citus, or before the newest revision.

    Locks:
        Each table, while its rows move to their shards: no writes meanwhile.

    Cost:
        What is stored is copied once.
    """
    facts = await read_facts(connection)
    if not facts.is_distributed:
        raise ConfigurationError(
            "This server has no Citus. As an administrator: shared_preload_libraries = 'citus', then CREATE EXTENSION citus."
        )
    if await read_revision(connection) != sql.HEAD_REVISION:
        raise ConfigurationError("Distribute a database at the newest revision: run `derwin-db migrate` first.")
    for setting in SETTINGS:
        await connection.execute(setting)
    own = await own_in_order(connection)
    tables = [*in_order(), *own]
    before = [table for table in tables if await connection.fetchval(_DISTRIBUTED, f"public.{table}")]
    if "projects" not in before or not facts.is_sharded:
        await _seal(connection)
    await _close_nodes(connection)
    done = []
    gathered = {part.partition(".")[0] for part in await value_statistics(connection)}
    for number, table in enumerate(tables, 1):
        if table in gathered:
            await _drop_statistics(connection, table, is_distributed=table in before)
        if table not in before:
            await connection.execute(distribution(table))
            done.append(table)
        if progress is not None:
            progress(table, number, len(tables))
    return Distribution(done, before)


async def open_node_commands(connection: Any) -> list[str]:
    """Return the functions that send SQL to a node by itself, and that derwin_app may call."""
    return [row["name"] for row in await connection.fetch(_SENDING)]


async def showing_nodes(connection: Any, *, is_owner: bool) -> list[str]:
    """Return the nodes where a session of derwin_app sees what others send. Without the owner's login the own node alone."""
    if not is_owner:
        return ["the coordinator"] * (await connection.fetchval(_SHOWING) != HIDES_STATEMENTS)
    rows = await connection.fetch(_ON_NODES, _SHOWING)
    return [f"node {row['nodeid']}" for row in rows if not row["success"] or row["result"] != HIDES_STATEMENTS]


async def unfenced_shards(connection: Any, form: ScopeForm) -> list[str]:
    """Return what the shards' own policies are, where they are not the scope alone. Runs as the owner or an administrator."""
    wrong = []
    for table in [*in_order(), *await own_in_order(connection)]:
        condition = policy_condition(table, form)
        expected = f"true derwin_scope true * {condition} {condition}"
        rows = await connection.fetch(_SHARDS, f"public.{table}", _ON_SHARD)
        others = {row["result"] for row in rows if not row["success"] or row["result"] != expected}
        wrong += [f"shards of {table}: {other}" for other in sorted(others)]
    return wrong + (await _changed_seals(connection) if form is ScopeForm.SHARDED else [])


async def _changed_seals(connection: Any) -> list[str]:
    """Return the nodes whose functions of the seal are not the ones that this package makes: each checks by its own."""
    bodies = await code.seal_bodies(connection, ScopeForm.SHARDED)
    expected = "; ".join(
        f"{name} true search_path=pg_catalog, pg_temp {md5(body.encode(), usedforsecurity=False).hexdigest()}"
        for name, body in sorted(bodies.items())
    )
    rows = await connection.fetch(_ON_NODES, _SEAL_ON_NODE)
    changed = [row["nodeid"] for row in rows if not row["success"] or row["result"] != expected]
    return [f"node {node}: the functions of the seal" for node in changed]


async def probe_topology(connection: Any) -> Topology:
    """Return how the tables are distributed. Any login may look. Not for a server without Citus."""
    nodes = await connection.fetch(_NODES)
    tables = await connection.fetch(_TABLES)
    distributed = {row["name"]: row for row in tables if row["is_distributed"]}
    root = distributed.get("projects")
    place = None if root is None else (root["place"], root["shards"])
    return Topology(
        shards={node["name"]: node["shards"] for node in nodes if node["has_shards"] or node["shards"]},
        forgotten=[row["name"] for row in tables if not row["is_distributed"]],
        misplaced=[
            name
            for name, row in distributed.items()
            if row["column"] != ("id" if name == "projects" else "project_id") or (row["place"], row["shards"]) != place
        ],
        silent=[node["name"] for node in nodes if not node["is_active"]],
    )
