"""What a field of each kind takes: one example, and a Hypothesis strategy of random values."""

import string
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from pydantic import BaseModel

from derwin_db.fields.scalars import is_slug
from derwin_db.fields.table import Input, JsonModel
from derwin_db.fields.vector import VECTOR_SIZE
from tests.contract.kinds import Kind, fields_of

_CHARACTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
_PATH = st.text(string.ascii_letters + string.digits + "-._~/?#=&%", max_size=60).map(lambda text: text.replace("%", "%25"))
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(-(2.0**53), 2.0**53)
    | st.text(_CHARACTERS, max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(_CHARACTERS, max_size=10), inner, max_size=4),
    max_leaves=12,
)
_FLOAT32 = st.floats(-1e3, 1e3, width=32)
MONEY = st.decimals("-99999999.999999", "99999999.999999", places=6, allow_nan=False)
_ZONES = st.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(
    lambda gap: timezone(timedelta(minutes=gap // timedelta(minutes=1)))
)


def good_values(kind: Kind) -> st.SearchStrategy[Any]:
    """Return a strategy of values that a field of this kind takes."""
    found = _GOOD[kind.name](kind)
    return st.none() | found if kind.is_optional else found


def _moments() -> st.SearchStrategy[datetime]:
    inside = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=_ZONES)  # noqa: DTZ001
    return inside | st.sampled_from([datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, 23, 59, 59, 999999, tzinfo=UTC)])


_GOOD: dict[str, Any] = {
    "uuid": lambda _: st.uuids(allow_nil=False) | st.uuids(allow_nil=False).map(str),
    "slug": lambda _: st.from_regex(r"[a-z0-9]{1,20}(-[a-z0-9]{1,20})?", fullmatch=True).filter(is_slug),
    "enum": lambda kind: st.sampled_from(kind.of[0]) | st.sampled_from([member.value for member in kind.of[0]]),
    "literal": lambda kind: st.sampled_from(kind.of),
    "text": lambda kind: st.text(_CHARACTERS, min_size=1, max_size=min(kind.bounds["max_length"], 60)),
    "long text": lambda _: st.text(_CHARACTERS, max_size=200),
    "classification": lambda _: st.text(string.ascii_lowercase + string.digits + "_", min_size=1, max_size=64),
    "sha256": lambda _: st.text("0123456789abcdef", min_size=64, max_size=64),
    "web url": lambda _: st.builds("http{}://{}.example/{}".format, st.sampled_from(["", "s"]), st.sampled_from("abc"), _PATH),
    "any uri": lambda _: st.builds("{}://bucket/{}".format, st.sampled_from(["s3", "gs", "https", "upload"]), _PATH),
    "integer": lambda kind: st.integers(kind.bounds["ge"], kind.bounds["le"]),
    "score": lambda _: st.floats(0, 1) | st.sampled_from([0, 1]),
    "money": lambda _: MONEY | MONEY.map(str),
    "cost": lambda _: MONEY.map(abs),
    "time": lambda _: _moments() | _moments().map(datetime.isoformat),
    "json object": lambda _: st.dictionaries(st.text(_CHARACTERS, max_size=10), _JSON, max_size=4),
    "vector": lambda _: st.lists(_FLOAT32, min_size=1, max_size=6).map(
        lambda some: [*some, 0.5, *([0.0] * (1535 - len(some)))]
    ),
    "window": lambda _: st.timedeltas(timedelta(microseconds=1), timedelta(days=3650)),
    "list": lambda kind: st.lists(
        good_values(kind.of[0]), min_size=kind.bounds.get("min_length", 0), max_size=min(kind.bounds.get("max_length", 4), 4)
    ),
    "dict": lambda kind: st.dictionaries(good_values(kind.of[0]), good_values(kind.of[1]), max_size=4),
    "shape": lambda kind: mappings(kind.of[0]),
}


def mappings(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy of mappings that a model takes: all that is required, and some of the rest."""
    kinds = fields_of(model)
    required = {name: good_values(kind) for name, kind in kinds.items() if model.model_fields[name].is_required()}
    optional = {name: good_values(kind) for name, kind in kinds.items() if name not in required}
    return st.fixed_dictionaries(required, optional=optional)


EXAMPLES: dict[str, Any] = {
    "uuid": UUID("01234567-89ab-7def-8123-456789abcdef"),
    "slug": "acme",
    "text": "text",
    "long text": "long text",
    "classification": "ui_bug",
    "sha256": "a" * 64,
    "web url": "https://example.org/x",
    "any uri": "s3://bucket/x",
    "integer": 1,
    "score": 0.5,
    "money": Decimal("1.5"),
    "cost": Decimal("1.5"),
    "time": datetime(2026, 1, 1, tzinfo=UTC),
    "json object": {"a": [1]},
    "vector": [0.5] * VECTOR_SIZE,
    "window": timedelta(days=1),
}


def example_of(kind: Kind) -> Any:
    """Return one value that a field of this kind takes."""
    if kind.name in {"enum", "literal"}:
        return next(iter(kind.of[0])) if kind.name == "enum" else kind.of[0]
    if kind.name == "shape":
        return good_of(kind)
    if kind.name == "list":
        return [example_of(kind.of[0])]
    if kind.name == "dict":
        return {example_of(kind.of[0]): example_of(kind.of[1])}
    return EXAMPLES[kind.name]


def good_of(kind: Kind) -> dict[str, Any]:
    """Return a mapping that a shape takes."""
    shape: type[JsonModel] = kind.of[0]
    return {name: example_of(inner) for name, inner in fields_of(shape).items()}


def good_input(model: type[Input]) -> dict[str, Any]:
    """Return a mapping that an input takes, with all its fields."""
    return {name: example_of(kind) for name, kind in fields_of(model).items()}
