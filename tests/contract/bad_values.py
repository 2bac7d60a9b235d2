"""What a field of each kind refuses. The rows of the list of bad input, as values."""

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import numpy as np
from pydantic import BaseModel

from derwin_db.fields.scalars import LONG_TEXT_LENGTH, NIL
from derwin_db.fields.vector import VECTOR_SIZE
from tests.contract.good_values import example_of, good_of
from tests.contract.kinds import CANARY, Kind, fields_of

_TEXT: list[Any] = [f"{CANARY}\0", f"{CANARY}\ud800", f"\udfff{CANARY}", 5, 1.5, True, CANARY.encode(), [CANARY], {CANARY: 1}]
_DEEP: Any = CANARY
for _ in range(70):
    _DEEP = [_DEEP]
_DEEPER: Any = CANARY
for _ in range(5000):
    _DEEPER = [_DEEPER]


class _Own(Enum):
    VALUE = CANARY


_URLS: list[Any] = [
    "",
    CANARY,
    f"//{CANARY}/x",
    f"javascript:{CANARY}",
    f"JavaScript:{CANARY}",
    f"data:text/html,{CANARY}",
    f"file:///{CANARY}",
    f"https://user:{CANARY}@example.org/",
    f"https://{CANARY}@example.org/",
    f"https://@example.org/{CANARY}",
    f"https://ex\u00e4mple.org/{CANARY}",
    f"https://\u0440aypal.org/{CANARY}",
    f"https://example.org/%00{CANARY}",
    f"https://example.org/\n{CANARY}",
    f"https://example.org/ {CANARY}",
    f"https://example.org/\x7f{CANARY}",
    f"https://example.org\\{CANARY}",
    f"https://example.org:99999/{CANARY}",
    f"https://example.org:x/{CANARY}",
    f"https://[::1/{CANARY}",
    f" https://example.org/{CANARY}",
    f"https://example.org/{CANARY * 10_000}",
    5,
    None,
    f"https://example.org/{CANARY}".encode(),
]

BAD: dict[str, list[Any]] = {
    "uuid": [
        CANARY,
        5,
        True,
        1.5,
        NIL,
        str(NIL),
        b"x" * 16,
        "0" * 32,
        f"{{{CANARY}}}",
        f"urn:uuid:{CANARY}",
        [],
        {},
        "01234567-89ab-cdef-0123-456789abcdef0",
        "01234567-89ab-cdef-0123-456789abcde",
        " 01234567-89ab-cdef-0123-456789abcdef",
    ],
    "slug": [
        "",
        CANARY.upper(),
        f"{CANARY} ",
        f"{CANARY}\n",
        f"-{CANARY}",
        f"{CANARY}-",
        "a--b",
        "a_b",
        "café",
        "café",
        "\u0430bc",
        "a" * 64,
        "a" * 10**6,
        "..",
        f"../{CANARY}",
        "a/b",
        "%00",
        "a\x00b",
        "01234567-89ab-cdef-0123-456789abcdef",
        "0123456789abcdef0123456789abcdef",
        5,
        True,
        b"abc",
        "\ud800",
        "\uff11",
    ],
    "enum": [CANARY, "", 0, 1, True, 1.5, [], _Own.VALUE],
    "literal": [CANARY, 0, True, b"x"],
    "text": ["", *_TEXT],
    "long text": ["x" * (LONG_TEXT_LENGTH + 1), *_TEXT],
    "classification": ["", CANARY, CANARY.upper(), "a-b", "a b", "a\n", "a" * 65, "\u00e4", "\uff11", "\u0661", *_TEXT],
    "sha256": ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, f"{'a' * 63}\n", f" {'a' * 63}", "\uff11" * 64, *_TEXT],
    "web url": [*_URLS, f"ftp://example.org/{CANARY}", f"s3://bucket/{CANARY}", f"https:///{CANARY}", "https://"],
    "any uri": _URLS,
    "integer": [-1, 2**63, 2**70, 10**400, True, False, "5", "", 1.0, 1.5, math.nan, math.inf, Decimal(1), None, [1], b"1"],
    "score": [
        math.nan,
        math.inf,
        -math.inf,
        -0.0001,
        1.0001,
        -1,
        2,
        2**70,
        10**400,
        True,
        False,
        "0.5",
        Decimal("0.5"),
        None,
        [0.5],
    ],
    "money": [
        "0.0000001",
        "4e-7",
        Decimal("4e-7"),
        "NaN",
        "sNaN",
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("-NaN"),
        "Infinity",
        Decimal("Infinity"),
        Decimal("-Infinity"),
        "1E+200000",
        Decimal("1E+200000"),
        "1e12",
        "100000000",
        "-100000000",
        "1e999999999",
        "1E-200000",
        0.1,
        1.0,
        5,
        True,
        "",
        " 1",
        "1 ",
        "1\n",
        "\uff11",
        "\u0661",
        "1_000",
        "1,5",
        "0x1",
        "--1",
        "+-1",
        "1.",
        ".5",
        "1" * 100,
        f"1.{'0' * 100}",
        CANARY,
        None,
        b"1",
        [1],
        "1.00000000000000000000000000000000000001",
    ],
    "time": [
        "2026-01-01T00:00:00",
        "2026-01-01",
        datetime(2026, 1, 1),  # noqa: DTZ001
        date(2026, 1, 1),
        time(1),
        5,
        1e9,
        0,
        True,
        "now",
        "0",
        CANARY,
        "",
        "1767225600",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T25:00:00Z",
        None,
        b"x",
        [],
        "infinity",
        "2026-01-01T00:00:00+99:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-01:00",
        "2026-01-01T00:00:00.1234567Z",
        datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
    "json object": [
        {CANARY: 1e23},
        {CANARY: -1e300},
        {CANARY: math.nan},
        {CANARY: math.inf},
        {CANARY: -math.inf},
        {CANARY: "\x00"},
        {"\x00": CANARY},
        {CANARY: "\ud800"},
        {"\udfff": CANARY},
        {CANARY: _DEEP},
        {CANARY: _DEEPER},
        {CANARY: 2**53 + 1},
        {CANARY: 10**400},
        {CANARY: -(10**400)},
        {CANARY: datetime(2026, 1, 1, tzinfo=UTC)},
        {CANARY: Decimal(1)},
        {CANARY: {1}},
        {CANARY: b"x"},
        {CANARY: UUID(int=1)},
        {CANARY: (1,)},
        {1: CANARY},
        {None: CANARY},
        {True: CANARY},
        {CANARY: object()},
        {CANARY: [{"a": math.nan}]},
        {CANARY: 1j},
        {CANARY: "x" * 2**20},
        {CANARY: ["x" * 1000] * 2000},
        [CANARY],
        CANARY,
        5,
        f'{{"{CANARY}": 1}}',
        True,
        b"{}",
    ],
    "vector": [
        [],
        [0.5],
        [0.5] * (VECTOR_SIZE - 1),
        [0.5] * (VECTOR_SIZE + 1),
        [0.5] * 17000,
        [0.0] * VECTOR_SIZE,
        [1e-46] * VECTOR_SIZE,
        [1e-20] * VECTOR_SIZE,
        [math.nan] + [0.5] * 1535,
        [math.inf] + [0.5] * 1535,
        [1e39] + [0.5] * 1535,
        ["0.5"] * VECTOR_SIZE,
        [[0.5]] * VECTOR_SIZE,
        [None] + [0.5] * 1535,
        [True] * VECTOR_SIZE,
        [Decimal(1)] * VECTOR_SIZE,
        [10**400] + [0.5] * 1535,
        CANARY,
        b"x" * VECTOR_SIZE,
        {CANARY: 1},
        set(range(VECTOR_SIZE)),
        5,
        0.5,
        np.zeros(VECTOR_SIZE),
        np.ones((2, VECTOR_SIZE)),
        np.float32(1),
        np.array(["x"] * VECTOR_SIZE),
        iter([0.5] * VECTOR_SIZE),
    ],
    "window": [timedelta(0), timedelta(-1), 5, 1.5, "1 day", "P1D", True, None, CANARY, timedelta.max],
}


