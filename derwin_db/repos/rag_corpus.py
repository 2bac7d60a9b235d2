"""rag_corpus: past fixes, and the search among them, by similarity and by words."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, ClassVar, Literal, Unpack, cast, overload
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter

from derwin_db.errors import InvalidInput, NotFound
from derwin_db.fields.scalars import Classification, Id, SearchText, new_id
from derwin_db.fields.vector import Embedding
from derwin_db.filters import Filter, OptionalFilter
from derwin_db.models.batch import BatchReport
from derwin_db.models.rag_corpus import Match, RAGCorpus, RAGCorpusBrief, RAGCorpusCreate, RAGCorpusUpdate
from derwin_db.paging import Page, check_limit
from derwin_db.query.builders import param, scope_of, scoped_update, table_of
from derwin_db.query.derived import searchable
from derwin_db.query.guard import PROJECT
from derwin_db.query.statement import Statement, command, entities, hydrator
from derwin_db.repos.base import Reads, TimeFilters, WritableRepository
from derwin_db.repos.rules import nearest, words
from derwin_db.repos.validation import check_flag, check_id, check_on_error, checked, naming_rows
from derwin_db.session import ProjectSession, project_session

_CORPUS = table_of(RAGCorpus)
_SEARCHED = searchable(RAGCorpus, "words")
_WITHOUT_EMBEDDING = tuple(column for column in _CORPUS.c if column.name != "embedding")
_BATCH = 500

RANK_CONSTANT = 60
"""What is added to a rank before it is inverted: how little the very first places stand out.

Source:
    G. V. Cormack, C. L. A. Clarke and S. Buettcher, Reciprocal rank fusion outperforms Condorcet and individual rank learning
    methods, SIGIR 2009.
