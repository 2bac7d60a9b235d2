"""rag_corpus: past fixes, and the search among them by similarity."""

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import cache, cached_property
from itertools import islice
from typing import Any, Unpack
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.dialects.postgresql import ARRAY, REAL

from derwin_db.errors import InvalidInput, NotFound
from derwin_db.guard import PROJECT
from derwin_db.models.rag_corpus import Match, RAGCorpus, RAGCorpusCreate, RAGCorpusUpdate
from derwin_db.paging import Page, check_limit
from derwin_db.repository import (
    TimeFilters,
    WritableRepository,
    check_id,
    checked,
    iterated,
    param,
    scoped,
    scoped_update,
    table_of,
)
from derwin_db.session import ProjectSession, project_session
from derwin_db.statement import Statement, command, entities, hydrator
from derwin_db.types import Classification, Embedding, new_id

_CORPUS = table_of(RAGCorpus)
_WITHOUT_EMBEDDING = tuple(column for column in _CORPUS.c if column.name != "embedding")
_BATCH = 500

SEARCH_SETTINGS = (
    "SET LOCAL plan_cache_mode = force_custom_plan; "
    "SET LOCAL hnsw.iterative_scan = strict_order; "
    "SET LOCAL hnsw.ef_search = 100"
)
"""A generic plan no longer uses the vector index; a scan that ends early returns too few rows of a small project."""

_EMBEDDING: TypeAdapter[Any] = TypeAdapter(Embedding)
_NAME: TypeAdapter[str] = TypeAdapter(Classification)


class RAGCorpusFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""

    classification: Classification | None


class _WithEmbedding(WritableRepository[RAGCorpus]):
    """Reads that bring the 1,536 numbers along."""

    model = RAGCorpus
    filters = RAGCorpusFilters


class RAGCorpora(WritableRepository[RAGCorpus]):
    """Past fixes. They are read without their embeddings unless `with_embedding=True`."""

    model = RAGCorpus
    create_model = RAGCorpusCreate
    update_model = RAGCorpusUpdate
    filters = RAGCorpusFilters

    def __init__(self) -> None:
        self._whole = _WithEmbedding()

    @cached_property
    def columns(self) -> Sequence[sa.ColumnElement[Any]]:
        """All but the embedding."""
        return _WITHOUT_EMBEDDING

    async def get(self, session: ProjectSession, id: UUID, *, with_embedding: bool = False) -> RAGCorpus:
        """Return the entry. Errors: NotFound. Cost: one statement, primary key."""
        row = await self.find(session, id, with_embedding=with_embedding)
        if row is None:
            raise NotFound
        return row

    async def find(self, session: ProjectSession, id: UUID, *, with_embedding: bool = False) -> RAGCorpus | None:
        """Return the entry, or None. Cost: one statement, primary key."""
        return await (self._whole.find(session, id) if with_embedding else super().find(session, id))

    async def list(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        with_embedding: bool = False,
        **filters: Unpack[RAGCorpusFilters],
    ) -> Page[RAGCorpus]:
        """Return a page of entries. Order: newest first."""
        reads = self._whole if with_embedding else self
        return await reads._page(session, limit, cursor, filters)

    def stream(
        self, session: ProjectSession, *, with_embedding: bool = False, **filters: Unpack[RAGCorpusFilters]
    ) -> AsyncIterator[RAGCorpus]:
        """Iterate over all entries. Order: newest first."""
        reads = self._whole if with_embedding else self
        return reads._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Unpack[RAGCorpusFilters]) -> int:
        """Count entries."""
        return await self._count(session, filters)

    async def add(self, session: ProjectSession, data: RAGCorpusCreate) -> RAGCorpus:
        """Remember a fix. Returns the entry without its embedding. Cost: one statement."""
        return await self._insert(session, data)

    async def add_many(self, session: ProjectSession, rows: Iterable[RAGCorpusCreate]) -> int:
        """Remember many fixes, 500 a batch, in constant memory. Returns how many."""
        session = project_session(session)
        source, total = iterated(rows, "rows"), 0
        while batch := list(islice(source, _BATCH)):
            await session.execute_many(_add_statement(), [{**self._create_values(row), "id": new_id()} for row in batch])
            total += len(batch)
        return total

    async def update(self, session: ProjectSession, id: UUID, data: RAGCorpusUpdate) -> RAGCorpus:
        """Change the fields that are set. Errors: NotFound."""
        return await self._update(session, id, data)

    async def delete(self, session: ProjectSession, id: UUID) -> None:
        """Forget a fix. Errors: NotFound."""
        await self._delete(session, id)

    async def search(
        self,
        session: ProjectSession,
        embedding: Sequence[float],
        *,
        limit: int = 5,
        classification: str | None = None,
        min_similarity: float | None = None,
    ) -> Sequence[Match]:
        """Return the entries that are most similar, always min(limit, entries that qualify).

        Shape: 1,536 numbers. Units: cosine similarity, -1..1. Order: most similar first. Entries come without embeddings,
        and those that have none are not found. Small projects are searched exactly, large ones through the HNSW index.
        Errors: InvalidInput. Cost: two round trips, the first for the settings that keep the plan.
        """
        session = project_session(session)
        values: dict[str, Any] = {"embedding": checked(_EMBEDDING, embedding, "embedding"), "limit": check_limit(limit)}
        if classification is not None:
            values["classification"] = checked(_NAME, classification, "classification")
        if min_similarity is not None:
            values["max_distance"] = 1 - _similarity(min_similarity)
        await session.set_for_unit(SEARCH_SETTINGS)
        statement = _search_statement(by_name=classification is not None, bounded=min_similarity is not None)
        return await session.fetch(statement, values)

    async def record_use(self, session: ProjectSession, id: UUID) -> RAGCorpus:
        """Note that the entry was shown to a model once more. Errors: NotFound. Cost: one statement."""
        rows = await project_session(session).fetch(_record_use_statement(), {"id": check_id(id)})
        if not rows:
            raise NotFound
        return rows[0]


