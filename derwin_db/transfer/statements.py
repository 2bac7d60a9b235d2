"""Statements of export and import: rows travel as the database writes them and reads them."""

from datetime import timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlmodel import SQLModel

from derwin_db.query.builders import scope_of
from derwin_db.query.statement import Statement, command, scalars
from derwin_db.sql import DERIVED_COLUMNS, ColumnType


def table_named(name: str) -> sa.Table:
    """Return one of our tables."""
    return SQLModel.metadata.tables[f"public.{name}"]


def _given(table: sa.Table) -> Any:
    """The rows of the parameter, read by the database as rows of the table."""
    shape = sa.cast(sa.null(), ColumnType(f"public.{table.name}"))
    rows = sa.cast(sa.bindparam("rows", type_=sa.Text()), JSONB)
    columns = [sa.column(column.name, column.type) for column in table.columns]
    return sa.func.jsonb_populate_recordset(shape, rows).table_valued(*columns, name="given")


@cache
def count_statement(table: sa.Table) -> Statement[int]:
    """Count the project's rows of a table."""
    return scalars("export", sa.select(sa.func.count()).select_from(table).where(scope_of(table)))


@cache
def export_statement(table: sa.Table) -> Statement[str]:
    """Select the project's rows of a table, each as its JSON, in the order of their ids. What is derived is left out."""
    row: sa.ColumnElement[Any] = sa.func.to_jsonb(table.table_valued(), type_=JSONB)
    if derived := DERIVED_COLUMNS.get(table.name):
        row = row.op("-")(sa.literal(list(derived), ARRAY(sa.Text)))
    query = sa.select(sa.cast(row, sa.Text)).select_from(table).where(scope_of(table))
    return scalars("export", query.order_by(table.c.id))


@cache
def import_root_statement() -> Statement[None]:
    """Insert the project's own row, through the admin door."""
    table = table_named("projects")
    given = _given(table)
    names = [column.name for column in table.columns]
    return command("import", sa.insert(table).from_select(names, sa.select(*(given.c[n] for n in names))), is_scoped=False)


@cache
def import_statement(table: sa.Table) -> Statement[None]:
    """Insert rows as they were; a ledger row that is on the books already is left out."""
    given = _given(table)
    left_out = ("project_id", "duplicate_of_id") if table.name == "qa_tickets" else ("project_id",)
    names = [column.name for column in table.columns if column.name not in left_out]
    root = table_named("projects")
    rows = sa.select(root.c.id, *(_raw(given.c[n]) for n in names)).select_from(root.join(given, sa.true()))
    query: Any = insert(table).from_select(["project_id", *names], rows.where(scope_of(root)))
    return command(
        "import", query.on_conflict_do_nothing(index_elements=["project_id", "id"]) if table.name == "spend_ledger" else query
    )


def _raw(column: Any) -> Any:
    """Select the column as it is: the type's own conversion on the way out would undo the one on the way in."""
    return sa.type_coerce(column, sa.types.NULLTYPE)


@cache
def same_statement(name: str) -> Statement[int]:
    """Count the given rows that the table holds, equal in every column."""
    table = table_named(name)
    given = _given(table)
    columns = [column.name for column in table.columns if column.name != "project_id"]
    same = sa.and_(*(table.c[name].is_not_distinct_from(given.c[name]) for name in columns))
    return scalars("import", sa.select(sa.func.count()).select_from(table.join(given, same)).where(scope_of(table)))


@cache
def to_come_statement(name: str, column: str) -> Statement[int]:
    """Count the project's rows whose time in this column is to come, by more than the day that clocks and logs are given."""
    table = table_named(name)
    is_to_come = table.c[column] > sa.func.now() + sa.literal(timedelta(days=1), sa.Interval())
    return scalars("import", sa.select(sa.func.count()).select_from(table).where(scope_of(table), is_to_come))


@cache
def duplicates_statement() -> Statement[None]:
    """Say of which ticket a ticket is the duplicate: both have to be there first."""
    table = table_named("qa_tickets")
    given = _given(table)
    query = sa.update(table).where(scope_of(table), table.c.id == given.c.id).values(duplicate_of_id=given.c.duplicate_of_id)
    return command("import", query)
