"""What runs by itself: triggers, rules, functions, views."""

import hashlib
from collections.abc import Mapping
from typing import Any

from derwin_db import sql
from derwin_db.errors import APPEND_ONLY_TABLES
from derwin_db.isolation.catalog.forms import expected_forms, form_of
from derwin_db.isolation.catalog.grants import DEFINERS
from derwin_db.isolation.catalog.tables import OURS, TABLES
from derwin_db.isolation.preamble import APP_ROLE, ScopeForm

STAMPS = {
    ("audit_artifacts", "derwin_stamp_evidence"),
    ("project_mode_logs", "derwin_stamp_log"),
    ("profile_evolution_logs", "derwin_stamp_log"),
    ("project_mode_logs", "derwin_check_mode_log"),
    ("projects", "derwin_check_mode"),
    ("profile_evolution_logs", "derwin_check_profile_log"),
    ("spend_ledger", "derwin_check_ledger"),
}
"""What stamps and checks rows as they are written. Not on a distributed server: they look at other tables."""

STATE_MACHINES = ("qa_fix_attempts", "qa_runs", "qa_tickets")
"""Tables whose status changes along a state machine."""
QUEUE = {("qa_runs", "derwin_note_open_run")}
"""What keeps the queue over all projects. Not on a distributed server: it writes to a table of one node."""


def expected_triggers(*, is_distributed: bool) -> set[tuple[str, str]]:
    """Return (table, trigger) of what guards the append-only tables, statuses, the evidence and what is written, or derives."""
    guards = ("append_only_row", "append_only_statement", "append_only_truncate")
    found = {(table, f"derwin_{guard}") for table in APPEND_ONLY_TABLES for guard in guards}
    found |= {(table, "derwin_search_row") for table in sql.DERIVED_COLUMNS}
    found |= {(table, "derwin_check_status") for table in STATE_MACHINES}
    found |= {("audit_artifacts", "derwin_keep_evidence_row"), ("audit_artifacts", "derwin_keep_evidence_truncate")}
    return found if is_distributed else found | STAMPS | QUEUE


async def triggers(opened: Any, *, is_distributed: bool) -> list[str]:
    """Return guards that are missing, disabled, not as they were made, or walked past by a setting; and rules."""
    rows = await opened.fetch(
        f"""
        SELECT t.relname AS name, g.tgname, g.tgenabled::text, g.tgtype::int AS bits, pg_get_triggerdef(g.oid) AS definition,
               CASE WHEN p.pronamespace = 'public'::regnamespace THEN p.proname::text ELSE '' END AS function,
               ARRAY(
                   SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = ANY (g.tgattr)
               ) AS columns
        FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid JOIN pg_proc p ON p.oid = g.tgfoid
        WHERE NOT g.tgisinternal AND {OURS}
        """,
        TABLES,
    )
    expected = expected_triggers(is_distributed=is_distributed)
    forms = expected_forms()
    made = {(row["name"], row["tgname"]): form_of(row) for row in rows}
    states = {(row["name"], row["tgname"]): row["tgenabled"] for row in rows}
    said = {None: "is missing", "D": "is disabled", "O": "is not ALWAYS", "R": "fires on replicas alone"}
    wrong = [
        f"{name} of {table} {said.get(states.get((table, name)), 'is not ours')}"
        for table, name in sorted(expected)
        if states.get((table, name)) != "A"
    ]
    wrong += [f"{name} of {table} is not ours" for table, name in sorted(set(states) - expected)]
    changed = sorted(each for each in expected & made.keys() if made[each] != forms[each])
    wrong += [f"{name} of {table} is not as it was made" for table, name in changed]
    if await opened.fetchval("SELECT current_setting('session_replication_role')") != "origin":
        wrong.append("session_replication_role is set for sessions here: no foreign key is looked at")
    ruled = await opened.fetch(f"SELECT t.relname AS name FROM pg_class t WHERE t.relhasrules AND {OURS}", TABLES)
    return wrong + [f"{row['name']} has a rule" for row in ruled]


def ending_bodies() -> dict[str, str]:
    """Return the function that ends what a unit was given up for, by name. It is there where the scope is sealed."""
    return sql.function_bodies("end_process")


async def seal_bodies(opened: Any, form: ScopeForm) -> dict[str, str]:
    """Return the functions of the seal by name; none where the scope is plain."""
    if form is ScopeForm.SHARDED:
        return sql.function_bodies("scope_on_shards", key=await key_on_shards(opened) or "")
    return sql.function_bodies("scope_sealed") if form is ScopeForm.SEALED else {}


async def key_on_shards(opened: Any) -> str | None:
    """Return the name of the key's table on each node: a copy of the reference table, that its node reads by itself."""
    name: str | None = await opened.fetchval(
        """
        SELECT 'scope_key_' || s.shardid FROM pg_catalog.pg_dist_shard s
        JOIN pg_class t ON t.oid = s.logicalrelid AND t.relname = 'scope_key'
        JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = 'derwin'
        """
    )
    return name


