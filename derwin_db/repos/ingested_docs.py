"""ingested_docs: the documents that fed the profile, one row for each content."""

from collections.abc import AsyncIterator
from functools import cache
from typing import Any, ClassVar, Literal, Unpack
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.dialects.postgresql import insert

from derwin_db.errors import Conflict, IllegalTransition, InvalidInput, InvalidReference, NotFound
from derwin_db.fields.scalars import LongText, Timestamp, new_id
from derwin_db.filters import Filter
from derwin_db.models.ingested_doc import DocSource, DocStatus, IngestedDoc, IngestedDocCreate, IngestedDocUpdate
from derwin_db.models.profile_evolution_log import ProfileEvolutionLog
from derwin_db.paging import Page
from derwin_db.query.builders import param, scoped, scoped_delete, scoped_update, table_of
from derwin_db.query.guard import PROJECT
from derwin_db.query.statement import Statement, command, entities, scalars
from derwin_db.repos.base import TimeFilters, WritableRepository
from derwin_db.repos.validation import check_id, checked
from derwin_db.session import ProjectSession, project_session

_DOCS = table_of(IngestedDoc)
_LOG = table_of(ProfileEvolutionLog)
_ID = param("id", _DOCS.c.id)
_ATTEMPTS = 3

_LONG: TypeAdapter[str] = TypeAdapter(LongText)


class IngestedDocFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""

    source: Filter[DocSource]
    status: Filter[DocStatus]
    processed_since: Timestamp | None
    processed_until: Timestamp | None


IngestedDocOrder = Literal["-created_at", "created_at"]
"""Orders of `list`: `-` says that the greatest comes first."""


