"""Embeddings: 1,536 numbers, kept as 32-bit floats."""

import math
import struct
from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from derwin_db.fields.scalars import refuse

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


Embedding = Annotated[list[float], BeforeValidator(_embedding)]
"""1,536 finite numbers that are not all zero, kept as 32-bit floats (so that what is read equals what was accepted)."""
