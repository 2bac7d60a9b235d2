"""Privileges: who may do what beyond the grants of this package."""

import re
from functools import cache
from typing import Any

from derwin_db import sql
from derwin_db.isolation.catalog.tables import OURS, TABLES
from derwin_db.isolation.preamble import ADMIN_ROLE, APP_ROLE

SEAL = ("derwin_open", "derwin_scope", "derwin_scope_on_shard")
"""The functions of the seal: SECURITY DEFINER, because they read the key."""

OPERATED = ("derwin_end_process",)
"""What operators call too."""

CALLED: dict[str, tuple[str, ...]] = {
    APP_ROLE: (*SEAL, "derwin_is_restoring", "derwin_stalled", "derwin_waiting", *OPERATED),
    ADMIN_ROLE: OPERATED,
}
"""Functions of this package that run as their owner, by the role that may call them."""

DEFINERS: tuple[str, ...] = (*CALLED[APP_ROLE], "derwin_note_open_run")
"""All functions of this package that run as their owner: they read or write what is closed to sessions."""

_CLOSED = ("derwin_check_asker",)
"""What only these functions call."""

Grant = tuple[str, str, str, str]
"""Table, column (empty for the whole table), role, privilege."""


_GRANT = re.compile(r"GRANT ([A-Z, ]+?)(?:\s*\(([a-z_, ]+)\))?\s+ON ((?:public\.[a-z_]+(?:,\s*)?)+)\s+TO ([a-z_, ]+);")


@cache
def expected_grants() -> frozenset[Grant]:
    """Return what the entities `grants` and `grants_<table>` grant on tables."""
    found: set[Grant] = set()
    entities = [name for name in sql.CURRENT if name.partition("_")[0] == "grants" or name == "version_table"]
    for statement in (statement for entity in entities for statement in sql.read_current(entity)):
        text = " ".join(line for line in statement.splitlines() if not line.startswith("--"))
        matched = _GRANT.search(" ".join(text.split()))
        if matched is None:
            continue
        privileges, columns, tables, roles = matched.groups()
        for privilege in _listed(privileges):
            for column in _listed(columns or "") or [""]:
                for table in _listed(tables):
                    found.update((table.removeprefix("public."), column, role, privilege) for role in _listed(roles))
    return frozenset(grant for grant in found if grant[0] != "alembic_version")  # granted once, closed since


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


async def grants(opened: Any) -> tuple[list[str], list[str]]:
    """Return what is granted on our tables beyond what this package grants, and what of that is missing."""
    rows = await opened.fetch(
        f"""
        SELECT t.relname AS name, '' AS col, a.grantee, a.privilege_type, t.relowner
        FROM pg_class t, aclexplode(t.relacl) a WHERE {OURS}
        UNION ALL
        SELECT t.relname, c.attname, a.grantee, a.privilege_type, t.relowner
        FROM pg_class t JOIN pg_attribute c ON c.attrelid = t.oid, aclexplode(c.attacl) a WHERE {OURS}
        """,
        (*TABLES, sql.VERSION_TABLE),
    )
    names = {row["oid"]: row["rolname"] for row in await opened.fetch("SELECT oid, rolname FROM pg_roles")}
    present = {
        (row["name"], row["col"], names.get(row["grantee"], "PUBLIC"), row["privilege_type"])
        for row in rows
        if row["grantee"] != row["relowner"]
    }
    expected = expected_grants()
    return [_said(grant) for grant in sorted(present - expected)], [_said(grant) for grant in sorted(expected - present)]


def _said(grant: Grant) -> str:
    table, column, role, privilege = grant
    return f"{privilege} on {table}{f' ({column})' if column else ''} to {role}"


async def outer_grants(opened: Any, login: str) -> list[str]:
    """Return who may make temporary tables, or create in the database or its schemas, of the roles that units of work have."""
    rows = await opened.fetch(
        """
        SELECT who.rolname, what.privilege FROM pg_roles who, LATERAL (VALUES
            ('TEMPORARY', has_database_privilege(who.oid, current_database(), 'TEMPORARY')),
            ('CREATE on the database', has_database_privilege(who.oid, current_database(), 'CREATE')),
            ('USAGE on the schema derwin', who.rolname <> $2
                AND coalesce(has_schema_privilege(who.oid, to_regnamespace('derwin'), 'USAGE'), false))
        ) AS what (privilege, is_held)
        WHERE who.rolname = ANY ($1::name[]) AND what.is_held
        UNION ALL
        SELECT who.rolname, format('CREATE on the schema %s', n.nspname) FROM pg_roles who, pg_namespace n
        WHERE who.rolname = ANY ($1::name[]) AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        AND has_schema_privilege(who.oid, n.oid, 'CREATE')
        ORDER BY 1, 2
        """,
        [APP_ROLE, ADMIN_ROLE, login],
        ADMIN_ROLE,
    )
    return [f"{row['privilege']} to {row['rolname']}" for row in rows]


async def function_grants(opened: Any) -> list[str]:
    """Return who may call what runs as the owner, or read the key or the queue, beside the owner and those that have to."""
    rows = await opened.fetch(
        """
        SELECT coalesce(r.rolname, 'PUBLIC') AS grantee, p.proname || '()' AS what FROM pg_proc p
        CROSS JOIN aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ANY ($1::name[]) AND a.grantee <> p.proowner
        UNION ALL
        SELECT coalesce(r.rolname, 'PUBLIC'), 'derwin.' || t.relname FROM pg_class t CROSS JOIN aclexplode(t.relacl) a
        LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE t.relnamespace = to_regnamespace('derwin') AND a.grantee <> t.relowner
        """,
        (*DEFINERS, *_CLOSED),
    )
    allowed = {(role, f"{name}()") for role, names in CALLED.items() for name in names}
    allowed |= {(ADMIN_ROLE, "derwin.scope_key"), (ADMIN_ROLE, "derwin.restoring")}
    present = {(row["grantee"], row["what"]) for row in rows}
    return [f"{what} to {grantee}" for grantee, what in sorted(present - allowed)]
