"""Attacks by the planner (family 26): what it expects of a value that another project stores, and what an index finds of it."""

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


async def expected_rows(raw: Any, table: str, condition: str, own: str = "true") -> int:
    query = f"SELECT FROM public.{table} t JOIN generate_series(1, {MANY}) g ON ({condition} OR g = -1) WHERE {own}"
    (plan,) = json.loads(await raw.fetchval(f"EXPLAIN (FORMAT JSON) {query}"))
    if "Distributed Query" in plan["Plan"]:  # what the coordinator expects says nothing: look at the worker
        ((plan,),) = plan["Plan"]["Distributed Query"]["Job"]["Tasks"][0]["Remote Plan"]
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
            own = f"t.{scope} = '{arena.a.project_id}'" if arena.shared.is_distributed else "true"
            for value in values:
                literal = value.replace("'", "''")
                for comparison in COMPARISONS:
                    seen[comparison].add(await expected_rows(raw, table, f"t.{column} {comparison} '{literal}'", own))
        told = {comparison: found for comparison, found in seen.items() if len(found) > 1}
        assert not told, f"estimates tell values apart: {told}"

    return run


THROUGH_AN_INDEX = "SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = {bitmaps}"
"""Has the planner take an index whose order, or whose condition, is that of the column, wherever there is one."""

NOBODY_HAS = {
    sa.Text: "zzzzzzzz", sa.String: "zzzzzzzz", sa.Uuid: "ffffffff-ffff-7fff-bfff-ffffffffffff", sa.DateTime: "2999-01-01",
}  # fmt: skip
NO_NUMBER = "2147483646"

OF_B_ALONE = """
SELECT {column}::text FROM public.{table} t WHERE {scope} = $1 AND {column} IS NOT NULL
AND NOT EXISTS (SELECT FROM public.{table} o WHERE o.{scope} = $2 AND o.{column} = t.{column}) LIMIT 1
"""


def counted(node: Any) -> int:
    """Return how many rows the nodes of a plan looked at, those that a policy took away included."""
    found = sum(counted(inner) for inner in node.get("Plans", ()))
    if "Scan" not in node["Node Type"]:
        return found
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return int(found + (node["Actual Rows"] + removed) * node["Actual Loops"])


def look_script(table: str) -> Any:
    """What EXPLAIN ANALYZE counts is the same for a value that B stores and for one that nobody does."""

    async def run(arena: Arena) -> None:
        scope = "id" if table == "projects" else "project_id"
        told = []
        async with arena.shared.narrow.project(arena.a.project_id, read_only=True) as session:
            raw = await raw_connection(session)
            for column in table_of(models_by_table()[table]).c:
                if type(column.type) not in KINDS:
                    continue
                stored = await arena.shared.owner.fetchval(
                    OF_B_ALONE.format(column=column.name, table=table, scope=scope), arena.b.project_id, arena.a.project_id
                )
                if stored is not None and not await looks_alike(raw, table, column, stored):
                    told.append(column.name)
        assert not told, f"plans count what other projects store in {told}"

    return run


async def looks_alike(raw: Any, table: str, column: Any, stored: str) -> bool:
    values = [value.replace("'", "''") for value in (stored, NOBODY_HAS.get(type(column.type), NO_NUMBER))]
    name, forms = column.name, ("{0} = '{1}'", "{0} >= '{1}' AND {0} <= '{1}'")
    for form in forms:
        for bitmaps in ("off", "on"):
            await raw.execute(THROUGH_AN_INDEX.format(bitmaps=bitmaps))
            seen = set()
            for value in values:
                query = f"SELECT {name} FROM public.{table} WHERE {form.format(name, value)} ORDER BY {name}"
                (plan,) = json.loads(await raw.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query}"))
                seen.add(counted(plan["Plan"]))
            if len(seen) > 1:
                return False
    return True


def estimate_scripts() -> Iterator[Script]:
    for table in models_by_table():
        yield Script(26, f"what an index finds of {table}", look_script(table))
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
