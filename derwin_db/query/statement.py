"""The one road from a SQLAlchemy expression to rows: compile once, bind, hydrate.

A `Statement` is built once per shape and reused for every call: compiling an expression costs more than running it. What
differs from call to call is a bound parameter; the project is always the parameter `PROJECT`, filled in by the session.

A statement that touches a table without binding it to `PROJECT` does not compile: fence 1 is checked where all
statements pass, not trusted to each author. Rows become real SQLModel instances, detached and with their state, by a
function that is generated for each list of columns.

Source: cost of the ways to hydrate and to compile, measured on SQLAlchemy 2.1 and SQLModel 0.0.50, docs/performance.md.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.orm.instrumentation import manager_of_class
from sqlalchemy.orm.state import InstanceState
from sqlmodel import SQLModel

from derwin_db.fields.table import PydanticJson
from derwin_db.query.guard import check_scope

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


_SCOPE: sa.BindParameter[str] = sa.bindparam("derwin_scope", "", sa.Text())
_SETS_SCOPE = sa.func.pg_catalog.set_config(sa.literal_column("'derwin.project_id'"), _SCOPE, sa.true())
_GATE = sa.select(_SETS_SCOPE).scalar_subquery().is_not(None)
"""A condition without a column: PostgreSQL evaluates it once, before it looks at any row, so the policies find a scope.

Source:
    Tried on 15 to 18, under all settings of the planner (tests/contract/test_alone.py). The manual does not promise the order:
    a policy that comes first raises an error of its own, and the statement runs again in a transaction.
"""

_GATE_TEXT = re.compile(
    r" AND \(SELECT pg_catalog\.set_config\('derwin\.project_id', (\$\d+)::VARCHAR, true\) AS \w+\) IS NOT NULL"
)
TOKEN_LENGTH = 101
"""How long each token of the seal is."""

_DOES_MORE = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE|SHARE|nextval|pg_notify|set_config|pg_(try_)?advisory_\w+)\b")
"""What a SELECT holds that does more than read: locks, changes in a CTE, functions with effects. None of ours is quoted."""


class AloneForm(NamedTuple):
    """The statement as it runs without a transaction around it: it brings its scope along, as one argument more."""

    sql: str
    arguments: Callable[[Mapping[str, Any]], list[Any]]
    scope_at: int
    """Where among the arguments the scope goes."""
    short: str | None
    """The same without a subquery, for a distributed server, see `short_form`."""


class Statement(Generic[R]):
    """One compiled statement: its SQL, how arguments are bound, and how records become rows.

    `name` is the repository's method that runs it, as in `qa_tickets.transition`: logs and spans show it.
    """

    __slots__ = (
        "_alone",
        "_expression",
        "arguments",
        "is_of_rows",
        "is_scoped",
        "name",
        "operation",
        "reads",
        "rows",
        "sql",
        "table",
    )

    arguments: Callable[[Mapping[str, Any]], list[Any]]
    """Returns the positional arguments for these parameters. A missing one is a KeyError: a defect, not bad input."""

    def __init__(
        self, name: str, expression: sa.Executable, rows: Callable[[Records], list[R]], *, is_scoped: bool = True
    ) -> None:
        if is_scoped:
            check_scope(cast("sa.ClauseElement", expression))
        compiled: Any = cast("sa.ClauseElement", expression).compile(dialect=DIALECT)
        self.name: str = name
        self.sql: str = compiled.string
        self.operation: str = cast("Any", expression).__visit_name__.upper()
        self.table: str | None = _table_of(expression)
        self.rows: Callable[[Records], list[R]] = rows
        self.is_scoped: bool = is_scoped
        self.arguments = _binder(name, compiled)
        self.reads: bool = isinstance(expression, sa.Select) and _DOES_MORE.search(compiled.string) is None
        """Whether it reads, and does nothing else."""
        self.is_of_rows: bool = False
        """Whether a record is a row that is stored: of an aggregate there is one where nothing is."""
        self._expression = expression
        self._alone: AloneForm | None = None

    @property
    def alone(self) -> AloneForm:
        """The form of a statement that reads which needs no transaction around it. Compiled at its first use."""
        if self._alone is None:
            compiled: Any = cast("sa.Select[Any]", self._expression).where(_GATE).compile(dialect=DIALECT)
            scope_at = compiled.positiontup.index(_SCOPE.key)
            short = short_form(compiled.string) if self.table is not None else None
            self._alone = AloneForm(compiled.string, _binder(self.name, compiled), scope_at, short)
        return self._alone

    @alone.setter
    def alone(self, form: AloneForm) -> None:
        self._alone = form


def short_form(sql: str) -> str | None:
    """Return the statement that runs alone with its scope set in OFFSET, which is computed before any row is looked for.

    Citus takes a third less time for a statement of one table where it has no subquery. It writes arguments into the text that
    it sends to a worker: the scope is the end of its argument, behind a pad that is longer than what the worker shows of a
    statement.

    None where it would have a subquery or a join all the same, and where it has a LIMIT: with an OFFSET that is not known
    beforehand the planner takes it for a tenth of all rows.
    """
    rest, gates = _GATE_TEXT.subn("", sql)
    if gates != 1 or rest.count("SELECT") != 1 or re.search(r"\b(JOIN|LIMIT|OFFSET)\b", rest):
        return None
    scope = f"right({_GATE_TEXT.findall(sql)[0]}::VARCHAR, {TOKEN_LENGTH})"
    return f"{rest} \n OFFSET (pg_catalog.set_config('derwin.project_id', {scope}, true) IS NULL)::INTEGER"


def _table_of(expression: sa.Executable) -> str | None:
    """Return the one table that the statement reads or changes, None where there are several."""
    if isinstance(expression, sa.Select):
        froms = expression.get_final_froms()
        return froms[0].name if len(froms) == 1 and isinstance(froms[0], sa.Table) else None
    table = getattr(expression, "table", None)
    return table.name if isinstance(table, sa.Table) else None


def _binder(name: str, compiled: Any) -> Callable[[Mapping[str, Any]], list[Any]]:
    """Return a generated function from parameters to the positional arguments of the compiled statement."""
    scope: dict[str, Any] = {}
    arguments = []
    for position, parameter in enumerate(compiled.positiontup or ()):
        bind = compiled.binds[parameter]
        process = _bind_processor(bind.type)
        if bind.required:
            argument = f"values[{parameter!r}]"
            if process is not None:
                scope[f"p{position}"] = process
                argument = f"p{position}({argument})"
        else:
            argument = f"c{position}"
            scope[argument] = bind.value if process is None else process(bind.value)
        arguments.append(argument)
    source = f"def bind(values):\n    return [{', '.join(arguments)}]"
    exec(compile(source, f"<arguments of {name}>", "exec"), scope)  # noqa: S102  # our own text, made above
    return cast("Callable[[Mapping[str, Any]], list[Any]]", scope["bind"])


def _bind_processor(kind: Any) -> Callable[[Any], Any] | None:
    """Return what the type does to a value before the driver takes it; a StrEnum is text already, also in a list."""
    if isinstance(kind, sa.Enum) or (isinstance(kind, sa.ARRAY) and isinstance(kind.item_type, sa.Enum)):
        return None
    return cast("Callable[[Any], Any] | None", kind.dialect_impl(DIALECT).bind_processor(DIALECT))


def entities(name: str, expression: sa.Executable, model: type[M], *, is_scoped: bool = True) -> Statement[M]:
    """Return the statement whose rows are instances of the model: a table's class, or one of some columns of a table."""
    columns = _columns_of(expression)
    statement = Statement(name, expression, hydrator(model, columns), is_scoped=is_scoped)
    statement.is_of_rows = True
    return statement


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

    An instance has its identity key and state (made at first use), so that it can be assigned to, copied, pickled and
    merged. A column that is left out reads None, is not among the fields that are set, and a merge leaves it alone.
    """
    read = list(columns)
    names = [cast("str", column.key) for column in read]
    absent: list[str] = []
    if hasattr(model, "__table__"):
        sa.inspect(model).registry.configure()
        _keep_state_lazily(model)
        absent = [name for name in sa.inspect(model).columns.keys() if name not in names]  # noqa: SIM118  # a collection, not a dict
    scope: dict[str, Any] = {
        "new": object.__new__,
        "put": object.__setattr__,
        "model": model,
        "fields": LoadedFields(name for name in model.model_fields if name not in absent),
    }
    values = [f"{name!r}: {_value(column, i, scope)}" for i, (name, column) in enumerate(zip(names, read, strict=True))]
    values += [f"{name!r}: None" for name in absent]
    source = f"""
