"""What is asked of a list: filters, words, order, columns, the place; what of it is wrong; and the addresses of its neighbours.

A filter is a parameter of its own name, once for each of its values. What is about filters has a hyphen, as no column has:
`is-none` names those that are to have no value, `is-not` those whose values are left out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.datastructures import QueryParams

from derwin_db.errors import DerwinError, InvalidInput, TooLarge
from derwin_db.filters import IS_NULL, not_
from derwin_db.repos.conditions import column_of
from derwin_db.studio.views import View, label_of

PAGE_SIZE = 50
WORDS, NONE, NOT, COLUMN = "with-words", "is-none", "is-not", "with-column"
_SINGLE = (WORDS, "order", "limit", "cursor")
_SEVERAL = (NONE, NOT, COLUMN)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_MINUTE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)", re.ASCII)
_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_LIMIT = re.compile(r"[0-9]{1,4}", re.ASCII)


@dataclass(frozen=True)
class Chip:
    """One thing that narrows the list, and the query without it."""

    label: str
    text: str
    without: list[tuple[str, str]]
    is_chosen: bool = False
    """Whether the text is one of those that are offered, and not typed."""


@dataclass
class Listing:
    """What was asked of a list of this view, as it was typed."""

    view: View
    filters: dict[str, list[str]] = field(default_factory=dict)
    none: set[str] = field(default_factory=set)
    excluded: set[str] = field(default_factory=set)
    words: str = ""
    order: str = "-created_at"
    columns: tuple[str, ...] = ()
    limit: int = PAGE_SIZE
    cursor: str | None = None
    errors: dict[str, str] = field(default_factory=dict)
    """What is wrong, by the name of the filter; under "" what belongs to none."""

    @classmethod
    def of(cls, view: View, query: QueryParams) -> "Listing":
        """Read the query of a request. What is wrong is noted, and none of it repeated."""
        listing = cls(view, columns=view.columns)
        given: dict[str, list[str]] = {}
        for name, value in query.multi_items():
            if value.strip():
                given.setdefault(name, []).append(value.strip())
            elif not listing._knows(name):
                listing._refuse(f"{name[:64]}: no such filter.")
        listing._read(given)
        listing._check()
        return listing

    # --- reading ------------------------------------------------------------------------------------------------------

    def _refuse(self, rule: str) -> None:
        """Note what is wrong with the request as a whole, behind what was wrong before."""
        self.errors[""] = f"{self.errors['']} {rule}" if "" in self.errors else rule

    def _knows(self, name: str) -> bool:
        return name in self.view.filters or name in _SINGLE or name in _SEVERAL

    def _read(self, given: Mapping[str, list[str]]) -> None:
        for name, values in given.items():
            if not self._knows(name):
                self._refuse(f"{name[:64]}: no such filter. There are: {', '.join(self.view.filters)}.")
            elif name in self.view.filters:
                self.filters[name] = list(dict.fromkeys(values))
                if len(values) > 1 and not self.view.filters[name].takes_many:
                    self.errors[name] = "can be given once."
            elif name in _SINGLE and len(values) > 1:
                self._refuse(f"{name}: can be given once.")
        self.none = self._named(given, NONE)
        self.excluded = self._named(given, NOT)
        self.words = given.get(WORDS, [""])[0]
        self.cursor = given.get("cursor", [None])[0]
        self._read_order(given.get("order", ["-created_at"])[0])
        self._read_limit(given.get("limit", [str(PAGE_SIZE)])[0])
        self._read_columns(given.get(COLUMN, []))

    def _named(self, given: Mapping[str, list[str]], parameter: str) -> set[str]:
        names = set(given.get(parameter, ()))
        if unknown := names - {name for name, kind in self.view.filters.items() if kind.takes_many}:
            self._refuse(f"{parameter}: {min(unknown)[:64]} is no filter by values.")
        return names - unknown

    def _read_order(self, order: str) -> None:
        if order in self.view.orders:
            self.order = order
        else:
            self._refuse(f"order: one of {', '.join(self.view.orders)}.")

    def _read_limit(self, limit: str) -> None:
        if _LIMIT.fullmatch(limit) and 1 <= int(limit) <= 500:
            self.limit = int(limit)
        else:
            self._refuse("limit: a whole number of 1 to 500.")

    def _read_columns(self, names: Sequence[str]) -> None:
        if unknown := set(names) - set(self.view.fields):
            self._refuse(f"{COLUMN}: {min(unknown)[:64]} is no column here.")
        elif names:
            self.columns = tuple(name for name in dict.fromkeys((*self.view.columns, *self.view.fields)) if name in names)

    def _check(self) -> None:
        """Try every filter, so that all that is wrong is said at once."""
        for name, value in self.keywords.items():
            if name in self.errors:
                continue
            try:
                self.view.filters[name].condition(value, name)
            except (InvalidInput, TooLarge) as error:
                self.note(error, name)
        if self.words and self.view.name == "rag_corpus":
            for name in self.filters.keys() | self.none:
                is_one = name == "classification" and name not in self.excluded and len(self.filters.get(name, ())) == 1
                if not is_one:
                    self.errors.setdefault(name, "with words, past fixes are of one classification, or of all.")

    def note(self, error: DerwinError, name: str = "") -> None:
        """Note what a repository refused, beside the filter that it names."""
        named, _, rule = error.message.partition(": ")
        self.errors[named if named in self.view.filters else name] = rule or error.message

    # --- what the repository takes ------------------------------------------------------------------------------------

    @property
    def keywords(self) -> dict[str, Any]:
        """The filters, as the repository's reads take them."""
        found: dict[str, Any] = {}
        for name in self.view.filters:
            values: list[Any] = [self._value(name, text) for text in self.filters.get(name, ())]
            if name in self.none:
                values.append(IS_NULL)
            if values:
                one_or_many = values[0] if len(values) == 1 else values
                found[name] = not_(one_or_many) if name in self.excluded else one_or_many
        return found

    def _value(self, name: str, text: str) -> Any:
        """Return what a text stands for: a number, a time, yes or no; what stands for none is left for the rule to refuse."""
        python = column_of(self.view.table, name).type.python_type
        if python is bool:
            return {"true": True, "false": False}.get(text, text)
        if python is int and _WHOLE.fullmatch(text):
            return int(text)
        if python is float:
            return _number(text)
        if python is bytes:
            return _bytes(text)
        if python.__name__ == "datetime":
            return _time(text)
        return text

    @property
    def is_narrowed(self) -> bool:
        """Whether anything is left out."""
        return bool(self.filters or self.none or self.words)

    # --- where else one can go ----------------------------------------------------------------------------------------

    def query(self, **changes: Any) -> list[tuple[str, str]]:
        """Return the parameters of this list with some changes, those that say nothing left out. The place is not kept."""
        other = replace(self, **changes)
        pairs = [(WORDS, other.words)] * bool(other.words)
        pairs += [(name, value) for name, values in other.filters.items() for value in values]
        pairs += [(NONE, name) for name in sorted(other.none)]
        pairs += [(NOT, name) for name in sorted(other.excluded & (other.filters.keys() | other.none))]
        pairs += [("order", other.order)] * (other.order != "-created_at")
        pairs += [("limit", str(other.limit))] * (other.limit != PAGE_SIZE)
        pairs += [(COLUMN, name) for name in other.columns] * (other.columns != other.view.columns)
        return pairs

    def next(self, cursor: str) -> list[tuple[str, str]]:
        """Return the parameters of the next page."""
        return [*self.query(), ("cursor", cursor)]

    def sorted_by(self, column: str) -> str | None:
        """Return the order that the heading of a column leads to: the greatest first, and turned round the next time."""
        orders = [order for order in (f"-{column}", column) if order in self.view.orders]
        if not orders or self.words:
            return None
        return next((order for order in orders if order != self.order), orders[0]) if self.order in orders else orders[0]

    @property
    def chips(self) -> list[Chip]:
        """What narrows the list, each with a way to take it away."""
        found = [Chip("Words", self.words, self.query(words=""))] if self.words else []
        offered = {choice.column: choice.values or () for choice in self.view.choices}
        for name in self.view.filters:
            label, values = self._chip_label(name), offered.get(name, ())
            found += [Chip(label, text, self._without(name, text), text in values) for text in self.filters.get(name, ())]
            if name in self.none:
                found.append(Chip(label, "none", self.query(none=self.none - {name})))
        return found

    def label(self, name: str) -> str:
        """Return how a filter reads."""
        return self._chip_label(name).removesuffix(" is").removesuffix(" is not")

    def _chip_label(self, name: str) -> str:
        column = column_of(self.view.table, name).name
        bound = next(
            (bound.label for choice in self.view.choices for bound in choice.bounds if bound.name == name),
            "is not" if name in self.excluded else "is",
        )
        return f"{label_of(column)} {bound}"

    def _without(self, name: str, value: str) -> list[tuple[str, str]]:
        values = [other for other in self.filters[name] if other != value]
        filters = {key: (values if key == name else kept) for key, kept in self.filters.items() if values or key != name}
        return self.query(filters=filters)

    def is_chosen(self, name: str, value: str) -> bool:
        """Tell whether a value of a filter was asked for."""
        return value in self.filters.get(name, ())

    def typed(self, name: str) -> list[str]:
        """Return what was typed into the fields of a filter, and an empty one for another value."""
        values: Iterable[str] = self.filters.get(name, ())
        return [*values, ""]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _bytes(text: str) -> bytes | None:
    """Return the bytes of hexadecimal digits, as they are shown."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def _time(text: str) -> str:
    """Return a day as its midnight, and a time of day without an offset as one in UTC."""
    if _DAY.fullmatch(text):
        return f"{text}T00:00:00Z"
    minute = _MINUTE.fullmatch(text)
    return f"{minute[1]}T{minute[2]}Z" if minute else text
