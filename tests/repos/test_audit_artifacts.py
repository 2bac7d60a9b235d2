"""audit_artifacts: recording, holding and pruning evidence. How long it is kept: test_retention.py."""

import logging
from typing import Any

import pytest
import sqlalchemy as sa

from derwin_db import AdminSession, Database, ProjectSession, repos
from derwin_db.errors import InvalidInput, InvalidReference, NotFound, RetentionLocked, ScopeError
from derwin_db.fields.scalars import new_id
from derwin_db.models import (
    AuditArtifact,
    AuditArtifactCreate,
    ComplianceMode,
    Project,
    PruneResult,
)
from tests.repos.evidence import evidence, expired
from tests.repos.rows import a_run, a_ticket, an_artifact
from tests.repos.test_projects import a_project


@pytest.fixture
async def artifact(session: ProjectSession) -> AuditArtifact:
    return await repos.audit_artifacts.record(session, an_artifact())


class TestRecord:
    async def test_writes_the_row(self, session: ProjectSession) -> None:
        run = await repos.qa_runs.enqueue(session, a_run())
        ticket = await repos.qa_tickets.create(session, a_ticket())
        attempt = await repos.qa_fix_attempts.dispatch(session, ticket.id, model="m")
        data = an_artifact(run_id=run.id, ticket_id=ticket.id, fix_attempt_id=attempt.id, byte_size=2**40)
        row = await repos.audit_artifacts.record(session, data)
        assert row.model_dump(include=set(AuditArtifactCreate.model_fields)) == data.model_dump()
        assert (row.compliance_mode, row.legal_hold) == (ComplianceMode.STANDARD, False)

    @pytest.mark.parametrize("column", ["run_id", "ticket_id", "fix_attempt_id"])
    async def test_an_unknown_reference_is_refused(self, session: ProjectSession, column: str) -> None:
        with pytest.raises(InvalidReference):
            await repos.audit_artifacts.record(session, an_artifact(**{column: new_id()}))

    async def test_other_input_is_refused(self, session: ProjectSession) -> None:
        with pytest.raises(InvalidInput):
            await repos.audit_artifacts.record(session, a_ticket())  # type: ignore[arg-type]


class TestHold:
    async def test_and_release(self, session: ProjectSession, artifact: AuditArtifact) -> None:
        held = await repos.audit_artifacts.hold(session, artifact.id)
        assert held == artifact.model_copy(update={"legal_hold": True, "updated_at": held.updated_at})
        assert (await repos.audit_artifacts.hold(session, artifact.id)).legal_hold
        assert not (await repos.audit_artifacts.release(session, artifact.id)).legal_hold

    async def test_an_unknown_artifact_is_not_found(self, session: ProjectSession) -> None:
        for verb in (repos.audit_artifacts.hold, repos.audit_artifacts.release):
            with pytest.raises(NotFound):
                await verb(session, new_id())


class TestExpired:
    async def test_expired_longest_first_and_no_others(self, session: ProjectSession, artifact: AuditArtifact) -> None:
        ids = await expired(session, 4)
        await repos.audit_artifacts.hold(session, ids[1])
        await evidence(session, until="now() + interval '1 second'")
        exactly = await evidence(session, until="now()")
        rows = await repos.audit_artifacts.expired(session)
        assert [row.id for row in rows] == [ids[0], ids[2], ids[3], exactly]
        assert await repos.audit_artifacts.expired(session, limit=2) == rows[:2]

    @pytest.mark.parametrize("limit", [0, 501, True, None])
    async def test_a_bad_limit_is_refused(self, session: ProjectSession, limit: Any) -> None:
        for verb in (repos.audit_artifacts.expired, repos.audit_artifacts.prune_expired):
            with pytest.raises(InvalidInput, match="limit"):
                await verb(session, limit=limit)


class TestPruneExpired:
    async def test_removes_one_batch(self, session: ProjectSession, artifact: AuditArtifact) -> None:
        ids = await expired(session, 5)
        assert await repos.audit_artifacts.prune_expired(session, limit=2) == PruneResult(pruned=2, remaining=3)
        assert [await repos.audit_artifacts.exists(session, id) for id in ids] == [False, False, True, True, True]
        assert await repos.audit_artifacts.prune_expired(session) == PruneResult(pruned=3, remaining=0)
        assert await repos.audit_artifacts.prune_expired(session) == PruneResult(pruned=0, remaining=0)
        assert [row.id async for row in repos.audit_artifacts.stream(session)] == [artifact.id]

    async def test_leaves_what_is_on_hold(self, session: ProjectSession) -> None:
        ids = await expired(session, 3)
        await repos.audit_artifacts.hold(session, ids[0])
        assert await repos.audit_artifacts.prune_expired(session) == PruneResult(pruned=2, remaining=0)
        await repos.audit_artifacts.release(session, ids[0])
        assert await repos.audit_artifacts.prune_expired(session) == PruneResult(pruned=1, remaining=0)

    async def test_says_how_many_of_which_rule(self, session: ProjectSession, caplog: pytest.LogCaptureFixture) -> None:
        for mode in (ComplianceMode.GDPR, ComplianceMode.SOX, ComplianceMode.GDPR):
            await evidence(session, until="now()", mode=mode)
        with caplog.at_level(logging.INFO, "derwin_db.retention"):
            await repos.audit_artifacts.prune_expired(session)
        assert [record.getMessage() for record in caplog.records if record.name == "derwin_db.retention"] == [
            "pruned 2 artifacts whose retention under GDPR has ended",
            "pruned 1 artifacts whose retention under SOX has ended",
        ]

    async def test_what_pointed_to_it_can_go_then(self, session: ProjectSession) -> None:
        ticket = await repos.qa_tickets.create(session, a_ticket())
        await evidence(session, until="now()", ticket_id=ticket.id)
        with pytest.raises(RetentionLocked):
            await repos.qa_tickets.delete(session, ticket.id)
        await repos.audit_artifacts.prune_expired(session)
        await repos.qa_tickets.delete(session, ticket.id)


