"""Attacks by estimates (family 26): what the planner expects of a value that another project stores."""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from derwin_db.query.builders import table_of
from derwin_db.testing.filling import models_by_table
from tests.isolation.arena import Arena
from tests.isolation.statements import raw_connection
from tests.isolation.units import Script

MANY = 10**12
"""So many times is each row joined with itself: an estimate shows a share of a row."""

KINDS = (sa.Text, sa.String, sa.Uuid, sa.DateTime, sa.Integer, sa.BigInteger, sa.Double, sa.Numeric)

COMPARISONS = ("=", "<>", "<", "<=", ">", ">=")


async def expected_rows(raw: Any, table: str, condition: str) -> int:
    query = f"SELECT FROM public.{table} t JOIN generate_series(1, {MANY}) g ON ({condition} OR g = -1)"
    (plan,) = json.loads(await raw.fetchval(f"EXPLAIN (FORMAT JSON) {query}"))
    return plan["Plan"]["Plan Rows"]


def estimate_script(table: str, column: str) -> Any:
    async def run(arena: Arena) -> None:
        owner, scope = arena.shared.owner, "id" if table == "projects" else "project_id"
        await owner.execute(f"ANALYZE public.{table}")
        stored = f"FROM public.{table} WHERE {scope} = $1 AND {column} IS NOT NULL"
        values = {row[0] for row in await owner.fetch(f"SELECT {column}::text {stored} LIMIT 4", arena.b.project_id)}
        seen: dict[str, set[int]] = {comparison: set() for comparison in COMPARISONS}
        async with arena.shared.narrow.project(arena.a.project_id, read_only=True) as session:
            raw = await raw_connection(session)
            for value in values:
                literal = value.replace("'", "''")
                for comparison in COMPARISONS:
                    seen[comparison].add(await expected_rows(raw, table, f"t.{column} {comparison} '{literal}'"))
        told = {comparison: found for comparison, found in seen.items() if len(found) > 1}
        assert not told, f"estimates tell values apart: {told}"

    return run


def estimate_scripts() -> Iterator[Script]:
    for table, model in models_by_table().items():
        for column in table_of(model).c:
            if type(column.type) in {
                sa.Text,
                sa.String,
                sa.Uuid,
                sa.DateTime,
                sa.Integer,
                sa.BigInteger,
                sa.Double,
                sa.Numeric,
            }:
                yield Script(26, f"what is expected of {table}.{column.name}", estimate_script(table, column.name))
