"""rag_corpus: past fixes, and the search among them by similarity."""

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import cache, cached_property
from typing import Any, ClassVar, Unpack
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.dialects.postgresql import ARRAY, REAL, REGCLASS

from derwin_db.errors import InvalidInput, NotFound
from derwin_db.fields.scalars import Classification, new_id
from derwin_db.fields.vector import Embedding
from derwin_db.models.rag_corpus import Match, RAGCorpus, RAGCorpusCreate, RAGCorpusUpdate
from derwin_db.paging import Page, check_limit
from derwin_db.query.builders import param, scoped, scoped_update, table_of
from derwin_db.query.guard import PROJECT
from derwin_db.query.statement import Statement, command, entities, hydrator, scalars
from derwin_db.repos.base import Reads, TimeFilters, WritableRepository
from derwin_db.repos.validation import check_flag, check_id, checked, naming_rows
from derwin_db.session import ProjectSession, project_session

_CORPUS = table_of(RAGCorpus)
_WITHOUT_EMBEDDING = tuple(column for column in _CORPUS.c if column.name != "embedding")
_BATCH = 500

_SETTINGS = {
    "plan_cache_mode": "force_custom_plan",
    "enable_sort": "off",
    "hnsw.iterative_scan": "relaxed_order",
    "hnsw.ef_search": "200",
}
"""In force while the vector index is searched, and no longer.

A generic plan may leave the index, and so does the planner where it thinks a search this wide dearer than sorting; a
narrower one does not reach every cluster. A scan that ends early returns too few rows, a strict one drops what it meets out
of order. Source: each measured, docs/performance.md.
"""

SEARCH_SETTINGS = "; ".join(f"SET LOCAL {name} = {value}" for name, value in _SETTINGS.items())
_DEFAULTS = "; ".join(f"SET LOCAL {name} TO DEFAULT" for name in _SETTINGS)

EXACT_ROWS = 1000
"""Up to here, and to the square root of four times the limit times the rows of all projects, reading them all is faster."""

_EMBEDDING: TypeAdapter[Any] = TypeAdapter(Embedding)
_NAME: TypeAdapter[str] = TypeAdapter(Classification)


class RAGCorpusFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""

    classification: Classification | None


class _WithEmbedding(Reads[RAGCorpus]):
    """Reads that bring the 1,536 numbers along."""

    model = RAGCorpus
    filters = RAGCorpusFilters