class IngestedDocs(WritableRepository[IngestedDoc]):
    """Source documents."""

    model = IngestedDoc
    create_model: ClassVar[type[IngestedDocCreate]] = IngestedDocCreate
    update_model: ClassVar[type[IngestedDocUpdate]] = IngestedDocUpdate
    filters = IngestedDocFilters
    orders = IngestedDocOrder

    async def list(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: IngestedDocOrder = "-created_at",
        with_total: bool = False,
        **filters: Unpack[IngestedDocFilters],
    ) -> Page[IngestedDoc]:
        """Return a page of documents.

        Order:
            Newest first.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        return await self._page(session, limit, cursor, filters, order=order, with_total=with_total)

    def stream(self, session: ProjectSession, **filters: Unpack[IngestedDocFilters]) -> AsyncIterator[IngestedDoc]:
        """Iterate over all documents.

        Order:
            Newest first.

        Cost:
            A transaction, and a round trip for every 500 rows; constant memory.
        """
        return self._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Unpack[IngestedDocFilters]) -> int:
        """Count documents.

        Cost:
            One statement, which counts the rows that the filters select one by one.
        """
        return await self._count(session, filters)

    async def ingest(self, session: ProjectSession, data: IngestedDocCreate) -> IngestedDoc:
        """Write the document, or return the row that has the same content hash, unchanged.

        Safe under concurrency: all writers of one content get the same row.

        Cost:
            One statement, two for a known content.
        """
        session = project_session(session)
        values = self._create_values(data)
        for _ in range(_ATTEMPTS):  # the row that stood in the way may be deleted before it is read
            rows = await session.fetch(_ingest_statement(), {**values, "id": new_id()})
            rows = rows or await session.fetch(_by_hash_statement(), {"content_hash": data.content_hash})
            if rows:
                return rows[0]
        raise Conflict("The document is being deleted at the same time. Ingest it again.")

    async def update(self, session: ProjectSession, id: UUID, data: IngestedDocUpdate) -> IngestedDoc:
        """Change the fields that are set.

        Errors:
            NotFound.

        Cost:
            One statement.
        """
        return await self._update(session, id, data)

    async def update_many(self, session: ProjectSession, data: IngestedDocUpdate, **filters: Unpack[IngestedDocFilters]) -> int:
        """Change the fields that are set, in all documents that the filters select. Returns how many.

        Errors:
            InvalidInput without a filter.

        Locks:
            The documents, in the order of their ids.

        Cost:
            One statement.
        """
        return await self._update_many(session, data, filters)

    async def delete(self, session: ProjectSession, id: UUID) -> None:
        """Delete the document.

        Errors:
            NotFound; Conflict where an entry of the evolution log names it.

        Locks:
            The document's row, before the log is searched, so that no entry is added in between.

        Cost:
            Two statements.
        """
        session, row_id = project_session(session), check_id(id)
        if not await session.fetch(_lock_statement(), {"id": row_id}):
            raise NotFound
        if not await session.execute(_delete_unless_logged_statement(), {"id": row_id}):
            raise Conflict("The evolution log names this document, and the log is kept.")

    async def mark_processed(self, session: ProjectSession, id: UUID) -> IngestedDoc:
        """Record that the document was processed.

        Errors:
            NotFound, IllegalTransition for one that is superseded.

        Cost:
            One statement.
        """
        return await self._move(session, id, DocStatus.PROCESSED, error=None)

    async def mark_failed(self, session: ProjectSession, id: UUID, error: str) -> IngestedDoc:
        """Record why the document could not be processed.

        Errors:
            NotFound, IllegalTransition for one that is superseded.

        Cost:
            One statement.
        """
        return await self._move(session, id, DocStatus.FAILED, error=checked(_LONG, error, "error"))

    async def supersede(self, session: ProjectSession, id: UUID, by: UUID) -> IngestedDoc:
        """Record that another document replaces this one.

        Errors:
            NotFound; InvalidReference for an unknown `by`; IllegalTransition where either is superseded already.

        Cost:
            Two statements.
        """
        session = project_session(session)
        row_id, newer_id = check_id(id), check_id(by, "by")
        if row_id == newer_id:
            raise InvalidInput("by: a document does not supersede itself.")
        rows = {row.id: row for row in await session.fetch(_lock_both_statement(), {"id": row_id, "by": newer_id})}
        if row_id not in rows:
            raise NotFound
        if newer_id not in rows:
            raise InvalidReference
        if DocStatus.SUPERSEDED in (rows[row_id].status, rows[newer_id].status):
            raise IllegalTransition("A document that is superseded neither replaces nor is replaced again.")
        return (await session.fetch(_supersede_statement(), {"id": row_id, "by": newer_id}))[0]

    async def _move(self, session: ProjectSession, id: UUID, status: DocStatus, *, error: str | None) -> IngestedDoc:
        rows = await project_session(session).fetch(_move_statement(status), {"id": check_id(id), "error": error})
        if rows:
            return rows[0]
        await self.get(session, id)
        raise IllegalTransition("The document is superseded.")


@cache
def _ingest_statement() -> Statement[IngestedDoc]:
    values = {name: param(name, _DOCS.c[name]) for name in ("id", *IngestedDocCreate.model_fields)}
    query = insert(_DOCS).values(project_id=PROJECT, **values)
    query = query.on_conflict_do_nothing(index_elements=["project_id", "content_hash"])
    return entities("ingested_docs.ingest", query.returning(*_DOCS.c), IngestedDoc)


@cache
def _by_hash_statement() -> Statement[IngestedDoc]:
    query = scoped(IngestedDoc).where(_DOCS.c.content_hash == param("content_hash", _DOCS.c.content_hash))
    return entities("ingested_docs.ingest", query, IngestedDoc)


@cache
def _lock_statement() -> Statement[UUID]:
    return scalars("ingested_docs.delete", scoped(IngestedDoc, _DOCS.c.id).where(_DOCS.c.id == _ID).with_for_update())


@cache
def _delete_unless_logged_statement() -> Statement[None]:
    is_logged = sa.exists(scoped(ProfileEvolutionLog, sa.literal(1)).where(_LOG.c.doc_id == _ID).correlate(None))
    return command("ingested_docs.delete", scoped_delete(IngestedDoc).where(_DOCS.c.id == _ID, ~is_logged))


@cache
def _move_statement(status: DocStatus) -> Statement[IngestedDoc]:
    values: dict[str, Any] = {"status": status, "error": param("error", _DOCS.c.error)}
    if status is DocStatus.PROCESSED:
        values["processed_at"] = sa.func.now()
    query = scoped_update(IngestedDoc).where(_DOCS.c.id == _ID, _DOCS.c.status != DocStatus.SUPERSEDED).values(values)
    return entities(f"ingested_docs.mark_{status.lower()}", query.returning(*_DOCS.c), IngestedDoc)


@cache
def _lock_both_statement() -> Statement[IngestedDoc]:
    both = sa.or_(_DOCS.c.id == _ID, _DOCS.c.id == param("by", _DOCS.c.id))
    query = scoped(IngestedDoc).where(both).order_by(_DOCS.c.id).with_for_update(key_share=True)
    return entities("ingested_docs.supersede", query, IngestedDoc)


@cache
def _supersede_statement() -> Statement[IngestedDoc]:
    query = scoped_update(IngestedDoc).where(_DOCS.c.id == _ID)
    query = query.values(status=DocStatus.SUPERSEDED, superseded_by=param("by", _DOCS.c.superseded_by))
    return entities("ingested_docs.supersede", query.returning(*_DOCS.c), IngestedDoc)
