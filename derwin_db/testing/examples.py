"""Valid inputs, built from the models themselves: `example(QATicketCreate, marker="acme", title="Totals drift")`.

Every field is filled, optional ones too, but for ids: what they refer to has to be there. Texts carry the marker, so that a
text that turns up where it should not tells whose it is. A new field needs an entry here only if its name says more than its
type (a URI, a digest); one that can't be built is a TypeError that names it.
"""

import hashlib
import random
import types
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin
from uuid import UUID

from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo

from derwin_db.fields.scalars import AnyUri, Classification, Sha256, WebUrl
from derwin_db.fields.vector import VECTOR_SIZE

M = TypeVar("M", bound=BaseModel)

MOMENT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def embedding(seed: str) -> list[float]:
    """Return 1,536 numbers that belong to this text, and to no other."""
    source = random.Random(seed)  # noqa: S311  # test data
    return [source.gauss(0, 1) for _ in range(VECTOR_SIZE)]


def word(text: str) -> str:
    """Return the text as a classification: a-z, 0-9 and underscore, up to 64."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in text.lower())[:64]


def _slug(text: str) -> str:
    """Return the text as the slug of a project: a-z, 0-9 and single hyphens inside, up to 63."""
    return "-".join(filter(None, word(text)[:63].split("_"))) or "example"


_BY_NAME: dict[str, Callable[[str], Any]] = {
    "slug": _slug,
    "classification": lambda marker: word(f"{marker}_ui_bug"),
    "content_hash": lambda marker: hashlib.sha256(marker.encode()).hexdigest(),
    "storage_uri": lambda marker: f"s3://evidence/{word(marker)}",
    "source_uri": lambda marker: f"https://docs.example.org/{word(marker)}",
    "target_url": lambda marker: f"https://{word(marker).replace('_', '-')}.example.org/",
    "repo_url": lambda marker: f"https://git.example.org/{word(marker)}",
    "pr_url": lambda marker: f"https://git.example.org/{word(marker)}/pull/1",
    "fingerprint": lambda marker: f"fingerprint of {marker}"[:128],
    "idempotency_key": lambda marker: f"key of {marker}",
    "embedding": embedding,
    "mime_type": lambda _: "text/plain",
}

_BY_ALIAS: tuple[tuple[Any, Callable[[str], Any]], ...] = (
    (WebUrl, lambda marker: f"https://example.org/{word(marker)}"),
    (AnyUri, lambda marker: f"s3://example/{word(marker)}"),
    (Sha256, _BY_NAME["content_hash"]),
    (Classification, _BY_NAME["classification"]),
)
"""For columns of a service, whose names tell nothing."""

_BY_TYPE: dict[type, Callable[[str], Any]] = {
    bool: lambda _: True,
    int: lambda _: 1,
    float: lambda _: 0.5,
    Decimal: lambda _: Decimal("1.5"),
    bytes: lambda marker: marker.encode(),
    datetime: lambda _: MOMENT,
    date: lambda _: MOMENT.date(),
    time: lambda _: MOMENT.time(),
    timedelta: lambda _: timedelta(days=1),
}


def example(model: type[M], *, marker: str = "example", **given: Any) -> M:
    """Return a valid instance of an input or a JSON shape; `given` fields are taken as they are.

    Errors:
        TypeError for a field of a kind that is not known here; Pydantic's ValidationError for what does not fit.
    """
    values = {name: _value_of(name, field, marker) for name, field in model.model_fields.items() if name not in given}
    return model(**{name: value for name, value in values.items() if value is not None}, **given)


def _value_of(name: str, field: FieldInfo, marker: str) -> Any:
    """Return a valid value of a field: by its name, where that is known, by its alias, or by its type."""
    if name not in _BY_NAME:
        rules = _rules(field.annotation, field.metadata)
        for alias, make in _BY_ALIAS:
            if any(rule in rules for rule in get_args(alias)[1:] if isinstance(rule, AfterValidator)):
                return make(marker)
    return value_of(name, field.annotation, marker)


def _rules(kind: Any, found: list[Any]) -> list[Any]:
    """Return what an annotation says of its type, beside None too."""
    if get_origin(kind) is Annotated:
        return _rules(get_args(kind)[0], [*found, *get_args(kind)[1:]])
    if get_origin(kind) in (Union, types.UnionType):
        return [*found, *(rule for part in get_args(kind) for rule in _rules(part, []))]
    return found


def value_of(name: str, kind: Any, marker: str) -> Any:
    """Return a valid value of a field with this name and type; None for ids, which refer to something."""
    kind = _plain(kind)
    if name in _BY_NAME:
        return _BY_NAME[name](marker)
    if kind is UUID:
        return None
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return arguments[0]
    if origin is list:
        return [value_of(name, arguments[0], marker)]
    if origin is dict:
        key = _plain(arguments[0])
        return {word(f"{marker}_{name}") if key is str else value_of("", key, marker): value_of("value", arguments[1], marker)}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return example(kind, marker=marker)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    if kind in (str, Any):
        return f"{marker} {name}".strip()
    if kind in _BY_TYPE:
        return _BY_TYPE[kind](marker)
    raise TypeError(f"{name}: derwin_db.testing.examples does not know how to make a {kind!r}")


def _plain(kind: Any) -> Any:
    """Return the type itself: without its annotations, and without None."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif get_origin(kind) in (Union, types.UnionType):
            kind = next(option for option in get_args(kind) if option is not type(None))
        else:
            return kind