class TestDeleteBlob:
    @pytest.mark.parametrize("is_async", [False, True])
    async def test_goes_before_the_row(self, session: ProjectSession, is_async: bool) -> None:
        ids, seen = await expired(session, 3), []

        def delete(row: AuditArtifact) -> None:
            seen.append((row.id, row.storage_uri))

        async def delete_later(row: AuditArtifact) -> None:
            assert await repos.audit_artifacts.exists(session, row.id)
            delete(row)

        result = await repos.audit_artifacts.prune_expired(session, delete_blob=delete_later if is_async else delete)
        assert result == PruneResult(pruned=3, remaining=0)
        assert seen == [(id, "s3://b/k") for id in ids]

    async def test_that_fails_keeps_its_row_and_the_next_follows(
        self, session: ProjectSession, caplog: pytest.LogCaptureFixture
    ) -> None:
        ids = await expired(session, 3)

        def delete(row: AuditArtifact) -> None:
            if row.id == ids[1]:
                raise OSError("bucket is away")

        with caplog.at_level(logging.ERROR, "derwin_db.retention"):
            result = await repos.audit_artifacts.prune_expired(session, delete_blob=delete)
        assert result == PruneResult(pruned=2, remaining=1)
        assert [row.id for row in await repos.audit_artifacts.expired(session)] == [ids[1]]
        assert str(ids[1]) in caplog.text


class TestThroughTheAdminDoor:
    async def test_prunes_all_projects(self, own_db: Database) -> None:
        ids = {}
        for slug in ("one", "two"):
            async with own_db.admin(reason="a test") as admin:
                project = await repos.projects.create(admin, a_project(slug=slug))
            async with own_db.project(slug) as session:
                ids[project.id] = await expired(session, 3)
                await repos.audit_artifacts.hold(session, ids[project.id][0])
                await repos.audit_artifacts.record(session, an_artifact())
        seen = []
        async with own_db.admin(reason="the sweep") as admin:
            assert await repos.audit_artifacts.prune_expired(admin, limit=3) == PruneResult(pruned=3, remaining=1)
            result = await repos.audit_artifacts.prune_expired(admin, delete_blob=lambda row: seen.append(row.project_id))
        assert result == PruneResult(pruned=1, remaining=0)
        assert len(seen) == 1
        for project_id, its in ids.items():
            async with own_db.project(project_id) as session:
                assert await repos.audit_artifacts.count(session) == 2
                assert await repos.audit_artifacts.exists(session, its[0])

    @pytest.mark.parametrize("number", [0, 1, 2])
    async def test_counts_a_project_from_its_first_that_may_go_on(self, db: Database, project: Project, number: int) -> None:
        async with db.project(project.id) as session:
            await expired(session, number)
        async with db.admin(reason="a test") as admin:
            assert (await repos.audit_artifacts.expired_by_project(admin)).get(project.id) == (number or None)

    async def test_nothing_else_of_evidence(self, admin: AdminSession, project: Project) -> None:
        await repos.audit_artifacts.prune_expired(admin)
        for column in ("legal_hold", "storage_uri", "content_hash"):
            with pytest.raises(ScopeError):
                async with admin.savepoint():
                    await admin._driver("execute", f"UPDATE audit_artifacts SET {column} = {column}")


class TestDatabase:
    @pytest.mark.parametrize(
        "statement",
        [
            "DELETE FROM audit_artifacts",
            "UPDATE audit_artifacts SET retention_until = now()",
            "UPDATE audit_artifacts SET storage_uri = 'x'",
        ],
    )
    async def test_raw_sql_does_not_end_retention(
        self, session: ProjectSession, artifact: AuditArtifact, statement: str
    ) -> None:
        with pytest.raises(RetentionLocked if statement.startswith("DELETE") else ScopeError):
            async with session.savepoint():
                await session.sql.execute(sa.text(statement))
        assert await repos.audit_artifacts.get(session, artifact.id) == artifact
