"""What each parameter of each method of each repository refuses, generated from the signatures.

A parameter of a new name makes the tests fail until its kind is known here.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, get_type_hints

from derwin_db import AdminSession, repos
from derwin_db.fields import money, scalars
from derwin_db.fields.scalars import new_id
from derwin_db.fields.table import Input
from derwin_db.filters import IS_NULL, not_
from derwin_db.models import (
    DiffStat,
    FixOutcome,
    ProfileChange,
    QATicket,
    QATicketUpdate,
    RunStats,
    SpendCap,
    TicketStatus,
)
from derwin_db.models.enums import Bucket, ProjectMode
from derwin_db.repos.conditions import FilterType
from tests.contract.bad_values import bad_of
from tests.contract.good_values import EXAMPLES, example_of, good_input
from tests.contract.kinds import CANARY, Kind, kind_of


@dataclass(frozen=True)
class Call:
    """One method of one repository, with the parameters that it takes."""

    table: str
    verb: str
    parameters: tuple[inspect.Parameter, ...]
    filters: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        return f"{self.table}.{self.verb}"

    @property
    def method(self) -> Callable[..., Any]:
        """The method itself."""
        return getattr(getattr(repos, self.table), self.verb)

    @property
    def is_of_the_door(self) -> bool:
        """Whether it takes the session of the admin door alone."""
        return self.method.__annotations__["session"] is AdminSession

    def arguments(self) -> dict[str, Any]:
        """Return arguments that are taken."""
        return {parameter.name: good(self, parameter) for parameter in self.parameters}


def calls() -> Iterator[Call]:
    """Yield every public method of every repository."""
    for table in repos.__all__:
        kind = type(getattr(repos, table))
        for verb, function in inspect.getmembers(kind, inspect.isfunction):
            if verb.startswith("_"):
                continue
            parameters = list(inspect.signature(function).parameters.values())[2:]
            plain = tuple(one for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD)
            has_filters = len(plain) < len(parameters)
            hints = get_type_hints(kind.filters, include_extras=True) if has_filters else {}
            yield Call(table, verb, plain, tuple(hints.items()))


_VERSIONS: list[Any] = [0, -1, 2**31, True, "1", 1.0, math.nan, None, CANARY]
_MANY_IDS: list[Any] = [5, CANARY, [CANARY], [5], [EXAMPLES["uuid"], None], [new_id() for _ in range(1001)], {CANARY: 1}]
_ONE_ID: list[Any] = [EXAMPLES["uuid"]]
_BOOLEANS: list[Any] = ["yes", "no", CANARY, 0, 1, 2, None, []]

_NAMED: dict[str, Kind | list[Any]] = {
    **dict.fromkeys(("id", "by", "of", "ticket_id", "run_id", "doc_id", "prompt_artifact_id"), Kind("uuid")),
    **dict.fromkeys(("worker", "actor", "reason", "model", "branch"), kind_of(scalars.ShortText)),
    **dict.fromkeys(("name", "classification"), Kind("classification")),
    **dict.fromkeys(("since", "until"), Kind("time")),
    **dict.fromkeys(("expected_version", "version", "to_version"), _VERSIONS),
    **dict.fromkeys(("with_embedding", "despite_retention", "with_total"), _BOOLEANS),
    "order": ["title", CANARY, "-", "", "created_at DESC", 5, b"created_at", None, True, ["created_at"]],
    "on_error": ["ignore", CANARY, "", None, True, 5, ["report"]],
    "limit_each": [0, -1, 101, "5", 1.5, True, None, CANARY],
    "at_most": [0, -1, "5", 1.5, True, 2**31, math.nan, CANARY],
    "error": kind_of(scalars.LongText),
    "text": kind_of(scalars.SearchText),
    "fingerprint": kind_of(scalars.Fingerprint),
    "slug": Kind("slug"),
    "embedding": Kind("vector"),
    "older_than": Kind("window"),
    "pr_url": Kind("web url"),
    "cost_usd": kind_of(money.Cost),
    "input_tokens": kind_of(scalars.Count),
    "output_tokens": kind_of(scalars.Count),
    "mode": Kind("enum", (ProjectMode,)),
    "bucket": Kind("enum", (Bucket,)),
    "to": Kind("enum", (TicketStatus,)),
    "outcome": Kind("enum", (FixOutcome,)),
    "change": Kind("enum", (ProfileChange,)),
    "limit": [0, -1, 501, 10**9, "5", "1e3", 1.5, 5.0, True, None, "\uff15", math.nan, Decimal(5), CANARY],
    "cursor": ["", CANARY, 5, b"x" * 54, "A" * 54, "\uff21" * 54, "A" * 1_000_000, True, ["A"]],
    **dict.fromkeys(("ids", "ticket_ids"), _MANY_IDS),
    "names": [5, CANARY.upper(), [CANARY.upper()], [5], ["ok", None], [""]],
    "min_similarity": [2, -1.1, math.nan, math.inf, True, "0.5", Decimal("0.5"), CANARY],
    "cap": [5, CANARY, {"usd": CANARY}, (1, 2), True],
    "key": [CANARY, 5, [], "amount_usd; drop table x", b"day", None, True],
    "stats": [5, CANARY, {}, {"signals": 1}, None, RunStats],
    "diff_stat": [5, CANARY, {"files": -1}, {CANARY: 1}, [1]],
    "delete_blob": [5, CANARY, True],
}

_GOOD: dict[str, Any] = {
    **dict.fromkeys(("limit", "limit_each", "at_most"), 5),
    "cursor": None,
    "order": "created_at",
    "on_error": "raise",
    **dict.fromkeys(("ids", "ticket_ids"), _ONE_ID),
    "names": ["ui_bug"],
    "min_similarity": 0.5,
    "cap": SpendCap(usd="1", window=EXAMPLES["window"]),
    "key": "day",
    "stats": RunStats(),
    "diff_stat": DiffStat(),
    "delete_blob": None,
    "change": ProfileChange.LEARNED,
    **dict.fromkeys(("expected_version", "version", "to_version"), 1),
    **dict.fromkeys(("with_embedding", "despite_retention", "with_total"), False),
}


def good(call: Call, parameter: inspect.Parameter) -> Any:
    """Return an argument that is taken."""
    if parameter.name in {"data", "rows", "signals"}:
        model = input_of(parameter)
        made = model(**good_input(model))
        return made if parameter.name == "data" else [made]
    if parameter.name in _GOOD:
        return _GOOD[parameter.name]
    kind = _NAMED[parameter.name]
    assert isinstance(kind, Kind), f"{call}: add a good {parameter.name}"
    return example_of(kind)


def bad(call: Call, parameter: inspect.Parameter) -> Iterator[Any]:
    """Yield arguments that are refused."""
    may_be_none = parameter.default is None or "None" in str(parameter.annotation)
    if parameter.name in {"data", "rows", "signals"}:
        model = input_of(parameter)
        stored = QATicket(id=new_id(), title=CANARY)
        other = QATicketUpdate() if model is not QATicketUpdate else RunStats()
        values: list[Any] = [5, CANARY, {"title": CANARY}, stored, other, model, True]
        if parameter.name != "data":
            values = [5, None, *([value] for value in values), [model(**good_input(model)), stored]]
        yield from values
        return
    assert parameter.name in _NAMED, f"{call}: {parameter.name} is new: add its kind"
    kind = _NAMED[parameter.name]
    for value in bad_of(kind) if isinstance(kind, Kind) else kind:
        if value is not None or not may_be_none:
            yield value


def bad_filters(call: Call) -> Iterator[tuple[str, Any]]:
    """Yield filters that are refused: each with all values of its kind, and one that there is not."""
    for name, hint in call.filters:
        kind = FilterType(hint)
        for value in bad_of(kind_of(kind.value)):
            if value is not None:
                yield name, [value]
            if value is not None and not (kind.takes_many and isinstance(value, list | tuple | set)):  # several, checked above
                yield name, value
                yield name, not_(value)
        yield from ((name, value) for value in (not_(None), not_(not_(5)), [[]], *([IS_NULL] * (not kind.is_optional))))
    yield "nonsense", 1
    yield CANARY, 1
    yield "project_id", EXAMPLES["uuid"]
    yield "id; drop table x", 1


def input_of(parameter: inspect.Parameter) -> type[Input]:
    """Return the input that the parameter takes, itself or many of it."""
    inner = parameter.annotation
    while hasattr(inner, "__args__"):  # Iterable[X], and X | Mapping
        inner = inner.__args__[0]
    assert issubclass(inner, Input)
    return inner
