"""Fence 1, where all statements pass: one that reads or writes a table without binding it to the project does not compile.

An allow-list: a table counts as bound only by a condition that every row must meet, or by the value that an INSERT stores.
"""

from collections.abc import Iterator
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList, Grouping

PROJECT: BindParameter[UUID] = sa.bindparam("project_id", type_=sa.Uuid())
"""The project of the unit of work. The session fills it in; no caller can."""


class UnscopedStatement(AssertionError):
    """A repository's statement does not bind a table to its project: a defect of the repository, found at its first use."""


def check_scope(expression: sa.ClauseElement) -> None:
    """Raise `UnscopedStatement` unless every table in the expression is bound to `PROJECT`.

    Bound means: `<table>.project_id = PROJECT` (for the root `projects.id = PROJECT`) in a WHERE or an ON clause, joined
    to the rest by AND alone, or `PROJECT` as the value of an INSERT.
    """
    used: dict[int, sa.FromClause] = {}
    bound: set[int] = set()
    for element in visitors.iterate(expression):
        if isinstance(element, sa.Column) and _is_table(element.table):
            used[id(element.table)] = element.table
        elif isinstance(element, sa.Select):
            for source in element.get_final_froms():
                used.update({id(table): table for table in _tables_of(source)})
            bound.update(_bound_by(element.whereclause))
        elif isinstance(element, sa.Join):
            bound.update(_bound_by(element.onclause))
        elif isinstance(element, sa.Update | sa.Delete):
            used[id(element.table)] = element.table
            bound.update(_bound_by(element.whereclause))
        elif isinstance(element, sa.Insert):
            used[id(element.table)] = element.table
            if _stores_project(element):
                bound.add(id(element.table))
    for key, table in used.items():
        is_proposed = isinstance(table, sa.Alias) and table.name == "excluded" and id(table.element) in bound
        if key not in bound and not is_proposed:
            raise UnscopedStatement(f"{table.description} is not bound to the project of the session")


def _is_table(source: Any) -> bool:
    return isinstance(source, sa.Table) or (isinstance(source, sa.Alias) and isinstance(source.element, sa.Table))


def _tables_of(source: sa.FromClause) -> Iterator[sa.FromClause]:
    if isinstance(source, sa.Join):
        yield from _tables_of(source.left)
        yield from _tables_of(source.right)
    elif _is_table(source):
        yield source


def _bound_by(condition: Any) -> Iterator[int]:
    """Yield the tables that this condition binds; of an OR, none."""
    if isinstance(condition, Grouping):
        yield from _bound_by(condition.element)
    elif isinstance(condition, BooleanClauseList) and condition.operator is operators.and_:
        for part in condition.clauses:
            yield from _bound_by(part)
    elif isinstance(condition, BinaryExpression) and condition.operator is operators.eq:
        for column, value in ((condition.left, condition.right), (condition.right, condition.left)):
            if _is_project(value) and isinstance(column, sa.Column) and column.name == _scope_column(column.table):
                yield id(column.table)


def _is_project(value: Any) -> bool:
    return isinstance(value, BindParameter) and value.key == PROJECT.key


def _scope_column(table: Any) -> str:
    name = table.element.description if isinstance(table, sa.Alias) else table.description
    return "id" if name == "projects" else "project_id"


def _stores_project(insert: sa.Insert) -> bool:
    """Tell whether the INSERT stores PROJECT, or a scope column of a table that must itself be bound, as project_id."""
    scope = _scope_column(insert.table)
    if insert.select is None:
        stored = getattr(insert, "_values", None) or {}
        return any(getattr(column, "name", column) == scope and _is_project(value) for column, value in stored.items())
    names = cast("list[Any]", getattr(insert, "_select_names", []))
    value: Any = list(insert.select.exported_columns)[names.index(scope)]
    while isinstance(value, sa.Label):
        value = value.element
    return _is_project(value) or (isinstance(value, sa.Column) and value.name == _scope_column(value.table))
