"""Times without an offset, refused before the driver takes them for this machine's own zone and shifts them. Dates, too."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any

from derwin_db.errors import InvalidInput

_WITH_ZONE = frozenset(
    name for kind in ("timestamptz", "tstzrange", "tstzmultirange") for name in (kind, f"{kind}[]", f"_{kind}")
)
_ONE = frozenset({"fetch", "fetchrow", "fetchval", "cursor", "explain"})
_MANY = frozenset({"fetchmany", "executemany"})


class ZonedStatement:
    """A prepared statement of the driver that takes times with an offset. It refuses others."""

    def __init__(self, prepared: Any, zoned: frozenset[int]) -> None:
        self._prepared = prepared
        self._zoned = zoned

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._prepared, name)
        if name in _MANY:
            return lambda args, **options: attribute([self._checked(row) for row in args], **options)
        if name not in _ONE:
            return attribute
        return lambda *arguments, **options: attribute(*self._checked(arguments), **options)

    def _checked(self, arguments: Sequence[Any]) -> Sequence[Any]:
        check_zones(arguments, self._zoned)
        return arguments


def zoned_parameters(prepared: Any) -> frozenset[int]:
    """Return which parameters of a prepared statement are times with an offset."""
    kinds = prepared.get_parameters()
    return frozenset(place for place, kind in enumerate(kinds) if kind.name in _WITH_ZONE)


def check_zones(arguments: Sequence[Any], zoned: frozenset[int]) -> None:
    """Refuse a time without an offset where one with it is stored.

    Errors:
        InvalidInput that names the argument's place.
    """
    for place in sorted(zoned):
        if place < len(arguments) and is_naive(arguments[place]):
            raise InvalidInput(
                f"Argument {place + 1} is a date, or a time without an offset from UTC, where a time with one is wanted: give "
                "it a tzinfo, such as datetime.now(UTC)."
            )


def is_naive(value: Any) -> bool:
    """Tell whether the value is, or holds, a time without an offset, or a date."""
    if hasattr(value, "lower_inc"):  # a range of the driver's, or of SQLAlchemy's
        return is_naive(value.lower) or is_naive(value.upper)
    if isinstance(value, Collection) and not isinstance(value, str | bytes | bytearray | memoryview | Mapping):
        return any(is_naive(item) for item in value)
    return isinstance(value, date) and getattr(value, "tzinfo", None) is None


def holds_naive(arguments: Sequence[Any]) -> bool:
    """Tell whether one of the arguments, or of their rows, is such a time."""
    return is_naive(arguments)
