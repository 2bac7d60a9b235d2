"""Embeddings: 1,536 numbers, kept as 32-bit floats in a column of pgvector's type."""

import math
import struct
from collections.abc import Sequence
from typing import Annotated, Any

import sqlalchemy as sa
from pgvector import Vector as VectorValue
from pgvector.sqlalchemy import VECTOR
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from sqlalchemy.dialects.postgresql import ARRAY, REAL
from sqlalchemy.engine import Dialect

from derwin_db.fields.scalars import described, refuse

VECTOR_SIZE = 1536
"""Dimensions of a stored embedding."""


_VECTOR = struct.Struct(f"<{VECTOR_SIZE}f")


def _embedding(value: object) -> list[float]:
    to_list = getattr(value, "tolist", None)  # NumPy arrays and array.array, without importing either
    items = to_list() if callable(to_list) else value
    if isinstance(items, str | bytes) or not isinstance(items, Sequence):
        raise refuse("vector", "An embedding is a sequence of numbers")
    if len(items) != VECTOR_SIZE:
        raise PydanticCustomError(
            "vector", "An embedding has {wanted} dimensions, not {given}", {"wanted": VECTOR_SIZE, "given": len(items)}
        )
    if not {*map(type, items)} <= {float, int}:
        raise refuse("vector", "An embedding holds numbers only")
    try:
        stored = _VECTOR.unpack(_VECTOR.pack(*items))
    except (OverflowError, struct.error):
        raise refuse("vector", "An embedding's numbers fit in 32-bit floats") from None
    norm = math.hypot(*stored)
    if not math.isfinite(norm):
        raise refuse("vector", "An embedding's numbers are finite")
    if norm <= 1e-12:
        raise refuse("vector", "An embedding is not the zero vector: it has no direction to compare")
    return list(stored)


Embedding = Annotated[
    list[float],
    BeforeValidator(_embedding),
    described(
        "The embedding: 1,536 finite numbers, not all zero.",
        type="array",
        items={"type": "number"},
        minItems=VECTOR_SIZE,
        maxItems=VECTOR_SIZE,
    ),
]
"""1,536 finite numbers that are not all zero, kept as 32-bit floats (so that what is read equals what was accepted)."""


class _Numbers(sa.TypeDecorator[Any]):
    """What is sent for a vector: `real[]`, of a list, a NumPy array or a `pgvector.Vector`."""

    impl: Any = ARRAY(REAL, dimensions=1)
    cache_ok: bool | None = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002  # SQLAlchemy's signature
        if value is None or type(value) is list:
            return value
        return value.to_list() if isinstance(value, VectorValue) else list(value)


class Vector(VECTOR):
    """pgvector's `vector`, with its comparators, sent and received as `real[]`: no codec to register, so it passes any pooler.

    Its comparators (`cosine_distance`, `l2_distance`, `max_inner_product`, `l1_distance`) take a list, a NumPy array, a
    `pgvector.Vector` or another column.
    """

    cache_ok: bool = True

    def __init__(self, dim: int = VECTOR_SIZE) -> None:
        super().__init__(int(dim))

    def bind_expression(self, bindvalue: sa.BindParameter[Any]) -> sa.ColumnElement[Any]:
        return sa.cast(sa.type_coerce(bindvalue, _Numbers()), self)

    def column_expression(self, colexpr: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.cast(colexpr, ARRAY(REAL))

    def bind_processor(self, dialect: Dialect) -> None:
        """Leave the value as it is: `_Numbers` is what is bound."""

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Return what reads the server's text, as SQL that somebody wrote by hand selects it; `real[]` is a list already."""
        from_text = super().result_processor(dialect, coltype)

        def process(value: Any) -> Any:
            return from_text(value) if isinstance(value, str) else value

        return process
