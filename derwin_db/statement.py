"""The one road from a SQLAlchemy expression to rows: compile once, bind, hydrate.

A `Statement` is built once per shape and reused for every call: compiling an expression costs more than running it. What
differs from call to call is a bound parameter; the project is always the parameter `PROJECT`, filled in by the session.

A statement that touches a table without binding it to `PROJECT` does not compile: fence 1 is checked where all
statements pass, not trusted to each author. Rows become real SQLModel instances, detached and with their state, by a
function that is generated for each list of columns.

Source: cost of the ways to hydrate and to compile, measured on SQLAlchemy 2.1 and SQLModel 0.0.50, docs/performance.md.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.orm import configure_mappers
from sqlalchemy.orm.instrumentation import manager_of_class
from sqlalchemy.orm.state import InstanceState
from sqlmodel import SQLModel

from derwin_db.guard import check_scope

R = TypeVar("R")
M = TypeVar("M", bound=SQLModel)

Records = Sequence[Sequence[Any]]
"""What the driver returns: sequences of column values."""


class Dialect(PGDialect_asyncpg):
    """asyncpg's dialect on connections with the driver's own codecs: JSON travels as text and is decoded once, by its type."""

    supports_statement_cache = True
    supports_native_json_deserialization = False

    async def setup_asyncpg_json_codec(self, conn: Any) -> None:
        """Leave the driver's codec: connections are shared with statements that expect text."""

    async def setup_asyncpg_jsonb_codec(self, conn: Any) -> None:
        """Leave the driver's codec: connections are shared with statements that expect text."""


_untyped: Any = Dialect  # SQLAlchemy does not type its dialects
DIALECT: Any = _untyped()


_FLOAT8, _NUMERIC = 701, 1700
"""Type OIDs by which the dialect tells how the driver returns a number. Source: PostgreSQL's pg_type.dat."""


class Statement(Generic[R]):
    """One compiled statement: its SQL, how arguments are bound, and how records become rows.

    `name` is the repository's method that runs it, as in `qa_tickets.transition`: logs and spans show it.
    """

    __slots__ = ("_given", "_template", "is_scoped", "name", "rows", "sql")

    def __init__(
        self, name: str, expression: sa.Executable, rows: Callable[[Records], list[R]], *, is_scoped: bool = True
    ) -> None:
        if is_scoped:
            check_scope(cast("sa.ClauseElement", expression))
        compiled: Any = cast("sa.ClauseElement", expression).compile(dialect=DIALECT)
        processors: Mapping[str, Callable[[Any], Any]] = compiled._bind_processors
        constants = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        self.name = name
        self.sql: str = compiled.string
        self.rows = rows
        self.is_scoped = is_scoped
        self._template: list[Any] = []
        self._given: list[tuple[int, str, Callable[[Any], Any] | None]] = []
        for position, parameter in enumerate(compiled.positiontup or ()):
            process = processors.get(parameter)
            if parameter in constants:
                value = constants[parameter]
                self._template.append(value if process is None else process(value))
            else:
                self._template.append(None)
                self._given.append((position, parameter, process))

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the positional arguments for these parameters. A missing one is a KeyError: a defect, not bad input."""
        arguments = self._template.copy()
        for position, name, process in self._given:
            value = values[name]
            arguments[position] = value if process is None else process(value)
        return arguments


def entities(name: str, expression: sa.Executable, model: type[M], *, is_scoped: bool = True) -> Statement[M]:
    """Return the statement whose rows are instances of the model. It selects, or returns, columns of its table alone."""
    columns = _columns_of(expression)
    return Statement(name, expression, hydrator(model, columns), is_scoped=is_scoped)


def scalars(name: str, expression: sa.Executable, *, is_scoped: bool = True) -> Statement[Any]:
    """Return the statement whose rows are values of its first column."""
    process = _result_processor(_columns_of(expression)[0])

    def rows(records: Records) -> list[Any]:
        return [record[0] if process is None else process(record[0]) for record in records]

    return Statement(name, expression, rows, is_scoped=is_scoped)


def tuples(name: str, expression: sa.Executable, *, is_scoped: bool = True) -> Statement[tuple[Any, ...]]:
    """Return the statement whose rows are tuples of its columns."""
    processors = [_result_processor(column) for column in _columns_of(expression)]

    def rows(records: Records) -> list[tuple[Any, ...]]:
        return [
            tuple(value if process is None else process(value) for value, process in zip(record, processors, strict=True))
            for record in records
        ]

    return Statement(name, expression, rows, is_scoped=is_scoped)


def command(name: str, expression: sa.Executable, *, is_scoped: bool = True) -> Statement[None]:
    """Return the statement that returns no rows; its effect is a count of rows."""
    return Statement(name, expression, lambda _: [], is_scoped=is_scoped)


def _columns_of(expression: sa.Executable) -> list[sa.ColumnElement[Any]]:
    return list(cast("sa.Select[Any]", expression).exported_columns)


def _result_processor(column: sa.ColumnElement[Any]) -> Callable[[Any], Any] | None:
    oid = _FLOAT8 if isinstance(column.type, sa.Float) else _NUMERIC if isinstance(column.type, sa.Numeric) else None
    return cast("Callable[[Any], Any] | None", column.type.dialect_impl(DIALECT).result_processor(DIALECT, oid))


# --- hydration ------------------------------------------------------------------------------------------------------


def hydrator(model: type[M], columns: Iterable[sa.ColumnElement[Any]]) -> Callable[[Records], list[M]]:
    """Return a generated function that makes detached instances of the model from records with these columns.

    An instance has its identity key and state, so that it can be assigned to, copied, pickled and merged. A column that
    is left out reads None, and is marked so that a merge leaves it alone.
    """
    configure_mappers()
    manager = manager_of_class(model)
    names = [cast("str", column.key) for column in columns]
    processors = [_result_processor(column) for column in columns]
    key = [f"v{names.index(column.name)}" for column in sa.inspect(model).primary_key]
    absent = tuple(
        name
        for name in sa.inspect(model).columns.keys()  # noqa: SIM118  # a collection, not a dict
        if name not in names
    )
    values = [f"{name!r}: " + (f"p{i}(v{i})" if processors[i] else f"v{i}") for i, name in enumerate(names)]
    values += [f"{name!r}: None" for name in absent]
    source = f"""
def hydrate(records):
    rows = []
    for {", ".join(f"v{i}" for i in range(len(names)))}, in records:
        row = new(model)
        state = State(row, manager)
        state.key = (model, ({", ".join(key)},), None)
        {"state.info['absent'] = absent" if absent else "pass"}
        put(row, "__dict__", {{"_sa_instance_state": state, {", ".join(values)}}})
        put(row, "__pydantic_fields_set__", fields)
        put(row, "__pydantic_extra__", None)
        put(row, "__pydantic_private__", None)
        rows.append(row)
    return rows
"""
    scope: dict[str, Any] = {
        "new": object.__new__,
        "put": object.__setattr__,
        "model": model,
        "manager": manager,
        "State": InstanceState,
        "absent": absent,
        "fields": set(model.model_fields),  # shared by all rows: it is complete, so nothing can be added to it
        **{f"p{i}": process for i, process in enumerate(processors)},
    }
    exec(compile(source, f"<hydrator of {model.__name__}>", "exec"), scope)  # noqa: S102  # our own text, made above
    return cast("Callable[[Records], list[M]]", scope["hydrate"])
