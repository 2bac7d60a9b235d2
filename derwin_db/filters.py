"""What a filter of `list`, `stream` and `count` takes beside one value: several, `IS_NULL`, and `not_` of any of these.

    await repos.qa_tickets.list(session, status=[TicketStatus.OPEN, TicketStatus.TRIAGED])
    await repos.qa_tickets.list(session, final_bucket=IS_NULL)
    await repos.qa_tickets.count(session, status=not_(TicketStatus.DUPLICATE))

None stands for no filter, so that an optional parameter of a request can be handed on as it is. Rows without a value are
asked for by a name that nobody writes by accident.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, Union, overload

__all__ = ["IS_NULL", "Filter", "Not", "Null", "OptionalFilter", "not_"]


class Null(Enum):
    """The type of `IS_NULL`."""

    IS_NULL = "IS_NULL"

    def __repr__(self) -> str:
        return self.name


IS_NULL: Final[Literal[Null.IS_NULL]] = Null.IS_NULL
"""Selects the rows that have no value in a column."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Not(Generic[T_co]):
    """What `not_` returns: every row but those that the filter would select."""

    __slots__ = ("_value",)

    def __init__(self, value: "T_co | Sequence[T_co] | AbstractSet[T_co]") -> None:
        self._value = value

    @property
    def value(self) -> Any:
        """What is left out."""
        return self._value

    def __repr__(self) -> str:
        return f"not_({self._value!r})"


@overload
def not_(value: list[T] | tuple[T, ...] | set[T] | frozenset[T], /) -> Not[T]: ...
@overload
def not_(value: T, /) -> Not[T]: ...
def not_(value: Any, /) -> Not[Any]:
    """Return the filter that selects every other row, those without a value too: `status=not_(TicketStatus.DUPLICATE)`.

    `not_(IS_NULL)` selects the rows that have a value.
    """
    return Not(value)


# Union, not |: an alias with a type variable is subscripted at run time, by Annotated types too.
Filter: TypeAlias = Union[T, Sequence[T], AbstractSet[T], Not[T], None]  # noqa: UP007
"""A filter over a column that always has a value."""

OptionalFilter: TypeAlias = Union[T, Null, Sequence[T | Null], AbstractSet[T | Null], Not[T | Null], None]  # noqa: UP007
"""A filter over a column that may be NULL."""
