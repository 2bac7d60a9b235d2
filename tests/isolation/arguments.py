"""How a valid argument is built for a parameter, and how it is turned into an attack: by the parameter's name and annotation.

A method that gains a parameter which nothing here can build fails the matrix: say here what it is, and whether it can name
something of another project.
"""

import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel

from derwin_db import paging
from derwin_db.fields.table import Input
from derwin_db.filters import not_
from derwin_db.models import SpendCap
from derwin_db.query.builders import table_of
from derwin_db.repos.conditions import FilterType, column_of
from derwin_db.testing.examples import example, value_of
from derwin_db.testing.filling import Filled, models_by_table

Value = Callable[[Filled, Filled], Any]
"""Builds an argument for a call in the first project, with what it takes from the second."""

NATURAL_KEYS = ("slug", "classification", "fingerprint", "content_hash", "idempotency_key")
"""Texts by which rows are found: B's may be used in A, and must not find B's row."""

CALLED_OTHERWISE = {"by": "id", "of": "id", "name": "classification", "names": "classification", "worker": "claimed_by"}
"""Parameters that stand for a column of another name."""

PLAIN_IDS = {"prompt_artifact_id": "audit_artifacts", "superseded_by": "ingested_docs"}
"""Columns that name a row without a foreign key, and which table they mean."""

SMALL_NUMBERS = ("version", "expected_version", "to_version")


@dataclass(frozen=True)
class Argument:
    """One way to fill a parameter: valid in the caller's own project, and the ways to attack with it."""

    own: Value
    attacks: Mapping[str, Value] = field(default_factory=dict)


class Recorder:
    """Stands for a callback: keeps what it was called with."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, row: Any) -> None:
        self.seen.append(row)


def targets() -> dict[str, str]:
    """Return the columns that name a row of another table, and which, by the foreign keys of all models."""
    found = dict(PLAIN_IDS)
    for model in models_by_table().values():
        for key in table_of(model).foreign_key_constraints:
            for element in key.elements:
                if element.column.name == "id" and element.parent.name != "project_id":
                    found[element.parent.name] = key.referred_table.name
    return found


def candidates(table: str, name: str, kind: Any) -> list[Argument]:
    """Return the arguments that may do for a parameter of a method of this repository. TypeError for one that is not known."""
    kind = _plain(kind)
    column = CALLED_OTHERWISE.get(name, name)
    iterated = _plain(get_args(kind)[0]) if get_origin(kind) in (Iterable, list) or _is_iterable(kind) else None
    if iterated is UUID:
        return [_ids(targets().get(name.removesuffix("s"), table))]
    if iterated is not None and isinstance(iterated, type) and issubclass(iterated, Input):
        return [_inputs(table, iterated)]
    if column in NATURAL_KEYS or column == "claimed_by":
        return _natural_keys(table, column, is_many=iterated is str)
    if kind is UUID:
        target = table if column == "id" else targets()[name]
        return [_id(target, index, "plain id of B" if name in PLAIN_IDS else "id of B") for index in range(12)]
    if isinstance(kind, type) and issubclass(kind, Input):
        return [_input(table, kind)]
    if name == "embedding":
        return [Argument(_embedding, {"embedding of B": lambda _, other: _embedding(other, other)})]
    if name == "text":
        return [Argument(lambda own, _: _text(own, table), {"text of B": lambda _, other: _text(other, table)})]
    if name == "delete_blob":
        return [Argument(lambda own, other: Recorder(), {"recording": lambda own, other: Recorder()})]
    return [_constant(value) for value in _values(name, kind)]


def _values(name: str, kind: Any) -> list[Any]:
    if name in SMALL_NUMBERS:
        return [1, 2, 3, 4, 5]
    if kind is timedelta:
        return [timedelta(microseconds=1)]
    if kind is SpendCap:
        return [SpendCap(Decimal(10_000), timedelta(days=30))]
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return list(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [example(kind, marker="own")]
    return [value_of(name, kind, "own")]


def filters(table: str, kinds: Mapping[str, Any]) -> dict[str, dict[str, Value]]:
    """Return for each filter of `list` and its like the values that a row of the other project has there."""
    known = targets()

    def of_row(filled: Filled, name: str, kind: FilterType) -> Any:
        column = column_of(table_of(models_by_table()[table]), name).name
        held = [value for row in filled.rows[table] if (value := getattr(row, column)) is not None]
        if held:
            return held[-1]
        return filled.ids(known[name])[0] if name in known else value_of(name, kind.value, filled.marker)

    def forms(name: str, kind: FilterType) -> dict[str, Value]:
        one: Value = lambda _, other: of_row(other, name, kind)  # noqa: E731  # one of several alike
        found = {f"{name} of B": one}
        if kind.takes_many:
            found[f"{name} of both"] = lambda own, other: [of_row(own, name, kind), of_row(other, name, kind)]
            found[f"not {name} of A"] = lambda own, _: not_(of_row(own, name, kind))
        return found

    return {name: forms(name, FilterType(hint)) for name, hint in kinds.items()}


def cursors(table: str) -> dict[str, Value]:
    """Return B's own cursor of the plain list, and one that points to B's row but claims to be A's."""

    def minted(own: Filled, other: Filled) -> str:
        row = other.rows[table][0]
        return paging.encode_cursor(paging.query_digest(own.project_id, table, []), row.created_at, row.id)

    return {"cursor of B": lambda _, other: minted(other, other), "cursor forged for A": minted}