"""

RANKED = 50
"""How many places of each ranking count at least, where two are fused; twice the limit if that is more."""

_EMBEDDING: TypeAdapter[Any] = TypeAdapter(Embedding)
_NAME: TypeAdapter[str] = TypeAdapter(Classification)
_TEXT: TypeAdapter[str] = TypeAdapter(SearchText)


class RAGCorpusFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""

    classification: Filter[Classification]
    ticket_id: OptionalFilter[Id]
    fix_attempt_id: OptionalFilter[Id]
    classification_prefix: Classification | None


RAGCorpusOrder = Literal["-created_at", "created_at", "use_count", "-use_count"]
"""Orders of `list`: `-` says that the greatest comes first."""


class _WithEmbedding(Reads[RAGCorpus]):
    """Reads that bring the 1,536 numbers along."""

    model = RAGCorpus
    filters = RAGCorpusFilters
    orders = RAGCorpusOrder


class RAGCorpora(WritableRepository[RAGCorpus]):
    """Past fixes. They are read without their embeddings unless `with_embedding=True`."""

    model = RAGCorpus
    create_model: ClassVar[type[RAGCorpusCreate]] = RAGCorpusCreate
    update_model: ClassVar[type[RAGCorpusUpdate]] = RAGCorpusUpdate
    filters = RAGCorpusFilters
    orders = RAGCorpusOrder

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
        order: RAGCorpusOrder = "-created_at",
        with_total: bool = False,
        with_embedding: bool = False,
        **filters: Unpack[RAGCorpusFilters],
    ) -> Page[RAGCorpus]:
        """Return a page of entries.

        Order:
            Newest first. `use_count` has no index: the entries that the filters select are sorted.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        if check_flag(with_embedding, "with_embedding"):
            return await self._whole.list(session, limit, cursor, filters, order=order, with_total=with_total)
        return await self._page(session, limit, cursor, filters, order=order, with_total=with_total)

    async def list_brief(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: RAGCorpusOrder = "-created_at",
        with_total: bool = False,
        **filters: Unpack[RAGCorpusFilters],
    ) -> Page[RAGCorpusBrief]:
        """Return a page of entries without their texts and their embeddings: large values are not read at all.

        Order:
            As `list`, whose cursors it takes.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        return await self._page_of(RAGCorpusBrief, session, limit, cursor, filters, order=order, with_total=with_total)

    def stream(
        self, session: ProjectSession, *, with_embedding: bool = False, **filters: Unpack[RAGCorpusFilters]
    ) -> AsyncIterator[RAGCorpus]:
        """Iterate over all entries.

        Order:
            Newest first.

        Cost:
            A transaction, and a round trip for every 500 rows; constant memory.
        """
        if check_flag(with_embedding, "with_embedding"):
            return self._whole.stream(session, filters)
        return self._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Unpack[RAGCorpusFilters]) -> int:
        """Count entries.

        Cost:
            One statement, which counts the rows that the filters select one by one.
        """
        return await self._count(session, filters)

    async def add(self, session: ProjectSession, data: RAGCorpusCreate) -> RAGCorpus:
        """Remember a fix. Returns the entry without its embedding.

        Cost:
            One statement.
        """
        return await self._insert(session, data)

    @overload
    async def add_many(
        self, session: ProjectSession, rows: Iterable[RAGCorpusCreate], *, on_error: Literal["raise"] = "raise"
    ) -> int: ...
    @overload
    async def add_many(
        self, session: ProjectSession, rows: Iterable[RAGCorpusCreate | Mapping[str, Any]], *, on_error: Literal["report"]
    ) -> BatchReport: ...
    async def add_many(
        self,
        session: ProjectSession,
        rows: Iterable[RAGCorpusCreate | Mapping[str, Any]],
        *,
        on_error: Literal["raise", "report"] = "raise",
    ) -> int | BatchReport:
        """Remember many fixes, 500 a batch, in constant memory; all or none within the unit. Returns how many.

        `on_error="report"` writes those that can be written, takes plain mappings too, and says of each other one which rule it
        breaks.

        Cost:
            With a report, a savepoint for each batch.
        """
        if check_on_error(on_error):
            return await self._insert_reporting(session, rows, verb="add_many", write=self._add_batch, batch_size=_BATCH)
        session = project_session(session)
        total = 0
        for batch in self._batches(cast("Iterable[RAGCorpusCreate]", rows), _BATCH):
            with naming_rows(batch, "rows", total):
                total += await self._add_batch(session, batch)
        return total

    async def _add_batch(self, session: ProjectSession, batch: Sequence[RAGCorpusCreate]) -> int:
        await session.execute_many(_add_statement(), [{**row.__dict__, "id": new_id()} for row in batch])
        return len(batch)

    async def update_many(self, session: ProjectSession, data: RAGCorpusUpdate, **filters: Unpack[RAGCorpusFilters]) -> int:
        """Change the fields that are set, in all entries that the filters select. Returns how many.

        Errors:
            InvalidInput without a filter.

        Locks:
            The entries, in the order of their ids.

        Cost:
            One statement.
        """
        return await self._update_many(session, data, filters)

    async def update(self, session: ProjectSession, id: UUID, data: RAGCorpusUpdate) -> RAGCorpus:
        """Change the fields that are set.

        Errors:
            NotFound.

        Cost:
            One statement.
        """
        return await self._update(session, id, data)

    async def delete(self, session: ProjectSession, id: UUID) -> None:
        """Forget a fix.

        Errors:
            NotFound.

        Cost:
            One statement.
        """
        await self._delete(session, id)

    async def search(
        self,
        session: ProjectSession,
        embedding: Sequence[float] | None = None,
        *,
        text: str | None = None,
        limit: int = 5,
        classification: str | None = None,
        min_similarity: float | None = None,
    ) -> Sequence[Match]:
        """Return the entries that are most similar to the embedding, that have words of the text, or both in one ranking.

        With an embedding, always min(limit, entries that qualify); entries that have none are found by their words alone. Both
        rankings are fused by reciprocal ranks.

        Shape:
            1,536 numbers; 1 to 10,000 characters, of which the 64 longest words count.

        Units:
            Cosine similarity, -1..1. `min_similarity` is what an entry needs to be found by its embedding.

        Order:
            Best first. Entries come without embeddings.

        Errors:
            InvalidInput.

        Cost:
            One statement. It compares the signs of all embeddings of the project in an index, and for a text the words of all
            its entries.
        """
        session = project_session(session)
        if embedding is None and text is None:
            raise InvalidInput("embedding, text: at least one of both.")
        if min_similarity is not None and embedding is None:
            raise InvalidInput("min_similarity: a bound for an embedding, and there is none.")
        values: dict[str, Any] = {"limit": check_limit(limit)}
        if embedding is not None:
            values["embedding"] = checked(_EMBEDDING, embedding, "embedding")
        if text is not None:
            values["text"] = checked(_TEXT, text, "text")
        if classification is not None:
            values["classification"] = checked(_NAME, classification, "classification")
        if min_similarity is not None:
            values["max_distance"] = 1 - _similarity(min_similarity)
        values["ranked"] = max(RANKED, 2 * limit) if embedding is not None and text is not None else limit
        values |= nearest.sizes(values["ranked"])
        return await session.fetch(_search_statement(frozenset(values)), values)

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
def _search_statement(given: frozenset[str]) -> Statement[Match]:
    """Return the statement for these parameters. Only the entries that are returned are looked up, by their keys."""
    if {"embedding", "text"} <= given:
        found = _fused(_by_embedding(given), _by_words(given))
    else:
        found = _by_embedding(given) if "embedding" in given else _by_words(given)
    best = (
        sa.select(*found.c)
        .order_by(found.c.place, found.c.id)
        .limit(sa.bindparam("limit", type_=sa.Integer()))
        .subquery("best")
    )
    entry = _CORPUS.alias("found")
    similarity = _similarity_of(entry, best, given)
    columns = [entry.c[column.name] for column in _WITHOUT_EMBEDDING]
    one = sa.select(*columns, similarity.label("similarity")).where(scope_of(entry), entry.c.id == best.c.id).limit(1)
    one_lateral = one.correlate(best).lateral("one")
    query = sa.select(*one_lateral.c).select_from(best.join(one_lateral, sa.true())).order_by(best.c.place, best.c.id)
    entries = hydrator(RAGCorpus, _WITHOUT_EMBEDDING)

    def matches(records: Sequence[Sequence[Any]]) -> list[Match]:
        rows = entries([tuple(record)[:-1] for record in records])
        return [Match(row, record[-1]) for row, record in zip(rows, records, strict=True)]

    return Statement("rag_corpus.search", query, matches)


def _similarity_of(entry: Any, best: Any, given: frozenset[str]) -> sa.ColumnElement[Any]:
    if "embedding" not in given:
        return sa.null()
    return nearest.similarity(entry) if "text" in given else 1 - best.c.place


_RANKED = sa.bindparam("ranked", type_=sa.Integer())


def _by_embedding(given: frozenset[str]) -> sa.Subquery:
    near = nearest.nearest(_RANKED, by_name="classification" in given).subquery("near")
    query = sa.select(near.c.id, near.c.distance.label("place"))
    if "max_distance" in given:
        query = query.where(near.c.distance <= sa.bindparam("max_distance", type_=sa.Double()))
    return query.subquery("by_embedding")


def _by_words(given: frozenset[str]) -> sa.Subquery:
    by_name = [_SEARCHED.c.classification == param("classification", _SEARCHED.c.classification)]
    found = words.scores(_SEARCHED, by_name if "classification" in given else [])
    best = (
        sa.select(found.c.id, found.c.score).order_by(found.c.score.desc(), found.c.id.desc()).limit(_RANKED).subquery("worded")
    )
    return sa.select(best.c.id, (-best.c.score).label("place")).subquery("by_words")


def _fused(*rankings: sa.Subquery) -> sa.Subquery:
    """Return the ids of all rankings; their place is the negative sum of 1 / (60 + rank)."""
    ranked = [
        sa.select(one.c.id, (1.0 / (RANK_CONSTANT + sa.func.rank().over(order_by=one.c.place))).label("share"))
        for one in rankings
    ]
    shares = sa.union_all(*ranked).subquery("shares")
    return sa.select(shares.c.id, (-sa.func.sum(shares.c.share)).label("place")).group_by(shares.c.id).subquery("fused")