async def search_bodies(opened: Any) -> dict[str, str]:
    """Return the functions that derive what search compares, by name, as they are where pgvector's schema is."""
    home = await opened.fetchval(
        "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
        "WHERE e.extname = 'vector'"
    )
    return {
        **sql.function_bodies("words"),
        **sql.function_bodies("search_rag_corpus"),
        **({"derwin_signs": f"RETURN {home}.binary_quantize(given)"} if home else {}),  # it goes with pgvector
        **sql.function_bodies("search_qa_tickets"),
    }


def guard_bodies(*, is_distributed: bool) -> dict[str, str]:
    """Return the functions of the triggers by name."""
    gone = "true" if is_distributed else sql.PROJECT_IS_GONE
    return {
        **sql.function_bodies("append_only", project_is_gone=gone),
        **sql.function_bodies("retention", project_is_gone=gone),
        **sql.function_bodies("history"),
        **sql.function_bodies("statuses"),
        **sql.function_bodies("keep_fences"),
        **({} if is_distributed else _bodies_of_one_node()),
    }


def _bodies_of_one_node() -> dict[str, str]:
    return {
        name: body
        for entity in ("stamps", "stamp_log", "check_mode", "check_ledger", "profile_log", "queue")
        for name, body in sql.function_bodies(entity).items()
    }


_IMMUTABLE = {"derwin_words", "derwin_signs"}
_STABLE = {
    "derwin_scope",
    "derwin_scope_on_shard",
    "derwin_is_restoring",
    "derwin_check_asker",
    "derwin_waiting",
    "derwin_stalled",
}


def _volatility(name: str) -> str:
    """Return how often the server computes the function: a scope that is kept in a plan would be that of another unit."""
    return "i" if name in _IMMUTABLE else "s" if name in _STABLE else "v"


async def changed_functions(opened: Any, expected: Mapping[str, str], noted: Mapping[str, str] | None = None) -> list[str]:
    """Return functions of these that are missing, or are not what this package makes.

    Where a hash is `noted`, the function is the one of a newer revision, and has to be that one.
    """
    hashes = {name: hashlib.sha256(body.encode()).hexdigest() for name, body in expected.items()} | dict(noted or {})
    rows = await opened.fetch(
        """
        SELECT p.proname, coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) AS prosrc, p.prosecdef, p.proconfig,
               p.provolatile::text, p.proleakproof
        FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ANY ($1::name[])
        """,
        list(expected),
    )
    present = {row["proname"]: row for row in rows}
    return [
        name
        for name in expected
        if name not in present
        or hashlib.sha256(present[name]["prosrc"].encode()).hexdigest() != hashes[name]
        or present[name]["prosecdef"] != (name in DEFINERS)
        or present[name]["provolatile"] != _volatility(name)
        or present[name]["proleakproof"]
        or present[name]["proconfig"] != ["search_path=pg_catalog, pg_temp"]
    ]


async def definer_functions(opened: Any, login: str) -> list[str]:
    """Return SECURITY DEFINER functions, ours excepted, that a unit of work may call: they run with their owner's rights."""
    rows = await opened.fetch(
        """
        SELECT DISTINCT p.oid::regprocedure::text AS name FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        JOIN pg_roles who ON who.rolname = ANY ($1::name[])
        WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')
        AND NOT (n.nspname = 'public' AND p.proname = ANY ($2::name[]))
        AND has_function_privilege(who.oid, p.oid, 'EXECUTE') AND has_schema_privilege(who.oid, n.oid, 'USAGE')
        ORDER BY 1
        """,
        [APP_ROLE, login],
        DEFINERS,
    )
    return [row["name"] for row in rows]


async def open_views(opened: Any) -> list[str]:
    """Return views of our tables that read with their owner's rights, views of views included, and materialized ones."""
    rows = await opened.fetch(
        """
        WITH RECURSIVE reading AS (
            SELECT v.ev_class AS oid FROM pg_depend d JOIN pg_rewrite v ON v.oid = d.objid JOIN pg_class t ON t.oid = d.refobjid
            WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
            AND t.relnamespace = 'public'::regnamespace AND t.relname = ANY ($1::name[]) AND v.ev_class <> t.oid
            UNION
            SELECT v.ev_class FROM reading r JOIN pg_depend d ON d.refobjid = r.oid JOIN pg_rewrite v ON v.oid = d.objid
            WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
        )
        SELECT c.oid::regclass::text AS name, c.relkind::text FROM reading JOIN pg_class c USING (oid)
        WHERE c.relkind = 'm' OR (c.relkind = 'v' AND NOT coalesce(
            (SELECT bool_or(o.option_value::bool) FROM pg_options_to_table(c.reloptions) o
             WHERE o.option_name = 'security_invoker'),
            false
        )) ORDER BY 1
        """,
        TABLES,
    )
    return [f"{'the materialized view' if row['relkind'] == 'm' else 'the view'} {row['name']}" for row in rows]