def _constant(value: Any) -> Argument:
    return Argument(lambda _own, _other: value)


def _row(filled: Filled, table: str, index: int) -> Any:
    rows = filled.rows[table]
    return rows[index % len(rows)]


def _id(table: str, index: int, label: str) -> Argument:
    return Argument(lambda own, _: _row(own, table, index).id, {label: lambda _, other: _row(other, table, index).id})


def _ids(table: str) -> Argument:
    def some(filled: Filled, count: int) -> list[UUID]:
        return filled.ids(table)[:count]

    return Argument(
        lambda own, _: some(own, 2),
        {
            "ids of B": lambda _, other: some(other, 2),
            "ids of both": lambda own, other: [*some(own, 2), *some(other, 1)],
            "one id of each": lambda own, other: [*some(other, 1), *some(own, 1)],
        },
    )


def _natural_keys(table: str, column: str, *, is_many: bool) -> list[Argument]:
    def held(filled: Filled, index: int) -> Any:
        values = [getattr(row, column) for row in filled.rows[_holder(table, column)] if getattr(row, column) is not None]
        return [values[index % len(values)]] if is_many else values[index % len(values)]

    return [
        Argument(
            lambda own, _, index=index: held(own, index), {f"{column} of B": lambda _, other, index=index: held(other, index)}
        )
        for index in range(3)
    ]


def _holder(table: str, column: str) -> str:
    """Return the table that holds the natural key: this one, or the first that has such a column."""
    tables = models_by_table()
    return table if column in table_of(tables[table]).c else next(name for name in tables if column in table_of(tables[name]).c)


def _embedding(filled: Filled, _: Filled) -> Any:
    return next(row.embedding for row in filled.rows["rag_corpus"] if row.embedding is not None)


def _text(filled: Filled, table: str) -> str:
    row = filled.rows[table][0]
    return str(getattr(row, "problem", None) or row.title)


def _references(model: type[BaseModel]) -> dict[str, str]:
    known = targets()
    return {
        name: known[name] for name, field in model.model_fields.items() if name in known and _plain(field.annotation) is UUID
    }


def _build(model: type[Input], filled: Filled, *, word: str = "new", **given: Any) -> Any:
    refers = {name: filled.ids(table)[0] for name, table in _references(model).items()}
    return example(model, marker=f"{filled.marker} {word}", **{**refers, **given})


def _input(table: str, model: type[Input]) -> Argument:
    """An input, and: each reference of it to a row of B, B's natural keys, B's own input, B's row, smuggled columns."""
    attacks: dict[str, Value] = {}
    for name, target in _references(model).items():
        attacks[f"{name} of B"] = lambda own, other, name=name, target=target: _build(
            model, own, **{name: other.ids(target)[0]}
        )
    held = [name for name in NATURAL_KEYS if name in model.model_fields]
    if held:
        attacks["natural keys of B"] = lambda own, other: _build(
            model, own, **{name: getattr(_row(other, table, 0), name) for name in held}
        )
    attacks["input of B"] = lambda _, other: _build(model, other)
    attacks["row of B"] = lambda _, other: _row(other, table, 0)
    attacks["smuggled columns of B"] = lambda own, other: _smuggled(_build(model, own), _row(other, table, 0))
    return Argument(lambda own, _: _build(model, own), attacks)


def _inputs(table: str, model: type[Input]) -> Argument:
    """A batch, and each attack of a single input among rows that are A's own."""
    single = _input(table, model)

    def batch(own: Filled, last: Any) -> list[Any]:
        return [_build(model, own, word="first"), last, _build(model, own, word="third")]

    return Argument(
        lambda own, other: batch(own, single.own(own, other)),
        {label: lambda own, other, attack=attack: batch(own, attack(own, other)) for label, attack in single.attacks.items()},
    )


def _smuggled(data: Any, row: Any) -> Any:
    """Put columns that are the repository's alone into a valid input, past its validation."""
    more = {name: value for name, value in row.__dict__.items() if name not in type(data).model_fields and name[0] != "_"}
    more["id"] = row.id
    data.__dict__.update(more)
    data.__pydantic_fields_set__.update(more)
    return data


def _plain(kind: Any) -> Any:
    while get_origin(kind) in (Union, types.UnionType) or hasattr(kind, "__metadata__"):
        kind = get_args(kind)[0] if hasattr(kind, "__metadata__") else next(a for a in get_args(kind) if a is not type(None))
    return kind


def _is_iterable(kind: Any) -> bool:
    origin = get_origin(kind)
    return isinstance(origin, type) and issubclass(origin, Iterable) and origin is not dict and not issubclass(origin, Mapping)


__all__ = ["Argument", "Recorder", "Value", "candidates", "cursors", "filters", "targets"]