def hydrate(records):
    rows = []
    for {", ".join(f"v{i}" for i in range(len(names)))}, in records:
        row = new(model)
        put(row, "__dict__", {{{", ".join(values)}}})
        put(row, "__pydantic_fields_set__", {"fields.copy()" if absent else "fields"})
        put(row, "__pydantic_extra__", None)
        put(row, "__pydantic_private__", None)
        rows.append(row)
    return rows
"""
    exec(compile(source, f"<hydrator of {model.__name__}>", "exec"), scope)  # noqa: S102  # our own text, made above
    return cast("Callable[[Records], list[M]]", scope["hydrate"])


def _value(column: sa.ColumnElement[Any], position: int, scope: dict[str, Any]) -> str:
    """Return the expression that makes the attribute from the column's value; what it needs is put into `scope`."""
    value, name = f"v{position}", f"p{position}"
    if isinstance(column.type, sa.Enum) and column.type.enum_class is not None:
        scope[name] = {None: None, **{member.value: member for member in column.type.enum_class}}
        return f"{name}[{value}]"
    process = column.type.read if isinstance(column.type, PydanticJson) else _result_processor(column)
    scope[name] = process
    return value if process is None else f"None if {value} is None else {name}({value})"


class LoadedFields(set[str]):
    """The fields of a row that was read. All rows share a complete set, since nothing can be added to it.

    Its type tells a row that was read, and its copies, from an instance that somebody constructs.
    """

    def copy(self) -> "LoadedFields":
        return LoadedFields(self)

    __copy__ = copy


class _LazyState:
    """SQLAlchemy's state of a row that was read, made when something asks for it: most rows are only looked at.

    It stands in the class; the state, once made, in the instance, where it comes first.

    Source:
        Half of the time to hydrate went into states that nobody used, docs/performance.md.
    """

    def __init__(self, model: type[SQLModel]) -> None:
        mapper = sa.inspect(model)
        self._manager = manager_of_class(model)
        self._key = [column.name for column in mapper.primary_key]
        self._columns = list(mapper.columns.keys())

    def __get__(self, row: Any, _owner: object) -> InstanceState[Any]:
        fields = getattr(row, "__pydantic_fields_set__", None)
        if type(fields) is not LoadedFields:
            raise AttributeError(self._manager.STATE_ATTR)
        state = InstanceState(row, self._manager)
        state.key = (type(row), tuple(row.__dict__[name] for name in self._key), None)
        absent = tuple(name for name in self._columns if name not in fields)
        if absent:
            state.info["absent"] = absent
        row.__dict__[self._manager.STATE_ATTR] = state
        return state


def _keep_state_lazily(model: type[SQLModel]) -> None:
    name = manager_of_class(model).STATE_ATTR
    if name not in vars(model):
        type.__setattr__(model, name, _LazyState(model))