def bad_of(kind: Kind) -> Iterator[Any]:
    """Yield values that a field of this kind refuses."""
    if not kind.is_optional:
        yield None
    if kind.name == "shape":
        yield from (CANARY, 5, True, [CANARY], b"{}", {CANARY: 1})
        yield from bad_mappings(kind.of[0], good_of(kind))
    elif kind.name == "list":
        yield from (CANARY, 5, True, {CANARY: 1}, b"x")
        good = example_of(kind.of[0])
        yield from ([good, bad] for bad in bad_of(kind.of[0]) if not _is_deep(bad))
        if "min_length" in kind.bounds:
            yield []
        if "max_length" in kind.bounds:
            yield [good] * (kind.bounds["max_length"] + 1)
    elif kind.name == "dict":
        yield from (CANARY, 5, True, [CANARY], [(CANARY, 1)], b"{}")
        key, value = kind.of
        yield from ({bad: example_of(value)} for bad in bad_of(key) if bad.__hash__ is not None)
        yield from ({example_of(key): bad} for bad in bad_of(value))
    else:
        yield from (value for value in BAD[kind.name] if value is not None)
        yield from _at_the_bounds(kind)


def _at_the_bounds(kind: Kind) -> Iterator[Any]:
    if kind.name == "text":
        yield "x" * (kind.bounds["max_length"] + 1)
        yield CANARY * 1_000_000
        yield "\U0001f600" * (kind.bounds["max_length"] + 1)
    if kind.name == "integer":
        yield kind.bounds["le"] + 1
        yield kind.bounds["ge"] - 1
    if kind.name == "cost":
        yield from ("-1", "-0.000001", Decimal(-1), "-0", Decimal("-0"))
    if kind.name == "enum":
        yield from (member.value.lower() for member in kind.of[0])
        yield f" {next(iter(kind.of[0])).value}"


BAD["cost"] = BAD["money"]


def _is_deep(value: object) -> bool:
    return isinstance(value, list) and value is not None and value in (_DEEP, _DEEPER)


def bad_mappings(model: type[BaseModel], good: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield mappings that differ from a good one in one field that is refused, missing or unknown."""
    for name, kind in fields_of(model).items():
        for bad in bad_of(kind):
            yield {**good, name: bad}
        if model.model_fields[name].is_required():
            yield {key: value for key, value in good.items() if key != name}
    yield {**good, CANARY: 1}
