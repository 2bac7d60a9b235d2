"""What filters and orders become: values that are checked, and the conditions and keys of a statement.

A filter is named after its column: `status`, and for bounds `min_risk_score`, `max_risk_score`, `resolved_since`,
`resolved_until` (of `resolved_at`), `fingerprint_prefix`. `since` and `until` bound `created_at`.
"""

import operator
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple, get_args, get_origin
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlmodel import AutoString, UTCDateTime

from derwin_db.errors import InvalidInput, TooLarge
from derwin_db.filters import IS_NULL, Not, Null
from derwin_db.query.builders import array_param, param, starts_with
from derwin_db.repos.validation import checked

MAX_VALUES = 1000
"""Most values that one filter takes."""

KEYS = frozenset({datetime, date, int, bool, float, Decimal, str, UUID})
"""Types of values that a cursor can hold, and so of columns that a list can be ordered by."""

Comparison = Callable[[Any, Any], sa.ColumnElement[bool]]

Shape = tuple[tuple[str, str], ...]
"""Which filters a statement has, each with its form: what it is cached by."""


class Condition(NamedTuple):
    """One filter that was checked. `form` says how it reads in SQL, `value` what is sent along."""

    form: str
    """`one` or `many`, `null`, `many or null`; each also with `not ` in front."""
    value: Any


class FilterType:
    """What one filter takes, read off its annotation."""

    def __init__(self, hint: Any) -> None:
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        self.is_optional: bool = Null in kinds
        self.takes_many: bool = any(get_origin(kind) is Not for kind in kinds)
        self.value: Any = next(k for k in kinds if k is not Null and get_origin(k) not in (Sequence, AbstractSet, Not))
        """The type of one value."""
        self._adapter: TypeAdapter[Any] = TypeAdapter(self.value)

    def condition(self, given: Any, name: str) -> Condition:
        """Check what was given.

        Errors:
            InvalidInput, TooLarge: the filter and the rule are named, never the value.
        """
        if not isinstance(given, Not):
            return self._positive(given, name)
        if not self.takes_many or given.value is None or isinstance(given.value, Not):
            raise InvalidInput(f"{name}: not_ is of one value, or of several; a bound or a prefix takes no not_.")

        form, value = self._positive(given.value, name)
        return Condition(f"not {form}", value)

    def _positive(self, given: Any, name: str) -> Condition:
        if given is IS_NULL:
            self._check_optional(name)
            return Condition("null", None)
        if self.takes_many and isinstance(given, Sequence | AbstractSet) and not isinstance(given, str | bytes | bytearray):
            return self._several(given, name)
        return Condition("one", checked(self._adapter, given, name))

    def _several(self, given: Sequence[Any] | AbstractSet[Any], name: str) -> Condition:
        if len(given) > MAX_VALUES:
            raise TooLarge(f"{name}: at most {MAX_VALUES} values.")
        values = [value for value in given if value is not IS_NULL]
        is_null_too = len(values) < len(given)
        if is_null_too:
            self._check_optional(name)
        distinct = sorted({checked(self._adapter, value, name) for value in values}, key=str)
        return Condition("many or null" if is_null_too else "many", distinct)

    def _check_optional(self, name: str) -> None:
        if not self.is_optional:
            raise InvalidInput(f"{name}: every row has a value here, so IS_NULL selects none.")


def bound_of(name: str) -> tuple[str, Comparison]:
    """Return the column that a filter of this name bounds, and how: a name that is no column's."""
    if name in ("since", "until"):
        name = f"created_{name}"
    for prefix, comparison in (("min_", operator.ge), ("max_", operator.le)):
        if name.startswith(prefix):
            return name.removeprefix(prefix), comparison
    for suffix, comparison in (("_since", operator.ge), ("_until", operator.lt)):
        if name.endswith(suffix):
            return f"{name.removesuffix(suffix)}_at", comparison
    return name.removesuffix("_prefix"), starts_with


def column_of(table: sa.Table, name: str) -> sa.Column[Any]:
    """Return the column that a filter is about."""
    return table.c[name if name in table.c else bound_of(name)[0]]


def condition_of(table: sa.Table, name: str, form: str) -> sa.ColumnElement[bool]:
    """Return the condition of one filter; its parameter has the filter's name."""
    column = column_of(table, name)
    if name not in table.c:
        return bound_of(name)[1](column, param(name, column))
    if not form.startswith("not "):
        return _selected(column, name, form)
    form = form.removeprefix("not ")
    if form == "null":
        return column.is_not(None)
    if form == "one":
        return column.is_distinct_from(param(name, column)) if column.nullable else column != param(name, column)
    others = column != sa.all_(array_param(name, column))
    return sa.or_(others, column.is_(None)) if column.nullable and form == "many" else others


def _selected(column: sa.Column[Any], name: str, form: str) -> sa.ColumnElement[bool]:
    if form == "null":
        return column.is_(None)
    if form == "one":
        return column == param(name, column)
    among = column == sa.any_(array_param(name, column))
    return sa.or_(among, column.is_(None)) if form == "many or null" else among


class Order(NamedTuple):
    """The order of a list: a column, and the id among rows that tie."""

    column: str
    is_descending: bool

    @property
    def name(self) -> str:
        """How it is asked for."""
        return f"-{self.column}" if self.is_descending else self.column

    def keys(self, table: sa.Table) -> Sequence[sa.ColumnElement[Any]]:
        """Return what rows are sorted by."""
        columns = (self._key(table), table.c.id)
        return [column.desc() for column in columns] if self.is_descending else columns

    def behind(self, table: sa.Table) -> sa.ColumnElement[bool]:
        """Return the condition of the rows behind a place: one comparison of rows, which the index goes on from."""
        here = sa.tuple_(self._key(table), table.c.id)
        place = sa.tuple_(param("after_key", table.c[self.column]), param("after_id", table.c.id))
        return here < place if self.is_descending else here > place

    def _key(self, table: sa.Table) -> sa.ColumnElement[Any]:
        """Return the column as its index has it: of a slug the lower case, which is the slug (docs/isolation.md says why)."""
        column = table.c[self.column]
        return sa.func.lower(column) if self.column == "slug" else column


NEWEST_FIRST = Order("created_at", is_descending=True)


def plain_type(column: sa.Column[Any]) -> Any:
    """Return the column's type, of a plain `str` or `datetime` what SQLModel's own type stands for."""
    kind: Any = column.type
    return kind.impl_instance if isinstance(kind, AutoString | UTCDateTime) else kind


def key_type(column: sa.Column[Any]) -> Any:
    """Return the type of the values that a cursor goes on from in a list by this column, None where it can hold none."""
    kind = plain_type(column)
    try:
        found = kind.python_type
    except NotImplementedError:  # a type that does not say what its values are in Python
        return None
    is_naive = found is datetime and not kind.timezone
    return found if found in KEYS and not is_naive else None


def order_of(given: object, allowed: Sequence[str]) -> Order:
    """Return the order that was asked for.

    Errors:
        InvalidInput for one that the table does not have.
    """
    if not isinstance(given, str) or given not in allowed:
        raise InvalidInput(f"order: one of {', '.join(allowed)}.")
    return Order(given.removeprefix("-"), given.startswith("-"))
