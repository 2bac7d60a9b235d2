"""Row level security: which tables have it, and what their policies say."""

from typing import Any

from derwin_db.isolation.catalog.tables import OURS, TABLES
from derwin_db.isolation.preamble import ADMIN_ROLE, APP_ROLE, ScopeForm, policy_condition


async def row_security(opened: Any) -> tuple[list[str], list[str]]:
    """Return the tables where row level security is off, and those where it is not forced upon the owner."""
    query = f"SELECT relname AS name, relrowsecurity AS is_on, relforcerowsecurity AS is_forced FROM pg_class t WHERE {OURS}"
    rows = {row["name"]: row for row in await opened.fetch(query, TABLES)}
    off = [name for name in TABLES if name not in rows or not rows[name]["is_on"]]
    unforced = [name for name in TABLES if name != "projects" and name in rows and not rows[name]["is_forced"]]
    return off, unforced


def expected_policies(form: ScopeForm) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Return (permissive, command, roles, USING, WITH CHECK) of each policy that this package makes, by table and name.

    Where the scope is plain or sharded it is one permissive policy: a restrictive one reaches shards as a permissive one.
    """
    both = ("true", "true")
    found: dict[tuple[str, str], tuple[Any, ...]] = {("projects", "derwin_admin_rows"): (True, "*", (ADMIN_ROLE,), *both)}
    for table in TABLES:
        condition = policy_condition(table, form)
        if form.is_restrictive:
            found[table, "derwin_app_rows"] = (True, "*", (APP_ROLE,), *both)
        found[table, "derwin_scope"] = (not form.is_restrictive, "*", (APP_ROLE,), condition, condition)
        if table != "projects":
            found[table, "derwin_admin_reads"] = (True, "r", (ADMIN_ROLE,), "true", None)
    found["project_mode_logs", "derwin_admin_adds"] = (True, "a", (ADMIN_ROLE,), None, "true")
    found["audit_artifacts", "derwin_admin_raises"] = (True, "w", (ADMIN_ROLE,), *both)
    found["audit_artifacts", "derwin_admin_prunes"] = (True, "d", (ADMIN_ROLE,), "true", None)
    return found


async def policies(opened: Any, form: ScopeForm) -> tuple[list[str], list[str]]:
    """Return the policies that are missing or changed, and those that are not ours. search_path must be pg_catalog."""
    rows = await opened.fetch(
        f"""
        SELECT t.relname AS name, p.polname, p.polpermissive, p.polcmd::text,
               ARRAY(SELECT CASE r WHEN 0 THEN 'public' ELSE r::regrole::text END FROM unnest(p.polroles) r) AS roles,
               pg_get_expr(p.polqual, t.oid) AS qual, pg_get_expr(p.polwithcheck, t.oid) AS checked
        FROM pg_policy p JOIN pg_class t ON t.oid = p.polrelid WHERE {OURS}
        """,
        TABLES,
    )
    present = {
        (row["name"], row["polname"]): (
            row["polpermissive"], row["polcmd"], tuple(row["roles"]), row["qual"], row["checked"]
        )
        for row in rows
    }  # fmt: skip
    expected = expected_policies(form)
    wrong = [f"{name} of {table}" for (table, name), said in expected.items() if present.get((table, name)) != said]
    foreign = [f"{name} of {table}" for table, name in present if (table, name) not in expected]
    return wrong, foreign


async def unfenced_tables(opened: Any, form: ScopeForm) -> list[str]:
    """Return tables with a project_id, in any schema, that are not fenced: a table that was added, or a partition.

    And those that ours inherit from, through which all of their rows are read.
    """
    rows = await opened.fetch(
        """
        SELECT t.oid::regclass::text AS name FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
        WHERE t.relkind IN ('r', 'p', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
        AND t.relpersistence <> 't' AND NOT (n.nspname = 'public' AND t.relname = ANY ($1::name[]))
        AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = 'project_id' AND NOT a.attisdropped)
        AND NOT (t.relrowsecurity AND t.relforcerowsecurity AND EXISTS (
            SELECT FROM pg_policy p WHERE p.polrelid = t.oid AND p.polpermissive <> $4 AND p.polcmd = '*'
            AND (to_regrole($2) = ANY (p.polroles) OR p.polroles = '{0}')
            AND pg_get_expr(p.polqual, t.oid) = $3 AND coalesce(pg_get_expr(p.polwithcheck, t.oid), $3) = $3
        ))
        UNION
        SELECT format('%s, which %s inherits from', i.inhparent::regclass, t.relname) FROM pg_inherits i
        JOIN pg_class t ON t.oid = i.inhrelid WHERE t.relnamespace = 'public'::regnamespace AND t.relname = ANY ($1::name[])
        ORDER BY 1
        """,
        TABLES,
        APP_ROLE,
        policy_condition("qa_tickets", form),
        form.is_restrictive,
    )
    return [row["name"] for row in rows]