class RAGCorpora(WritableRepository[RAGCorpus]):
    """Past fixes. They are read without their embeddings unless `with_embedding=True`."""

    model = RAGCorpus
    create_model: ClassVar[type[RAGCorpusCreate]] = RAGCorpusCreate
    update_model: ClassVar[type[RAGCorpusUpdate]] = RAGCorpusUpdate
    filters = RAGCorpusFilters

    def __init__(self) -> None:
        self._whole = _WithEmbedding()

    @cached_property
    def columns(self) -> Sequence[sa.ColumnElement[Any]]:
        """All but the embedding."""
        return _WITHOUT_EMBEDDING

    async def get(self, session: ProjectSession, id: UUID, *, with_embedding: bool = False) -> RAGCorpus:
        """Return the entry.

        Errors:
            NotFound.

        Cost:
            One statement, primary key.
        """
        row = await self.find(session, id, with_embedding=with_embedding)
        if row is None:
            raise NotFound
        return row

    async def find(self, session: ProjectSession, id: UUID, *, with_embedding: bool = False) -> RAGCorpus | None:
        """Return the entry, or None.

        Cost:
            One statement, primary key.
        """
        is_whole = check_flag(with_embedding, "with_embedding")
        return await (self._whole.find(session, id) if is_whole else super().find(session, id))

    async def list(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        with_embedding: bool = False,
        **filters: Unpack[RAGCorpusFilters],
    ) -> Page[RAGCorpus]:
        """Return a page of entries.

        Order:
            Newest first.
        """
        if check_flag(with_embedding, "with_embedding"):
            return await self._whole.list(session, limit, cursor, filters)
        return await self._page(session, limit, cursor, filters)

    def stream(
        self, session: ProjectSession, *, with_embedding: bool = False, **filters: Unpack[RAGCorpusFilters]
    ) -> AsyncIterator[RAGCorpus]:
        """Iterate over all entries.

        Order:
            Newest first.
        """
        if check_flag(with_embedding, "with_embedding"):
            return self._whole.stream(session, filters)
        return self._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Unpack[RAGCorpusFilters]) -> int:
        """Count entries."""
        return await self._count(session, filters)

    async def add(self, session: ProjectSession, data: RAGCorpusCreate) -> RAGCorpus:
        """Remember a fix. Returns the entry without its embedding.

        Cost:
            One statement.
        """
        return await self._insert(session, data)

    async def add_many(self, session: ProjectSession, rows: Iterable[RAGCorpusCreate]) -> int:
        """Remember many fixes, 500 a batch, in constant memory. Returns how many."""
        session = project_session(session)
        total = 0
        for batch in self._batches(rows, _BATCH):
            with naming_rows(batch, "rows", total):
                await session.execute_many(_add_statement(), [{**row.__dict__, "id": new_id()} for row in batch])
            total += len(batch)
        return total

    async def update(self, session: ProjectSession, id: UUID, data: RAGCorpusUpdate) -> RAGCorpus:
        """Change the fields that are set.

        Errors:
            NotFound.
        """
        return await self._update(session, id, data)

    async def delete(self, session: ProjectSession, id: UUID) -> None:
        """Forget a fix.

        Errors:
            NotFound.
        """
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

        JsonModel: 1,536 numbers.

        Units:
            Cosine similarity, -1..1.

        Order:
            Most similar first. Entries come without embeddings, and those that have none are not found. Small projects are
            searched exactly, large ones through the HNSW index.

        Errors:
            InvalidInput.

        Cost:
            Two statements, four where the index is searched.
        """
        session = project_session(session)
        values: dict[str, Any] = {
            "embedding": checked(_EMBEDDING, embedding, "embedding"),
            "limit": check_limit(limit),
            "exact_rows": EXACT_ROWS,
        }
        if classification is not None:
            values["classification"] = checked(_NAME, classification, "classification")
        if min_similarity is not None:
            values["max_distance"] = 1 - _similarity(min_similarity)
        shape = {"by_name": classification is not None, "bounded": min_similarity is not None}
        [is_large] = await session.fetch(_is_large_statement(by_name=shape["by_name"]), values)
        if not is_large:
            return await session.fetch(_exact_statement(**shape), values)
        await session.set_for_unit(SEARCH_SETTINGS)
        matches = await session.fetch(_indexed_statement(**shape), values)
        await session.set_for_unit(_DEFAULTS)
        return matches

    async def record_use(self, session: ProjectSession, id: UUID) -> RAGCorpus:
        """Note that the entry was shown to a model once more.

        Errors:
            NotFound.

        Cost:
            One statement.
        """
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
def _is_large_statement(*, by_name: bool) -> Statement[bool]:
    """Whether the index is worth it: its price falls with the project's share of all rows, that of reading rises with them."""
    tables = sa.table("pg_class", sa.column("oid"), sa.column("reltuples", sa.Float), schema="pg_catalog")
    break_even = sa.func.sqrt(4 * sa.bindparam("limit", type_=sa.Integer()) * sa.func.greatest(tables.c.reltuples, 0))
    most = sa.cast(sa.func.greatest(sa.bindparam("exact_rows", type_=sa.Integer()), break_even), sa.Integer)
    this = sa.cast(sa.literal(_CORPUS.fullname), REGCLASS)
    exact_rows = sa.select(most).where(tables.c.oid == this).scalar_subquery()
    rows = _entries(sa.literal(1).label("one"), by_name=by_name).order_by(_CORPUS.c.created_at.desc(), _CORPUS.c.id.desc())
    return scalars(
        "rag_corpus.search", sa.select(sa.func.count() > exact_rows).select_from(rows.limit(exact_rows + 1).subquery())
    )


def _entries(*columns: sa.ColumnElement[Any], by_name: bool) -> sa.Select[Any]:
    query = scoped(RAGCorpus, *columns)
    if by_name:
        query = query.where(_CORPUS.c.classification == param("classification", _CORPUS.c.classification))
    return query


_WANTED = sa.cast(sa.bindparam("embedding", type_=ARRAY(REAL)), _CORPUS.c.embedding.type)
_LIMIT = sa.bindparam("limit", type_=sa.Integer())


def _nearest(distance: sa.ColumnElement[float], *, by_name: bool, bounded: bool) -> sa.Select[Any]:
    query = _entries(*_WITHOUT_EMBEDDING, distance.label("distance"), by_name=by_name)
    query = query.where(_CORPUS.c.embedding.is_not(None))
    if bounded:
        query = query.where(distance <= sa.bindparam("max_distance", type_=sa.Double()))
    return query.order_by(distance)


@cache
def _exact_statement(*, by_name: bool, bounded: bool) -> Statement[Match]:
    """The function does what the operator does, but no index serves it."""
    distance: sa.ColumnElement[float] = sa.func.cosine_distance(_CORPUS.c.embedding, _WANTED, type_=sa.Double())
    query = _nearest(distance, by_name=by_name, bounded=bounded).order_by(_CORPUS.c.id).limit(_LIMIT)
    return _matches(query)


@cache
def _indexed_statement(*, by_name: bool, bounded: bool) -> Statement[Match]:
    """A relaxed scan is nearly in order: twice as many as wanted are sorted again."""
    distance: sa.ColumnElement[float] = _CORPUS.c.embedding.op("<=>", return_type=sa.Double())(_WANTED)
    nearest = _nearest(distance, by_name=by_name, bounded=bounded).limit(_LIMIT * 2).subquery("nearest")
    return _matches(sa.select(*nearest.c).order_by(nearest.c.distance, nearest.c.id).limit(_LIMIT))


def _matches(query: sa.Select[Any]) -> Statement[Match]:
    entries = hydrator(RAGCorpus, _WITHOUT_EMBEDDING)

    def matches(records: Sequence[Sequence[Any]]) -> list[Match]:
        rows = entries([tuple(record)[:-1] for record in records])
        return [Match(row, 1 - record[-1]) for row, record in zip(rows, records, strict=True)]

    return Statement("rag_corpus.search", query, matches)
