"""Tables of a service's own: whether each stands behind the fences that `derwin_db.migrations.fence` puts up.

The catalog alone says which there are: tables of the schema public that are not ours and have the policy of the admin door,
which only `fence` makes, or are named here. A table that was fenced by hand is held to its scope alone, by `unfenced_tables`.
"""

from collections.abc import Collection
from typing import Any

from derwin_db.isolation.catalog.tables import TABLES
from derwin_db.isolation.preamble import ADMIN_ROLE, APP_ROLE, ScopeForm, policy_condition

_CHANGES = {"SELECT", "INSERT", "UPDATE", "DELETE"}
_ADDITIONS = {"SELECT", "INSERT"}
_GUARDS = ("derwin_append_only_row", "derwin_append_only_statement", "derwin_append_only_truncate")

_SEEN = """
SELECT t.relname AS name, t.relrowsecurity AS is_on, t.relforcerowsecurity AS is_forced,
    ARRAY(SELECT ARRAY[
        p.polname::text, p.polpermissive::text, p.polcmd::text,
        (SELECT string_agg(CASE r WHEN 0 THEN 'public' ELSE r::regrole::text END, ',') FROM unnest(p.polroles) r),
        coalesce(pg_get_expr(p.polqual, t.oid), ''), coalesce(pg_get_expr(p.polwithcheck, t.oid), '')
    ] FROM pg_policy p WHERE p.polrelid = t.oid) AS policies,
    ARRAY(SELECT ARRAY[coalesce(r.rolname::text, 'PUBLIC'), a.privilege_type, ''] FROM aclexplode(t.relacl) a
          LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE a.grantee <> t.relowner
          UNION ALL
          SELECT ARRAY[coalesce(r.rolname::text, 'PUBLIC'), a.privilege_type, c.attname::text]
          FROM pg_attribute c, aclexplode(c.attacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
          WHERE c.attrelid = t.oid AND a.grantee <> t.relowner) AS grants,
    ARRAY(SELECT i.relname::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
          WHERE x.indrelid = t.oid AND (x.indisunique OR x.indisexclusion OR m.amname = 'btree') AND x.indkey[0] <> (
              SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = 'project_id')) AS loose_indexes,
    ARRAY(SELECT f.conname::text FROM pg_constraint f WHERE f.conrelid = t.oid AND f.contype = 'f' AND (f.conkey[1] <> (
              SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = 'project_id')
          OR NOT f.convalidated)) AS loose_references,
    EXISTS (SELECT FROM pg_constraint f WHERE f.conrelid = t.oid AND f.contype = 'f' AND f.confdeltype = 'c'
            AND f.confrelid = 'public.projects'::regclass) AS goes_with_project,
    ARRAY(SELECT ARRAY[g.tgname::text, g.tgenabled::text] FROM pg_trigger g
          WHERE g.tgrelid = t.oid AND NOT g.tgisinternal AND g.tgname = ANY ($3::name[])) AS guards
FROM pg_class t
WHERE t.relnamespace = 'public'::regnamespace AND t.relkind IN ('r', 'p') AND NOT t.relname = ANY ($1::name[])
AND (t.relname = ANY ($2::name[]) OR ($4 AND EXISTS (
    SELECT FROM pg_policy p WHERE p.polrelid = t.oid AND p.polname = 'derwin_admin_reads')))
ORDER BY t.relname
"""


async def loose_tables(
    opened: Any, named: Collection[str] = (), logs: Collection[str] = (), *, form: ScopeForm, look_for_more: bool
) -> list[str]:
    """Say what is missing around tables of the service: those `named`, where they are there, and others that are fenced.

    `logs` are to be append-only. search_path must be pg_catalog.
    """
    rows = await opened.fetch(_SEEN, TABLES, list(named), list(_GUARDS), look_for_more)
    scope = _scope(form)
    return [f"{row['name']}: {what}" for row in rows for what in _missing(row, scope, is_log=row["name"] in logs)]


def _scope(form: ScopeForm) -> dict[str, tuple[str, ...]]:
    """Return the policies for derwin_app: two where the scope's is restrictive, else one, as of our own tables."""
    condition = policy_condition("qa_tickets", form)
    if not form.is_restrictive:
        return {"derwin_scope": ("true", "*", APP_ROLE, condition, condition)}
    return {
        "derwin_app_rows": ("true", "*", APP_ROLE, "true", "true"),
        "derwin_scope": ("false", "*", APP_ROLE, condition, condition),
    }


def _missing(row: Any, scope: dict[str, tuple[str, ...]], *, is_log: bool) -> list[str]:
    wrong = ["row level security is off"] * (not row["is_on"])
    wrong += ["row level security is not forced"] * (not row["is_forced"])
    policies = {policy[0]: tuple(policy[1:]) for policy in row["policies"]}
    expected = {**scope, "derwin_admin_reads": ("true", "r", ADMIN_ROLE, "true", "")}
    wrong += [f"the policy {name} is missing or changed" for name, form in expected.items() if policies.get(name) != form]
    wrong += [f"the policy {name} is not ours" for name in sorted(set(policies) - set(expected))]
    guards = {guard[0]: guard[1] for guard in row["guards"]}
    held = {grant[1] for grant in row["grants"] if (grant[0], grant[2]) == (APP_ROLE, "")}
    is_guarded = is_log or bool(guards)
    wrong += _grants(row["grants"], held, _ADDITIONS if is_guarded else _CHANGES)
    if is_guarded:
        wrong += [f"{name} is missing, or not ALWAYS" for name in _GUARDS if guards.get(name) != "A"]
    wrong += [f"{name} does not begin with project_id" for name in row["loose_indexes"]]
    wrong += [f"{name} does not bind the project" for name in row["loose_references"]]
    return wrong + ["its rows do not go with their project"] * (not row["goes_with_project"])


def _grants(grants: Any, held: set[str], most: set[str]) -> list[str]:
    allowed = {(APP_ROLE, privilege, "") for privilege in most} | {(ADMIN_ROLE, "SELECT", "project_id")}
    extra = sorted({tuple(grant) for grant in grants} - allowed)
    found = [f"{privilege}{f' ({column})' if column else ''} is granted to {role}" for role, privilege, column in extra]
    return found + [f"{APP_ROLE} lacks {privilege}" for privilege in sorted(_ADDITIONS - held)]
