"""Fence 1, where all statements pass: one that reads or writes a table without binding it to the project does not compile.

An allow-list: a table counts as bound only by a condition that every row must meet, in the very SELECT, UPDATE or DELETE
that names it, or by the value that an INSERT stores. SQL as text is refused: nobody can tell which tables it reads. So is an
element of a kind that is not known here, and so is everything if SQLAlchemy renames an attribute that is read here: each is
read plainly, without a default (docs/decisions/0005-private-names-are-bounded.md).
"""

import re
from collections.abc import Iterator
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.dml import OnConflictDoNothing, OnConflictDoUpdate
from sqlalchemy.sql import elements, functions, operators, selectable
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList, ColumnClause, Grouping

PROJECT: BindParameter[UUID] = sa.bindparam("project_id", type_=sa.Uuid())
"""The project of the unit of work. The session fills it in; no caller can."""

_LITERALS = re.compile(r"\*|INTERVAL '\d+ [a-z]+'")
"""Text that a statement may hold as it is: the star of count(*), and intervals."""

_CATALOG = frozenset({"pg_catalog.pg_class", "pg_catalog.pg_attribute", "pg_catalog.pg_constraint", "pg_catalog.pg_policy"})
"""What a statement may read beside tables of the models: names, and estimates of the planner; no rows of anybody."""

_OPERATOR = re.compile(r"[-+*/<>=~!@#%^&|`?]{1,7}")
"""What an operator that is given as text may be: an operator of PostgreSQL, no words."""

_KINDS = frozenset({
    sa.Select, sa.CompoundSelect, sa.Insert, sa.Update, sa.Delete, postgresql.Insert, OnConflictDoNothing, OnConflictDoUpdate,
    sa.Table, sa.TableClause, sa.Alias, sa.Join, sa.Subquery, sa.CTE, sa.Lateral, sa.TableValuedAlias,
    elements.TableValuedColumn, sa.ScalarSelect, sa.Exists,
    selectable.ForUpdateArg, selectable.SelectStatementGrouping, sa.Column, ColumnClause, BindParameter,
    selectable._OffsetLimitParam, BinaryExpression, BooleanClauseList, Grouping, elements.UnaryExpression, elements.AsBoolean,
    elements.CollectionAggregate, elements.ClauseList, elements.ExpressionClauseList, elements.CollationClause, sa.Case,
    sa.Cast, sa.TypeCoerce, sa.Label, sa.Null, sa.True_, sa.False_, sa.Tuple, sa.Over, sa.WithinGroup,
    sa.FunctionFilter, postgresql.array, postgresql.aggregate_order_by,
})  # fmt: skip
"""The elements that a statement may be made of, functions aside: those whose children `get_children` is known to yield."""

_NOTHING: frozenset[int] = frozenset()


class UnscopedStatement(AssertionError):
    """A repository's statement does not bind a table to its project: a defect of the repository, found at its first use."""


def check_scope(expression: sa.ClauseElement) -> None:
    """Raise `UnscopedStatement` unless every table in the expression is bound to `PROJECT`.

    Bound means: `<table>.project_id = PROJECT` (for the root `projects.id = PROJECT`) in the WHERE of the same statement or
    subquery, or in the ON clause of a join that drops the table's other rows, joined to the rest by AND alone; or `PROJECT`
    as the value of an INSERT. A correlated subquery reads the table of the statement around it, which must bind it.
    """
    _check(expression, _NOTHING, set())


def _check(element: Any, around: frozenset[int], seen: set[tuple[int, frozenset[int]]]) -> None:
    """Check the element and all in it; `around` are the tables of the statement that it stands in."""
    if (id(element), around) in seen:
        return
    seen.add((id(element), around))
    _check_kind(element)
    if isinstance(element, sa.Select):
        around = _check_select(element, around)
    elif isinstance(element, sa.Update | sa.Delete):
        around = _check_change(element)
    elif isinstance(element, sa.Insert):
        _check_insert(element)
        around = _NOTHING
    elif isinstance(element, sa.Subquery | sa.CTE):
        around = _NOTHING  # a subquery in FROM sees nothing of what stands beside it
    for child in element.get_children():
        _check(child, around, seen)


def _check_kind(element: Any) -> None:
    """Refuse what is not known, and what brings SQL of its own as text."""
    kind = type(element)
    if kind not in _KINDS and not (issubclass(kind, functions.FunctionElement) and kind.__module__.startswith("sqlalchemy.")):
        raise UnscopedStatement(f"{kind.__name__}: SQL as text, or an element that the guard does not know")
    if isinstance(element, ColumnClause) and element.is_literal and _LITERALS.fullmatch(element.name) is None:
        raise UnscopedStatement("a literal column is SQL as text: nobody can tell which tables it reads")
    if isinstance(element, BinaryExpression | elements.UnaryExpression):
        _check_operator(element.operator)
        _check_operator(element.modifier if isinstance(element, elements.UnaryExpression) else None)
    if kind is sa.TableClause and element.fullname not in _CATALOG:
        raise UnscopedStatement(f"{element.description} is no table of the models")
    if any(_texts_of(element)):
        raise UnscopedStatement("a prefix, a suffix or a hint is SQL as text")


def _check_operator(operator: Any) -> None:
    if isinstance(operator, operators.custom_op) and _OPERATOR.fullmatch(operator.opstring) is None:
        raise UnscopedStatement("an operator of words is SQL as text")


