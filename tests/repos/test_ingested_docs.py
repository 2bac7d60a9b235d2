"""ingested_docs: one row for each content, and how far each document got."""

from typing import Any

import pytest
from pydantic import ValidationError

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import Conflict, IllegalTransition, InvalidInput, InvalidReference, NotFound
from derwin_db.fields.scalars import new_id
from derwin_db.models import (
    DocSource,
    DocStatus,
    IngestedDoc,
    IngestedDocCreate,
    IngestedDocUpdate,
    ProfileChange,
    Project,
    ProjectProfileUpdate,
)
from tests.repos.rows import a_doc, a_profile


@pytest.fixture
async def doc(session: ProjectSession) -> IngestedDoc:
    return await repos.ingested_docs.ingest(session, a_doc(details={"pages": 3}))


@pytest.fixture
async def newer(session: ProjectSession) -> IngestedDoc:
    return await repos.ingested_docs.ingest(session, a_doc("newer"))


class TestIngest:
    async def test_writes_the_row(self, session: ProjectSession) -> None:
        data = a_doc(source=DocSource.REPOSITORY, details={"path": ["a", {"b": None}]})
        row = await repos.ingested_docs.ingest(session, data)
        assert row.model_dump(include=set(IngestedDocCreate.model_fields)) == data.model_dump()
        assert (row.status, row.error, row.processed_at, row.superseded_by) == (DocStatus.PENDING, None, None, None)

    async def test_a_known_content_is_the_row_that_is_there_unchanged(self, session: ProjectSession, doc: IngestedDoc) -> None:
        again = a_doc(title="Another title", source=DocSource.UPLOAD, source_uri="s3://other/place")
        assert await repos.ingested_docs.ingest(session, again) == doc
        assert await repos.ingested_docs.count(session) == 1

    async def test_the_same_content_may_be_in_two_projects(
        self, db: Database, session: ProjectSession, other_project: Project, doc: IngestedDoc
    ) -> None:
        async with db.project(other_project.id) as other:
            assert (await repos.ingested_docs.ingest(other, a_doc())).id != doc.id

    async def test_other_input_is_refused(self, session: ProjectSession) -> None:
        with pytest.raises(InvalidInput):
            await repos.ingested_docs.ingest(session, IngestedDocUpdate(title="x"))  # type: ignore[arg-type]


class TestUpdate:
    @pytest.mark.parametrize(
        ("field", "value"),
        [("source_uri", "s3://x/y"), ("title", "New"), ("mime_type", "text/plain"), ("details", {}), ("details", {"a": [1]})],
    )
    async def test_changes_what_is_set_and_nothing_else(
        self, session: ProjectSession, doc: IngestedDoc, field: str, value: Any
    ) -> None:
        row = await repos.ingested_docs.update(session, doc.id, IngestedDocUpdate(**{field: value}))
        assert row == doc.model_copy(update={field: value, "updated_at": row.updated_at})

    @pytest.mark.parametrize("field", ["source_uri", "title", "mime_type", "details"])
    def test_none_is_refused(self, field: str) -> None:
        with pytest.raises(ValidationError):
            IngestedDocUpdate(**{field: None})

    @pytest.mark.parametrize("field", ["content_hash", "byte_size", "status", "source", "superseded_by", "error"])
    def test_what_is_not_for_it_is_refused(self, field: str) -> None:
        with pytest.raises(ValidationError):
            IngestedDocUpdate(**{field: "x"})

    async def test_nothing_set_changes_nothing(self, session: ProjectSession, doc: IngestedDoc) -> None:
        assert await repos.ingested_docs.update(session, doc.id, IngestedDocUpdate()) == doc

    @pytest.mark.parametrize("data", [IngestedDocUpdate(), IngestedDocUpdate(title="x")])
    async def test_an_unknown_document_is_not_found(self, session: ProjectSession, data: IngestedDocUpdate) -> None:
        with pytest.raises(NotFound):
            await repos.ingested_docs.update(session, new_id(), data)


