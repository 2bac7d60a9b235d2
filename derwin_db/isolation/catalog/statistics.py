"""Statistics of values: what row estimates in EXPLAIN would tell of other projects."""

from typing import Any

from derwin_db.isolation.catalog.tables import OURS, TABLES

_IS_KNOWN = "(a.atttypid = 'bool'::regtype OR (a.atttypid = 'varchar'::regtype AND a.atttypmod = 36))"
"""True for enumerations and booleans: everybody knows their values."""


async def value_statistics(opened: Any) -> list[str]:
    """Return columns, and parts of indexes, of whose values statistics are gathered, or were.

    What was gathered is seen by a superuser alone.
    """
    rows = await opened.fetch(
        f"""
        SELECT t.relname AS name, a.attname AS part, coalesce(a.attstattarget, -1) <> 0 AS is_gathered
        FROM pg_class t JOIN pg_attribute a ON a.attrelid = t.oid
        WHERE {OURS} AND a.attnum > 0 AND NOT a.attisdropped AND NOT {_IS_KNOWN} AND (
            coalesce(a.attstattarget, -1) <> 0
            OR (t.relname, a.attname) IN (SELECT s.tablename, s.attname FROM pg_stats s WHERE s.schemaname = 'public')
        )
        UNION ALL
        SELECT i.relname, a.attname, true FROM pg_class t JOIN pg_index x ON x.indrelid = t.oid
        JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_attribute a ON a.attrelid = i.oid
        WHERE {OURS} AND a.attnum <= x.indnkeyatts AND x.indkey[a.attnum - 1] = 0 AND coalesce(a.attstattarget, -1) <> 0
        ORDER BY 1, 2
        """,
        TABLES,
    )
    return [
        f"{row['name']}.{row['part']} {'has statistics' if row['is_gathered'] else 'has statistics that were gathered before'}"
        for row in rows
    ]
