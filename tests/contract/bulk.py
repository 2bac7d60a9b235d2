"""Rows for looks at plans: every table filled from its metadata, so that a new one is filled without being named.

One large project, some of middle size and very many of one row, interleaved as they come in life. The owner writes them,
with FORCE off for as long.
"""

import json
from enum import StrEnum
from typing import Annotated, Any, get_args, get_origin

import asyncpg
import sqlalchemy as sa
from pydantic import BaseModel

from derwin_db.fields.table import PydanticJson
from derwin_db.models import Project
from derwin_db.sql import PROJECT_TABLES

LARGE, MIDDLE, SMALL = 1000, 100, 1
SIZES = {LARGE: 1, MIDDLE: 30, SMALL: 2000}
"""Rows a table by the size of a project: how many projects are of it."""

TABLES = {name: Project.metadata.tables[f"public.{name}"] for name in PROJECT_TABLES}


async def fill(owner: Any) -> dict[int, Any]:
    """Fill all tables and return the id of one project of each size."""
    connection: asyncpg.Connection = await asyncpg.connect(**owner.connect_arguments())
    try:
        number, first = 0, {}
        for size, projects in SIZES.items():
            for _ in range(projects):
                first.setdefault(size, number)
                number += 1
        sizes = " ".join(
            f"WHEN p < {SIZES[LARGE] + (SIZES[MIDDLE] if size != LARGE else 0)} THEN {size}" for size in (LARGE, MIDDLE)
        )
        await connection.execute(
            "CREATE TABLE public.sizes AS"
            f" SELECT md5('project' || p)::uuid AS project_id, CASE {sizes} ELSE {SMALL} END AS size"
            f" FROM generate_series(0, {number - 1}) AS p"
        )
        await connection.execute(
            "INSERT INTO public.projects (id, slug, name, type, created_at)"
            " SELECT project_id, 'p-' || replace(project_id::text, '-', ''), 'P', 'ERP', now() - random() * interval '1 year'"
            " FROM public.sizes"
        )
        for table in sa.schema.sort_tables(TABLES.values()):
            await connection.execute(f"ALTER TABLE public.{table.name} NO FORCE ROW LEVEL SECURITY")
            await connection.execute(insert_text(table))
            await connection.execute(f"ALTER TABLE public.{table.name} FORCE ROW LEVEL SECURITY")
        await connection.execute("DROP TABLE public.sizes")
        await connection.execute("VACUUM ANALYZE")
        return {size: await connection.fetchval("SELECT md5('project' || $1::text)::uuid", str(n)) for size, n in first.items()}
    finally:
        await connection.close()


def insert_text(table: sa.Table) -> str:
    """Return the INSERT that fills one table: row n of each project, n from 0, all first rows first."""
    columns = [column for column in table.columns if column.name not in {"updated_at", "embedding"}]
    values = [expression(table, column) for column in columns]
    number = "0" if is_single(table) else "generate_series(0, size - 1)"
    names = [column.name for column in columns]
    if "embedding" in table.c:
        names.append("embedding")
        values.append(
            "CASE n % 20 WHEN 1 THEN (SELECT array_agg(random() + 0 * (n + g)) FROM generate_series(1, 1536) AS g)::vector END"
        )
    return (
        f"INSERT INTO public.{table.name} ({', '.join(names)}) SELECT {', '.join(values)}"
        f" FROM (SELECT project_id, {number} AS n FROM public.sizes) AS rows ORDER BY n, project_id"
    )


def is_single(table: sa.Table) -> bool:
    """Tell whether a project has one row of it at most."""
    uniques = [item for item in table.constraints if isinstance(item, sa.UniqueConstraint)]
    return any([column.name for column in item.columns] == ["project_id"] for item in uniques)


def id_of(table: str, number: str) -> str:
    return f"md5('{table}' || project_id || ({number}))::uuid"


def expression(table: sa.Table, column: sa.Column[Any]) -> str:
    """Return an SQL expression over project_id and n: valid, varied, and different where it must be unique."""
    if column.name == "project_id":
        return "project_id"
    if column.name == "id":
        return id_of(table.name, "n")
    if column.name == "project_slug":
        return "'p-' || replace(project_id::text, '-', '')"
    if column.name == "amount_usd":
        return "CASE WHEN n % 2 = 0 THEN 1 ELSE -1 END"  # the sign follows the kind
    targets = [key.column.table for key in column.foreign_keys if key.column.name == "id"]
    if targets:
        if targets[0] is table:
            return f"CASE WHEN n % 3 = 1 THEN {id_of(table.name, 'n - 1')} END"
        return id_of(targets[0].name, "0" if is_single(targets[0]) else "n")
    return by_type(table, column)


def by_type(table: sa.Table, column: sa.Column[Any]) -> str:
    kind = column.type
    if isinstance(kind, sa.Enum):
        return f"(ARRAY[{', '.join(repr(label) for label in kind.enums)}])[1 + n % {len(kind.enums)}]"
    if isinstance(kind, sa.Text):
        return text(table, column)
    if isinstance(kind, PydanticJson):
        return f"'{json.dumps(least(kind.shape))}'::jsonb"
    by_kind = {
        sa.Boolean: "n = 0",
        sa.DateTime: "now() - n * interval '1 minute'",
        sa.Integer: "n + 1",
        sa.Double: "(n % 10) / 10.0",
        sa.Numeric: "n",
        sa.Uuid: id_of(column.name, "n"),
    }
    return next(written for each, written in by_kind.items() if isinstance(kind, each))


def text(table: sa.Table, column: sa.Column[Any]) -> str:
    if "{{64}}" in column.info.get("check", ""):
        return "md5(project_id || n::text) || md5(n::text)"
    return "'name' || n" if is_unique(table, column) else "'name' || n % 10"


def least(shape: Any) -> Any:
    """Return the least JSON that is valid for this shape."""
    origin = get_origin(shape)
    if origin is Annotated:
        return least(get_args(shape)[0])
    if origin in {list, dict}:
        return origin()
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        return {name: least(info.annotation) for name, info in shape.model_fields.items() if info.is_required()}
    return next(iter(shape)).value if isinstance(shape, type) and issubclass(shape, StrEnum) else shape()


def is_unique(table: sa.Table, column: sa.Column[Any]) -> bool:
    uniques = [item for item in table.constraints if isinstance(item, sa.UniqueConstraint)]
    return any(column.name in item.columns for item in uniques)