class TestDelete:
    async def test_removes_the_row(self, session: ProjectSession, doc: IngestedDoc) -> None:
        await repos.ingested_docs.delete(session, doc.id)
        assert not await repos.ingested_docs.exists(session, doc.id)

    async def test_an_unknown_document_is_not_found(self, session: ProjectSession) -> None:
        with pytest.raises(NotFound):
            await repos.ingested_docs.delete(session, new_id())

    async def test_one_that_the_log_names_conflicts(self, session: ProjectSession, doc: IngestedDoc) -> None:
        who = {"actor": "ada", "reason": "a test"}
        await repos.project_profiles.create(session, a_profile(), **who)
        change = {"change": ProfileChange.DOC_INGESTED, "expected_version": 1, "doc_id": doc.id, **who}
        await repos.project_profiles.evolve(session, ProjectProfileUpdate(summary="x"), **change)
        with pytest.raises(Conflict, match="evolution log"):
            await repos.ingested_docs.delete(session, doc.id)
        assert await repos.ingested_docs.exists(session, doc.id)


class TestMarks:
    async def test_processed(self, session: ProjectSession, doc: IngestedDoc) -> None:
        row = await repos.ingested_docs.mark_processed(session, doc.id)
        changed = {"status": DocStatus.PROCESSED, "processed_at": row.updated_at, "updated_at": row.updated_at}
        assert row == doc.model_copy(update=changed)

    async def test_failed_and_then_processed(self, session: ProjectSession, doc: IngestedDoc) -> None:
        failed = await repos.ingested_docs.mark_failed(session, doc.id, "unreadable")
        assert (failed.status, failed.error) == (DocStatus.FAILED, "unreadable")
        processed = await repos.ingested_docs.mark_processed(session, doc.id)
        assert (processed.status, processed.error) == (DocStatus.PROCESSED, None)

    @pytest.mark.parametrize("verb", ["mark_processed", "mark_failed"])
    async def test_errors(self, session: ProjectSession, doc: IngestedDoc, newer: IngestedDoc, verb: str) -> None:
        mark, args = getattr(repos.ingested_docs, verb), ("why",) if verb == "mark_failed" else ()
        with pytest.raises(NotFound):
            await mark(session, new_id(), *args)
        superseded = await repos.ingested_docs.supersede(session, doc.id, newer.id)
        with pytest.raises(IllegalTransition):
            await mark(session, doc.id, *args)
        assert await repos.ingested_docs.get(session, doc.id) == superseded

    @pytest.mark.parametrize("error", [None, 7, "\0", "x" * 1_000_001])
    async def test_a_bad_error_is_refused(self, session: ProjectSession, doc: IngestedDoc, error: Any) -> None:
        with pytest.raises(InvalidInput, match="error"):
            await repos.ingested_docs.mark_failed(session, doc.id, error)


class TestSupersede:
    @pytest.mark.parametrize("first", [DocStatus.PENDING, DocStatus.PROCESSED, DocStatus.FAILED])
    async def test_ends_the_older_one(
        self, session: ProjectSession, doc: IngestedDoc, newer: IngestedDoc, first: DocStatus
    ) -> None:
        if first is DocStatus.PROCESSED:
            await repos.ingested_docs.mark_processed(session, doc.id)
        if first is DocStatus.FAILED:
            await repos.ingested_docs.mark_failed(session, doc.id, "x")
        before = await repos.ingested_docs.get(session, doc.id)
        row = await repos.ingested_docs.supersede(session, doc.id, newer.id)
        changed = {"status": DocStatus.SUPERSEDED, "superseded_by": newer.id, "updated_at": row.updated_at}
        assert row == before.model_copy(update=changed)
        assert await repos.ingested_docs.get(session, newer.id) == newer

    async def test_unknown_documents(self, session: ProjectSession, doc: IngestedDoc) -> None:
        with pytest.raises(NotFound):
            await repos.ingested_docs.supersede(session, new_id(), doc.id)
        with pytest.raises(InvalidReference):
            await repos.ingested_docs.supersede(session, doc.id, new_id())
        assert await repos.ingested_docs.get(session, doc.id) == doc

    async def test_by_itself_is_refused(self, session: ProjectSession, doc: IngestedDoc) -> None:
        with pytest.raises(InvalidInput, match="itself"):
            await repos.ingested_docs.supersede(session, doc.id, doc.id)

    async def test_neither_may_be_superseded(self, session: ProjectSession, doc: IngestedDoc, newer: IngestedDoc) -> None:
        newest = await repos.ingested_docs.ingest(session, a_doc("newest"))
        await repos.ingested_docs.supersede(session, doc.id, newer.id)
        for older, by in ((doc, newest), (newest, doc), (newer, doc)):
            with pytest.raises(IllegalTransition):
                await repos.ingested_docs.supersede(session, older.id, by.id)
        assert (await repos.ingested_docs.supersede(session, newer.id, newest.id)).superseded_by == newest.id
