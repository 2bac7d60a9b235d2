"""Pieces of statements that all repositories share: each query starts from `scoped(...)`."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert
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
    order, and a clock may be set back. The start of the statement is: it is sent when the lock is held.
    """
    created_at = table_of(model).c.created_at
    last = scoped(model, sa.func.max(created_at)).correlate(None).scalar_subquery()
    return sa.func.greatest(sa.func.statement_timestamp(), last + sa.literal_column("INTERVAL '1 microsecond'", sa.Interval()))


def _root(model: type[SQLModel]) -> sa.Table:
    return SQLModel.metadata.tables[f"{table_of(model).schema}.projects"]


def insert_of_project(model: type[SQLModel], values: Mapping[str, Any]) -> Insert:
    """Return the INSERT of one row that reads other rows of its project: from the project's own row, so of none if it is gone.

    A distributed server takes no subquery in VALUES, and an INSERT from a SELECT that returns rows only with ON CONFLICT:
    ids are new, so that it meets none (docs/explanation/scale.md, rules 14 and 15).
    """
    root = _root(model)
    source = sa.select(root.c.id, *values.values()).where(scope_of(root))
    query = insert(table_of(model)).from_select(["project_id", *values], source)
    return query.on_conflict_do_nothing(index_elements=["project_id", "id"])


def insert_many_of_project(
    model: type[SQLModel], values: Mapping[str, Any], given: sa.FromClause, *, order_by: Any = None
) -> Insert:
    """Return the INSERT of one row for each row of `given`, from the project's own row: of none if it is gone.

    The join keeps the statement on one node of a distributed server: an INSERT from arrays alone is pulled to the
    coordinator there, and written by COPY, which policies refuse (docs/explanation/scale.md, rule 16).
    """
    root = _root(model)
    source = sa.select(root.c.id, *values.values()).select_from(root.join(given, sa.true())).where(scope_of(root))
    source = source if order_by is None else source.order_by(order_by)
    return insert(table_of(model)).from_select(["project_id", *values], source)


def param(name: str, column: sa.ColumnElement[Any]) -> sa.BindParameter[Any]:
    """Return a parameter of the column's type."""
    return sa.bindparam(name, type_=column.type)


def array_param(name: str, column: sa.ColumnElement[Any]) -> sa.BindParameter[Any]:
    """Return a parameter that is an array of the column's type: any number of values, one argument."""
    return sa.bindparam(name, type_=ARRAY(column.type, dimensions=1))


def newest_of_each(model: type[SQLModel], column: sa.ColumnElement[Any], *order: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Return a select of up to `limit_each` rows for each of the `ids` that the column holds: one probe of its index an id."""
    wanted = sa.func.unnest(array_param("ids", column)).table_valued(sa.column("id", column.type)).render_derived(name="wanted")
    rows = scoped(model).where(column == wanted.c.id).order_by(*order)
    newest = rows.limit(sa.bindparam("limit_each", type_=sa.Integer())).lateral("newest")
    return sa.select(*newest.c).select_from(wanted.join(newest, sa.true()))


def one_of(column: sa.ColumnElement[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Return the condition that the column has one of these constants."""
    return column == sa.any_(sa.literal(list(values), ARRAY(column.type, dimensions=1)))


LONGEST_PREFIXED = 128
"""Most characters of a text that is looked up by its beginning."""


def starts_with(column: sa.ColumnElement[str], prefix: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Return the condition that a text of up to 128 characters begins with the prefix.

    A range in the order of bytes, which an index with `text_pattern_ops` serves under policies: LIKE is not leakproof. The end
    of the range is the prefix, filled up with the last code point there is.
    """
    last = sa.func.rpad(prefix, LONGEST_PREFIXED, "\U0010ffff", type_=sa.Text())
    at_least, at_most = column.bool_op("~>=~")(prefix), column.bool_op("~<=~")(last)
    return sa.and_(at_least, at_most)


def columnwise(rows: Sequence[Input], names: Sequence[str]) -> dict[str, Any]:
    """Return the rows as one list for each column: the arguments of `unnested`."""
    fields = [row.__dict__ for row in rows]
    return {name: [row[name] for row in fields] for name in names}


def unnested(table: sa.Table, names: Sequence[str]) -> Any:
    """Return a source of rows for bulk INSERTs: one array parameter for each column, one argument each.

    Source:
        Measured against COPY, executemany and jsonb_to_recordset, docs/performance.md. COPY is refused under policies.
    """
    columns = [sa.column(name, table.c[name].type) for name in names]
    arrays = [array_param(name, table.c[name]) for name in names]
    return sa.func.unnest(*arrays).table_valued(*columns, name="given").render_derived(name="given")
