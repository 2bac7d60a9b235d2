"""Policies, grants and what is closed made again, where somebody took them down: `derwin-db roles create` does it.

`DROP OWNED BY derwin_app` takes all of them at once, and `migrate` has nothing to do then: the revision is the newest.
"""

import re
from collections.abc import Iterable, Iterator

from derwin_db import sql
from derwin_db.connection.driver import Connection
from derwin_db.connection.facts import read_facts, read_revision
from derwin_db.isolation.catalog.grants import CALLED, grants
from derwin_db.isolation.catalog.policies import policies
from derwin_db.isolation.catalog.stores import CLOSED, STORES, is_closable, open_functions
from derwin_db.isolation.preamble import ADMIN_ROLE, APP_ROLE, ScopeForm

_POLICY = re.compile(r"CREATE POLICY ([a-z_]+) ON public\.([a-z_]+)")


_CALLED = """
SELECT p.oid::regprocedure::text AS name FROM pg_proc p
WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ANY ($1::name[])
"""
"""The functions of this package that units of work call, as they are named while search_path is pg_catalog."""


_VECTOR_SCHEMA = """
SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'
"""


async def remake_fences(connection: Connection) -> list[str]:
    """Make missing and changed policies and missing grants again, as the owner. Returns what was made. Idempotent.

    As a superuser it closes again, too, what units of all projects would share.

    Not before the newest revision: a migration comes first.

    Locks:
        Each table whose policy is made, exclusively, for an instant.
    """
    if await read_revision(connection) != sql.HEAD_REVISION:
        return []
    facts = await read_facts(connection)
    async with connection.transaction():
        await connection.execute("SET LOCAL search_path = pg_catalog")
        closed = await _close(connection, is_sealed=facts.is_sealed) if await is_closable(connection) else []
        wrong, _ = await policies(connection, facts.scope)
        for name, table, statement in _policies(facts.scope):
            if f"{name} of {table}" in wrong:
                await connection.execute(f"DROP POLICY IF EXISTS {name} ON public.{table}")
                await connection.execute(statement)
        _, missing = await grants(connection)
        if not facts.has_vector_grant:
            missing = [*missing, f"USAGE on the schema {facts.vector_schema}"]
        home = await connection.fetchval(_VECTOR_SCHEMA)
        for statement in _grants(home):
            await connection.execute(statement)
        for role, names in CALLED.items():
            for row in await connection.fetch(_CALLED, names):
                await connection.execute(f"GRANT EXECUTE ON FUNCTION {row['name']} TO {role}")
    return [*wrong, *missing, *closed]


_IS_SUPERUSER = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
_TO_SIGNAL = "GRANT EXECUTE ON FUNCTION %s TO pg_signal_backend"
_KEPT = "SELECT evtenabled = 'A' FROM pg_event_trigger WHERE evtname = 'derwin_keep_fences'"


async def _close(connection: Connection, *, is_sealed: bool) -> list[str]:
    """Take from the roles of units what only a superuser can take. Returns what had to be taken again."""
    if not await connection.fetchval(_IS_SUPERUSER):
        return []
    again = await open_functions(connection, APP_ROLE, CLOSED if is_sealed else STORES)
    for role in ("PUBLIC", APP_ROLE):
        revoke = f"REVOKE EXECUTE ON FUNCTION %s FROM {role}"
        statements = sql.read_current("shared_stores", change=revoke)
        if is_sealed:
            statements += sql.read_current("signals", public=revoke, signals=_TO_SIGNAL)
        for statement in statements:
            await connection.execute(statement)
    is_kept = await connection.fetchval(_KEPT)
    if is_kept is None:
        await connection.execute(sql.read_current("keep_fences")[-1])
    elif not is_kept:
        await connection.execute("ALTER EVENT TRIGGER derwin_keep_fences ENABLE ALWAYS")
    return [f"{name} (closed)" for name in again] + ["derwin_keep_fences"] * (not is_kept)


def scope_policies(tables: Iterable[str]) -> list[str]:
    """Return the statements that make the scope's policy where it is checked on shards."""
    made = []
    for table in tables:
        entity = "projects_policies_sharded" if table == "projects" else "table_policies_sharded"
        made += [one for one in sql.read_current(entity, table=table) if "CREATE POLICY derwin_scope " in one]
    return made


def _policies(form: ScopeForm) -> Iterator[tuple[str, str, str]]:
    """Yield name, table and statement of each policy of this package."""
    statements = [*sql.read_current(f"projects_policies_{form}"), *sql.read_current("admin_writes")]
    for table in sql.PROJECT_TABLES:
        statements += sql.read_current(f"table_policies_{form}", table=table)
        statements += sql.read_current("admin_policies", table=table)
    for statement in statements:
        found = _POLICY.search(statement)
        if found is not None:
            yield found[1], found[2], statement


def _grants(vector_schema: str) -> Iterator[str]:
    """Yield all grants on tables, and on what search needs: to grant what is granted changes nothing."""
    yield f"GRANT USAGE ON SCHEMA {vector_schema} TO {APP_ROLE}, {ADMIN_ROLE}, derwin_backfill"
    for entity in ("grants", "history", "version_table", "words", "search_rag_corpus"):
        for statement in sql.read_current(entity, vector=vector_schema):
            if re.search(r"^GRANT (?!SELECT ON public\.alembic_version )", statement, re.MULTILINE):  # which was renamed since
                yield statement
