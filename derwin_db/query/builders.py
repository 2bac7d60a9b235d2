"""Pieces of statements that all repositories share: each query starts from `scoped(...)`."""

from collections.abc import Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import SQLModel

from derwin_db.fields.table import Input
from derwin_db.query.guard import PROJECT


def table_of(model: type[SQLModel]) -> sa.Table:
    """Return the model's table."""
    return cast("sa.Table", model.__table__)  # type: ignore[attr-defined]  # on every table class


def scope_of(table: Any) -> sa.ColumnElement[bool]:
    """Return the condition that binds a table to the project of the session. Every statement carries it."""
    column: sa.ColumnElement[Any] = table.c.id if table.name == "projects" else table.c.project_id
    return column == PROJECT


def scoped(model: type[SQLModel], *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Return a select of these columns (of all) of the project's rows."""
    table = table_of(model)
    return sa.select(*(columns or table.c)).select_from(table).where(scope_of(table))


def scoped_update(model: type[SQLModel]) -> sa.Update:
    """Return an update of the project's rows that stamps `updated_at`."""
    table = table_of(model)
    return sa.update(table).where(scope_of(table)).values(updated_at=sa.func.now())


def scoped_delete(model: type[SQLModel]) -> sa.Delete:
    """Return a delete of the project's rows."""
    table = table_of(model)
    return sa.delete(table).where(scope_of(table))


def ago(length: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return now() less this length of time. Computed in UTC: in a zone with summer time some days have 23 or 25 hours."""
    return sa.func.timezone("UTC", sa.func.timezone("UTC", sa.func.now()) - length)


def next_timestamp(model: type[SQLModel]) -> sa.ColumnElement[Any]:
    """Return a time that is later than that of every row of the project in this table.

    A log is written under the lock of what it audits, and so in its order. The start of the transaction is not in that
    order, and a clock may be set back.
    """
    created_at = table_of(model).c.created_at
    last = scoped(model, sa.func.max(created_at)).correlate(None).scalar_subquery()
    return sa.func.greatest(sa.func.clock_timestamp(), last + sa.literal_column("INTERVAL '1 microsecond'", sa.Interval()))


def param(name: str, column: sa.ColumnElement[Any]) -> sa.BindParameter[Any]:
    """Return a parameter of the column's type."""
    return sa.bindparam(name, type_=column.type)


def array_param(name: str, column: sa.ColumnElement[Any]) -> sa.BindParameter[Any]:
    """Return a parameter that is an array of the column's type: any number of values, one argument."""
    return sa.bindparam(name, type_=ARRAY(column.type, dimensions=1))


def one_of(column: sa.ColumnElement[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Return the condition that the column has one of these constants."""
    return column == sa.any_(sa.literal(list(values), ARRAY(column.type, dimensions=1)))


def columnwise(rows: Sequence[Input], names: Sequence[str]) -> dict[str, Any]:
    """Return the rows as one list for each column: the arguments of `unnested`."""
    return {name: [getattr(row, name) for row in rows] for name in names}


def unnested(table: sa.Table, names: Sequence[str]) -> Any:
    """Return a source of rows for bulk INSERTs: one array parameter for each column, one argument each.

    Source:
        Measured against COPY, executemany and jsonb_to_recordset, docs/performance.md. COPY is refused under policies.
    """
    columns = [sa.column(name, table.c[name].type) for name in names]
    arrays = [array_param(name, table.c[name]) for name in names]
    return sa.func.unnest(*arrays).table_valued(*columns, name="given").render_derived(name="given")