def _texts_of(element: Any) -> tuple[Any, ...]:
    """Return what a statement brings as text, which `get_children` passes over."""
    if isinstance(element, sa.Select):
        return element._prefixes, element._suffixes, element._hints, element._statement_hints
    if isinstance(element, sa.CTE):
        return element._prefixes, element._suffixes
    if isinstance(element, sa.Insert | sa.Update | sa.Delete):
        return element._prefixes, element._hints
    return ()


def _check_select(select: sa.Select[Any], around: frozenset[int]) -> frozenset[int]:
    """Check the tables that this SELECT names itself, and return them."""
    sources = select.get_final_froms()
    tables = {id(table): table for source in sources for table in _tables_of(source)}
    if select._auto_correlate:
        tables = {key: table for key, table in tables.items() if key not in around}
    bound = set(_bound_by(select.whereclause)).union(*(_bound_by_join(source) for source in sources))
    _require(tables, bound)
    return frozenset(tables)


def _check_change(change: sa.Update | sa.Delete) -> frozenset[int]:
    """Check the table that is changed and those that it is changed from, and return them."""
    tables = {id(change.table): change.table, **{id(table): table for table in _named(change)}}
    _require(tables, set(_bound_by(change.whereclause)))
    moved = {_scope_column(change.table), "id"}.intersection(_stored_names(change) if isinstance(change, sa.Update) else ())
    if moved:
        raise UnscopedStatement(f"{change.table.description}: a row keeps its {moved.pop()}")
    return frozenset(tables)


def _check_insert(insert: sa.Insert) -> None:
    if not _stores_project(insert):
        raise UnscopedStatement(f"{insert.table.description}: the project of the session is not stored")
    clause: Any = insert._post_values_clause
    if clause is None:
        return
    _check_kind(clause)
    target = {_name_of(element) for element in clause.inferred_target_elements or ()}
    changed = {_name_of(key) for key in clause.update_values_to_set} if isinstance(clause, OnConflictDoUpdate) else set[str]()
    scope = _scope_column(insert.table)
    if scope not in target or changed & {scope, "id"}:
        raise UnscopedStatement(f"{insert.table.description}: a conflict is resolved within the project alone")


def _require(tables: dict[int, Any], bound: set[int]) -> None:
    for key, table in tables.items():
        if key not in bound:
            raise UnscopedStatement(f"{table.description} is not bound to the project of the session")


def _named(change: sa.ClauseElement) -> Iterator[sa.FromClause]:
    """Yield the tables whose columns an UPDATE or DELETE names outside of subqueries: it reads them too."""
    for child in change.get_children():
        if isinstance(child, sa.Column) and _is_table(child.table):
            yield child.table
        elif not isinstance(child, sa.SelectBase | sa.FromClause):
            yield from _named(child)


def _stored_names(update: sa.Update) -> Iterator[str]:
    """Yield the columns that an UPDATE sets. One that names none would set them all, the project among them."""
    if update._values is None or update._multi_values:
        raise UnscopedStatement(f"{update.table.description}: an UPDATE names the columns that it sets")
    yield from map(_name_of, update._values)


def _name_of(key: Any) -> str:
    """Return the name of a column that is named by itself or by its name."""
    if isinstance(key, str):
        return str(key)
    if isinstance(key, ColumnClause):
        return str(key.name)
    raise UnscopedStatement(f"{type(key).__name__} names no column")


def _is_table(source: Any) -> bool:
    return isinstance(source, sa.Table) or (isinstance(source, sa.Alias) and isinstance(source.element, sa.Table))


def _tables_of(source: sa.FromClause) -> Iterator[sa.FromClause]:
    if isinstance(source, sa.Join):
        yield from _tables_of(source.left)
        yield from _tables_of(source.right)
    elif _is_table(source):
        yield source


def _bound_by_join(source: sa.FromClause) -> Iterator[int]:
    """Yield the tables of which a join drops the rows of other projects: of an outer join, those on its optional side."""
    if not isinstance(source, sa.Join) or source.full:
        return
    optional = {id(table) for table in _tables_of(source.right)}
    yield from (key for key in _bound_by(source.onclause) if key in optional or not source.isouter)
    yield from _bound_by_join(source.left)
    yield from _bound_by_join(source.right)


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
    """Tell whether this is PROJECT, or a copy that a clone of the statement made; not one that brings a value of its own."""
    return isinstance(value, BindParameter) and value.key == PROJECT.key and value.required


def _scope_column(table: Any) -> str:
    name = table.element.description if isinstance(table, sa.Alias) else table.description
    return "id" if name == "projects" else "project_id"


def _stores_project(insert: sa.Insert) -> bool:
    """Tell whether the INSERT stores PROJECT, or a scope column of a table that its SELECT must itself bind."""
    scope = _scope_column(insert.table)
    if insert._multi_values:
        return False  # rows of values are many parameters: what is given as arrays is one statement for any number
    if insert.select is None:
        return any(_name_of(key) == scope and _is_project(value) for key, value in (insert._values or {}).items())
    names = cast("list[str]", insert._select_names)
    if scope not in names:
        return False
    value: Any = list(insert.select.exported_columns)[names.index(scope)]
    while isinstance(value, sa.Label):
        value = value.element
    return _is_project(value) or (isinstance(value, sa.Column) and value.name == _scope_column(value.table))
