"""What each field of each input is, found out from the models' own metadata.

A field has a *kind*: what its annotation, its bounds and its validators say together. `bad_values` has what each kind
refuses, `good_values` what it takes. A field of a new kind makes the tests fail until the kind is known.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import AfterValidator, BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from derwin_db import models
from derwin_db.fields import json, money, scalars, vector
from derwin_db.fields.table import Input

CANARY = "canary-7f3a9c"
"""Stands in the values that are refused: whoever repeats a value repeats it."""

INPUTS: list[type[Input]] = [
    kind for _, kind in sorted(vars(models).items()) if inspect.isclass(kind) and issubclass(kind, Input) and kind is not Input
]


@dataclass(frozen=True)
class Kind:
    """What a field is: the name of its rule, what it may be made of, and its bounds."""

    name: str
    of: tuple[Any, ...] = ()
    bounds: dict[str, int] = field(default_factory=dict, hash=False)
    is_optional: bool = False


_BY_VALIDATOR: dict[Any, str] = {
    scalars._uuid: "uuid",
    scalars._slug: "slug",
    scalars._long: "long text",
    scalars._web_url: "web url",
    scalars._any_uri: "any uri",
    scalars._integer: "integer",
    scalars._number: "score",
    money._decimal: "money",
    scalars._timestamp: "time",
    json._json_object: "json object",
    vector._embedding: "vector",
    scalars._window: "window",
}
_BY_ALIAS = {"sha256": scalars.Sha256, "classification": scalars.Classification}


def kind_of(annotation: Any, metadata: tuple[Any, ...] = ()) -> Kind:
    """Return the kind of an annotation with this metadata. A new one is an AssertionError."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return kind_of(inner, (*_flat(more), *metadata))
    if get_origin(annotation) in {Union, UnionType}:
        (inner,) = [part for part in get_args(annotation) if part is not type(None)]
        found = kind_of(inner, metadata)
        return Kind(found.name, found.of, found.bounds, is_optional=True)
    bounds = _bounds(metadata)
    validators = [part.func for part in metadata if isinstance(part, BeforeValidator | AfterValidator)]
    for validator in validators:
        if validator in _BY_VALIDATOR:
            name = "cost" if money._not_negative in validators else _BY_VALIDATOR[validator]
            return Kind(name, (), bounds)
        for name, alias in _BY_ALIAS.items():
            if validator in [getattr(part, "func", None) for part in get_args(alias)[1:]]:
                return Kind(name)
    return _plain_kind(annotation, validators, bounds)


def _plain_kind(annotation: Any, validators: list[Any], bounds: dict[str, int]) -> Kind:
    if annotation is str and scalars.check_text in validators and "max_length" in bounds:
        return Kind("text", (), bounds)
    if inspect.isclass(annotation) and issubclass(annotation, StrEnum):
        return Kind("enum", (annotation,))
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return Kind("shape", (annotation,))
    if get_origin(annotation) is Literal:
        return Kind("literal", get_args(annotation))
    if get_origin(annotation) is list:
        return Kind("list", (kind_of(get_args(annotation)[0]),), bounds)
    if get_origin(annotation) is dict:
        return Kind("dict", tuple(kind_of(part) for part in get_args(annotation)), bounds)
    raise AssertionError(f"no kind is known for {annotation} with {validators}: add it with its bad input")


def _flat(metadata: list[Any]) -> Iterator[Any]:
    for part in metadata:
        yield part
        if isinstance(part, FieldInfo):
            yield from part.metadata


def _bounds(metadata: tuple[Any, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in metadata:
        for kind, name in (
            (annotated_types.MinLen, "min_length"),
            (annotated_types.MaxLen, "max_length"),
            (annotated_types.Ge, "ge"),
            (annotated_types.Le, "le"),
        ):
            if isinstance(part, kind):
                found[name] = getattr(part, name)
    return found


def fields_of(model: type[BaseModel]) -> dict[str, Kind]:
    """Return the kind of each field of a model."""
    return {name: kind_of(info.annotation, tuple(_flat(info.metadata))) for name, info in model.model_fields.items()}
