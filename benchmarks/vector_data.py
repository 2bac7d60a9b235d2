"""Embeddings with the geometry of real ones: clusters, and few directions within each.

A point is a cluster's centre, moved along 24 directions of the cluster, with a little noise in all 1,536. Random vectors
without clusters are a bad case that embeddings do not look like.
"""

from collections.abc import AsyncIterator
from uuid import UUID

import numpy as np

from derwin_db.types import VECTOR_SIZE, new_id

_CLUSTERS = 200
_DIRECTIONS = 24
_SPREAD = 0.6
_NOISE = 0.1
_CHUNK = 1000


class VectorSource:
    """A stream of points, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._centres = self._unit(self._random.standard_normal((_CLUSTERS, VECTOR_SIZE), dtype=np.float32))
        shape = (_CLUSTERS, _DIRECTIONS, VECTOR_SIZE)
        self._directions = self._random.standard_normal(shape, dtype=np.float32) / np.sqrt(VECTOR_SIZE * _DIRECTIONS)

    def points(self, count: int) -> np.ndarray:
        """Return `count` points of length 1, of clusters drawn at random."""
        chosen = self._random.integers(0, _CLUSTERS, count)
        along = self._random.standard_normal((count, _DIRECTIONS), dtype=np.float32)
        noise = self._random.standard_normal((count, VECTOR_SIZE), dtype=np.float32) / np.sqrt(VECTOR_SIZE)
        moved = np.stack([along[row] @ self._directions[cluster] for row, cluster in enumerate(chosen)])
        return self._unit(self._centres[chosen] + _SPREAD * moved.astype(np.float32) + _NOISE * noise)

    @staticmethod
    def _unit(points: np.ndarray) -> np.ndarray:
        return points / np.linalg.norm(points, axis=1, keepdims=True)


_COLUMNS = ["project_id", "id", "classification", "problem", "fix_summary", "diff", "token_count", "embedding"]
_TEXTS = (b"ui_bug", b"The total differs from its lines. " * 6, b"Round at the end, once.", b"- round(line)\n+ line\n" * 20)


async def copy_vectors(connection: object, project_id: UUID, source: VectorSource, count: int) -> None:
    """COPY `count` entries with embeddings into a project, as the owner. Source: PostgreSQL's binary COPY, pgvector's send."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
        for start in range(0, count, _CHUNK):
            yield _rows(project_id, source.points(min(_CHUNK, count - start)))
        yield b"\xff\xff"

    await connection.copy_to_table(  # type: ignore[attr-defined]
        "rag_corpus", schema_name="public", source=chunks(), columns=_COLUMNS, format="binary"
    )


def _rows(project_id: UUID, points: np.ndarray) -> bytes:
    head = len(_COLUMNS).to_bytes(2, "big") + _field(project_id.bytes)
    texts = b"".join(_field(text) for text in _TEXTS) + _field((180).to_bytes(4, "big"))
    vectors = points.astype(">f4")
    size = VECTOR_SIZE.to_bytes(2, "big") + bytes(2)
    return b"".join(head + _field(new_id().bytes) + texts + _field(size + vector.tobytes()) for vector in vectors)


def _field(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
