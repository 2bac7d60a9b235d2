"""What a change through the ORM of `session.sql` has to do, as a repository's does: raise the version, stamp it, keep JSON.

SQLAlchemy sees assignments alone. A JSON value that was changed in place is compared at the flush with what was read; of a row
that was let go meanwhile it can't be stored any more, so the flush is refused.
"""

import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import sqlalchemy as sa
from pydantic_core import PydanticSerializationError
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.orm.attributes import flag_modified

from derwin_db.errors import InvalidStatement
from derwin_db.fields.table import OWN, SCHEMA, VERSIONED, PydanticJson


class JsonWatch:
    """The JSON values of the rows that one session holds, as they were read or stored."""

    def __init__(self) -> None:
        self._rows: dict[int, _Row] = {}
        self._lost: list[str] = []

    def take(self, row: Any, names: Iterable[str] | None = None) -> None:
        """Remember the JSON values of a row as they are now, all of them or those of these columns."""
        types = _json_types(sa.inspect(type(row)))
        if not types:
            return
        watched = self._rows.get(id(row)) or _Row(row, types, self._let_go)
        watched.take(row, names)
        if watched.values:
            self._rows[id(row)] = watched
        else:
            self.forget(row)

    def forget(self, row: Any) -> None:
        """Let the values of a row be that the session holds no longer."""
        self._rows.pop(id(row), None)

    def changed(self) -> None:
        """Tell SQLAlchemy what was changed in place.

        Errors:
            InvalidStatement where the row of such a value is gone.
        """
        if self._lost:
            name = self._lost[0]
            raise InvalidStatement(
                f"{name} was changed in place, and its row was let go before it could be stored. Keep the row until the unit "
                "ends, or assign a new value."
            )
        for row, name in self._changes():
            flag_modified(row, name)

    def undo(self, session: Session) -> None:
        """Have what was changed in place read again: a savepoint was rolled back, and at its begin all changes were flushed."""
        self._lost.clear()
        for row, name in self._changes():
            session.expire(row, [name])

    def _changes(self) -> list[tuple[Any, str]]:
        """Return what was changed in place and not assigned since, by row and column."""
        held = [(watched.reference(), watched) for watched in list(self._rows.values())]
        return [
            (row, name)
            for row, watched in held
            for name in watched.changed_names()
            if row is not None and row.__dict__.get(name) is watched.values[name]
        ]

    def _let_go(self, key: int) -> None:
        watched = self._rows.pop(key)
        self._lost += [f"{watched.table}.{name}" for name in watched.changed_names()]


class _Row:
    """One row's JSON values, and the text that each had."""

    def __init__(self, row: Any, types: Mapping[str, PydanticJson], let_go: Callable[[int], None]) -> None:
        self.table: str = sa.inspect(type(row)).local_table.name
        self.values: dict[str, Any] = {}
        self._types = types
        self._texts: dict[str, bytes] = {}
        key = id(row)
        self.reference = weakref.ref(row, lambda _: let_go(key))

    def take(self, row: Any, names: Iterable[str] | None) -> None:
        for name in self._types if names is None else self._types.keys() & set(names):
            self.values.pop(name, None)
            if row.__dict__.get(name) is not None:
                self.values[name] = row.__dict__[name]
                self._texts[name] = self._text(name)

    def changed_names(self) -> list[str]:
        return [name for name in self.values if self._text(name) != self._texts[name]]

    def _text(self, name: str) -> bytes:
        try:
            return self._types[name].adapter.serializer.to_json(self.values[name], warnings="none")
        except (PydanticSerializationError, ValueError, TypeError):
            return b""  # what can't be written is refused by its column, at the flush


@cache
def _json_types(mapper: Any) -> Mapping[str, PydanticJson]:
    """Return the types of the JSON columns of a table class, by name."""
    return {column.key: column.type for column in mapper.columns if isinstance(column.type, PydanticJson)}


def stamp(session: Session) -> None:
    """Stamp `updated_at` of the rows that the flush will change, by the database's clock. The version is the mapper's."""
    for row in session.dirty:
        if is_ours(row) and "updated_at" in sa.inspect(type(row)).columns and session.is_modified(row):
            row.updated_at = sa.func.now()


def amend(state: ORMExecuteState) -> None:
    """Have an UPDATE that a caller writes with SQLAlchemy move `version` and `updated_at`, unless it sets them itself.

    Errors:
        InvalidStatement for one that is run for a list of rows: there the parameters say which columns are set.
    """
    statement: Any = state.statement
    table: Any = getattr(statement, "table", None)
    if not isinstance(statement, sa.Update) or not _is_table_of_ours(table) or "updated_at" not in table.c:
        return
    if isinstance(state.parameters, list):
        raise InvalidStatement("An UPDATE by a list of rows can't move versions: use the repository, or one row at a time.")
    set_by_hand: Any = statement._values or {}  # noqa: SLF001  # no public name says which columns an UPDATE sets
    given = {getattr(key, "key", key) for key in set_by_hand} | set(state.parameters or {})
    moved: dict[str, Any] = {"updated_at": sa.func.now()}
    if table.name in VERSIONED:
        moved["version"] = table.c.version + 1
    amended = statement.execution_options()  # a copy: the caller's own stays as it is
    amended._maintain_values_ordering = False  # noqa: SLF001  # which the server does not look at, and values() refuses
    state.statement = amended.values({name: value for name, value in moved.items() if name not in given})


def _is_table_of_ours(table: object) -> bool:
    return isinstance(table, sa.Table) and table.schema == SCHEMA and table.metadata is OWN.metadata and table in _tables()


def _tables() -> set[sa.Table]:
    return {mapper.local_table for mapper in OWN.mappers}  # type: ignore[misc]  # tables all


def is_ours(row: object) -> bool:
    """Tell whether the row is of a table of this package."""
    return sa.inspect(type(row)).registry is OWN
