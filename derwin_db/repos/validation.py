"""Checks of what callers hand in, before a connection is taken: the field and the rule are named, never the value."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel, TypeAdapter, ValidationError

from derwin_db.errors import InvalidInput, TooLarge
from derwin_db.fields.scalars import Id, Window

T = TypeVar("T")

MAX_IDS = 1000
"""Most ids that one call takes."""

MAX_EACH = 100
"""Most rows that one call returns for each id."""

_ID: TypeAdapter[UUID] = TypeAdapter(Id)
_WINDOW: TypeAdapter[timedelta] = TypeAdapter(Window)


def check_id(value: object, field: str = "id") -> UUID:
    """Return the id.

    Errors:
        InvalidInput for what is no UUID, or nil.
    """
    if isinstance(value, UUID) and value.int:
        return value
    return cast("UUID", checked(_ID, value, field))


def check_window(value: object, field: str) -> timedelta:
    """Return the length of time.

    Errors:
        InvalidInput unless it is above zero, and at most a hundred years.
    """
    return cast("timedelta", checked(_WINDOW, value, field))


def iterated(values: Iterable[T], field: str) -> Iterator[T]:
    """Return an iterator.

    Errors:
        InvalidInput for what is none, and for text, whose letters nobody means.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidInput(f"{field}: a list, or anything else that can be iterated over.")
    return iter(values)


def check_ids(values: Iterable[object], field: str = "ids") -> list[UUID]:
    """Return the distinct ids, sorted.

    Errors:
        InvalidInput, TooLarge above 1,000.
    """
    ids = sorted({check_id(value, field) for value in iterated(values, field)})
    if len(ids) > MAX_IDS:
        raise TooLarge(f"{field}: at most {MAX_IDS} in one call.")
    return ids


def check_limit_each(limit: object) -> int:
    """Return how many rows there may be for each.

    Errors:
        InvalidInput unless it is an integer of 1 to 100.
    """
    if type(limit) is not int or not 1 <= limit <= MAX_EACH:
        raise InvalidInput(f"limit_each: an integer of 1 to {MAX_EACH}.")
    return limit


def check_on_error(value: object) -> bool:
    """Tell whether a bulk write reports each row.

    Errors:
        InvalidInput unless it is "raise" or "report".
    """
    if value not in ("raise", "report"):
        raise InvalidInput("on_error: 'raise' or 'report'.")
    return value == "report"


def checked(adapter: TypeAdapter[Any], value: object, field: str) -> Any:
    """Return the value as the adapter's type.

    Errors:
        InvalidInput that names the field and the rule, not the value.
    """
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise invalid(error, field) from None


def invalid(error: ValidationError, field: str = "") -> InvalidInput:
    """Return this package's error for Pydantic's: fields and rules, no values."""
    parts, is_large = [], False
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join([field, *(str(part) for part in item["loc"])] if field else [str(part) for part in item["loc"]])
        parts.append(f"{where}: {item['msg']}")
        is_large = is_large or item["type"] == "too_large"
    return (TooLarge if is_large else InvalidInput)("; ".join(parts))


def check_input(data: object, kind: type[BaseModel], field: str = "data", row: int | None = None) -> None:
    """Check that an input, or one of many (`row`), is what the verb takes.

    Errors:
        InvalidInput unless this is an instance of the class itself, with its fields and none that were slipped in.
    """
    if type(data) is not kind or data.__dict__.keys() != kind.model_fields.keys():
        raise InvalidInput(f"{field if row is None else f'{field}[{row}]'}: a {kind.__name__} is wanted here.")


def check_inputs(rows: Iterable[object], kind: type[BaseModel], field: str, start: int = 0) -> None:
    """Check many of them, of which the first has the number `start`.

    Errors:
        InvalidInput, as `check_input`.
    """
    names = kind.model_fields.keys()
    for number, row in enumerate(rows, start):
        if type(row) is not kind or row.__dict__.keys() != names:
            check_input(row, kind, field, number)


@contextmanager
def naming_rows(rows: Iterable[BaseModel], field: str, start: int = 0) -> Iterator[None]:
    """Name the row that the database refused: inputs were checked when they were made, unless they were changed past that.

    Errors:
        InvalidInput.
    """
    try:
        yield
    except InvalidInput as refused:
        for number, row in enumerate(rows, start):
            try:
                type(row).model_validate(dict(row.__dict__))
            except ValidationError as error:
                raise invalid(error, f"{field}[{number}]") from None
        raise refused from None


def check_version(value: object, field: str = "expected_version") -> int:
    """Return the version.

    Errors:
        InvalidInput unless it is an integer of at least 1.
    """
    if type(value) is not int or not 1 <= value < 2**31:
        raise InvalidInput(f"{field}: an integer of at least 1.")
    return value


def check_flag(value: object, field: str) -> bool:
    """Return the flag.

    Errors:
        InvalidInput unless it is True or False: the text "no" would count as true.
    """
    if type(value) is not bool:
        raise InvalidInput(f"{field}: True or False.")
    return value