def _similarity(value: object) -> float:
    if type(value) not in (int, float) or not -1 <= value <= 1:  # type: ignore[operator]  # the type is checked first
        raise InvalidInput("min_similarity: a number of -1 to 1.")
    return float(value)  # type: ignore[arg-type]


@cache
def _add_statement() -> Statement[None]:
    values = {name: param(name, _CORPUS.c[name]) for name in ("id", *RAGCorpusCreate.model_fields)}
    return command("rag_corpus.add_many", sa.insert(_CORPUS).values(project_id=PROJECT, **values))


@cache
def _record_use_statement() -> Statement[RAGCorpus]:
    query = scoped_update(RAGCorpus).where(_CORPUS.c.id == param("id", _CORPUS.c.id))
    query = query.values(use_count=_CORPUS.c.use_count + 1, last_used_at=sa.func.now())
    return entities("rag_corpus.record_use", query.returning(*_WITHOUT_EMBEDDING), RAGCorpus)


@cache
def _search_statement(*, by_name: bool, bounded: bool) -> Statement[Match]:
    wanted = sa.cast(sa.bindparam("embedding", type_=ARRAY(REAL)), _CORPUS.c.embedding.type)
    distance: sa.ColumnElement[float] = _CORPUS.c.embedding.op("<=>", return_type=sa.Double())(wanted)
    query = scoped(RAGCorpus, *_WITHOUT_EMBEDDING, distance.label("distance")).where(_CORPUS.c.embedding.is_not(None))
    if by_name:
        query = query.where(_CORPUS.c.classification == param("classification", _CORPUS.c.classification))
    if bounded:
        query = query.where(distance <= sa.bindparam("max_distance", type_=sa.Double()))
    query = query.order_by(distance).limit(sa.bindparam("limit", type_=sa.Integer()))
    entries = hydrator(RAGCorpus, _WITHOUT_EMBEDDING)

    def matches(records: Sequence[Sequence[Any]]) -> list[Match]:
        rows = entries([tuple(record)[:-1] for record in records])
        return [Match(row, 1 - record[-1]) for row, record in zip(rows, records, strict=True)]

    return Statement("rag_corpus.search", query, matches)
