"""Keys and indexes: fence 3, and what makes scoped reads fast."""

from collections.abc import Iterable
from typing import Any

from derwin_db import sql
from derwin_db.isolation.catalog.tables import OURS, TABLES

Name = tuple[str, str]
"""A table, and the name of one of its constraints."""


async def keys(opened: Any, expected: Iterable[Name]) -> list[str]:
    """Return keys, constraints and indexes that do not begin with project_id, and expected ones that are gone.

    An index over rows of all projects tells what others have, by what it finds before the policy or by which rows are nearest.
    One that is made for a single project holds no others. That of projects has its id, which is then looked for in
    the index too, or is over lower(slug), whose comparisons are not leakproof.
    """
    rows = await opened.fetch(
        f"""
        SELECT t.relname AS name, i.relname AS index, x.indisprimary, x.indisunique OR x.indisexclusion AS is_unique,
               coalesce(pg_get_expr(x.indpred, t.oid) ~ '\\mproject_id = ''[-0-9a-f]{{36}}''::uuid', false) AS is_of_one,
               pg_get_indexdef(i.oid, 1, true) AS first,
               ARRAY(SELECT coalesce(a.attname::text, '?') FROM unnest(x.indkey) WITH ORDINALITY AS k (number, place)
                     LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number AND k.number <> 0
                     WHERE k.place <= x.indnkeyatts ORDER BY k.place) AS columns
        FROM pg_class t JOIN pg_index x ON x.indrelid = t.oid JOIN pg_class i ON i.oid = x.indexrelid
        WHERE {OURS}
        """,
        TABLES,
    )
    wrong = [
        f"{row['index']} of {row['name']} is over ({', '.join(row['columns'])})"
        for row in rows
        if not (_is_of_projects(row) if row["name"] == "projects" else _is_scoped(row))
    ]
    present = {(row["name"], row["index"]) for row in rows if row["is_unique"]}
    return wrong + [f"{name} of {table} is missing" for table, name in sorted(set(expected) - present)]


def _is_scoped(row: Any) -> bool:
    if row["indisprimary"]:
        return bool(row["columns"] == ["project_id", "id"])
    return row["columns"][0] == "project_id" or (row["is_of_one"] and not row["is_unique"])


def _is_of_projects(row: Any) -> bool:
    return "id" in row["columns"] or row["first"] == "lower(slug)"


async def foreign_keys(opened: Any, expected: Iterable[Name]) -> list[str]:
    """Return foreign keys of project-scoped tables that do not bind the project, and the expected (table, name) not there."""
    rows = await opened.fetch(
        f"""
        SELECT t.relname AS name, f.conname, r.relname AS target, f.convalidated,
               EXISTS (SELECT FROM pg_trigger g WHERE g.tgconstraint = f.oid AND g.tgenabled NOT IN ('O', 'A')) AS is_off,
               ARRAY(SELECT a.attname::text FROM unnest(f.conkey) WITH ORDINALITY AS k (number, place)
                     JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number ORDER BY k.place) AS columns,
               ARRAY(SELECT a.attname::text FROM unnest(f.confkey) WITH ORDINALITY AS k (number, place)
                     JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.number ORDER BY k.place) AS targets
        FROM pg_constraint f JOIN pg_class t ON t.oid = f.conrelid JOIN pg_class r ON r.oid = f.confrelid
        WHERE f.contype = 'f' AND {OURS}
        """,
        sql.PROJECT_TABLES,
    )
    wrong = []
    for row in rows:
        scope = "id" if row["target"] == "projects" else "project_id"
        if row["columns"][0] != "project_id" or row["targets"][0] != scope:
            wrong.append(f"{row['conname']} of {row['name']} is over ({', '.join(row['columns'])})")
        elif not row["convalidated"]:
            wrong.append(f"{row['conname']} of {row['name']} is not validated")
        elif row["is_off"]:
            wrong.append(f"{row['conname']} of {row['name']} is not looked at: its triggers are disabled")
    present = {(row["name"], row["conname"]) for row in rows}
    return wrong + [f"{name} of {table} is missing" for table, name in sorted(set(expected) - present)]


async def invalid_indexes(opened: Any) -> list[str]:
    """Return indexes that a failed build left behind: they cost writes and serve no read, or do not hold what they promise."""
    rows = await opened.fetch(
        f"""
        SELECT i.relname AS index, t.relname AS name FROM pg_class t JOIN pg_index x ON x.indrelid = t.oid
        JOIN pg_class i ON i.oid = x.indexrelid WHERE {OURS} AND NOT (x.indisvalid AND x.indisready AND x.indislive)
        """,
        TABLES,
    )
    return [f"{row['index']} of {row['name']}" for row in rows]
