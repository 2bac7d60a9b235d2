"""Evidence and what it meets: deletions, changes of the compliance mode, holds and sweeps, each interleaving forced."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import InvalidReference, NotFound, RetentionLocked
from derwin_db.models import (
    AuditArtifact,
    ComplianceMode,
    Project,
    ProjectUpdate,
    SpendCap,
)
from tests.repos.conftest import Later, Locks, note_backend
from tests.repos.evidence import expired
from tests.repos.rows import a_charge, a_run, a_ticket, an_artifact

WHO = {"actor": "ada", "reason": "a test"}
CAP = SpendCap(Decimal(100), timedelta(days=1))


class TestDeleteWithEvidence:
    """Evidence that is recorded while the deletion is on its way keeps what it points to."""

    @pytest.mark.parametrize("column", ["run_id", "ticket_id", "fix_attempt_id"])
    async def test_recorded_before(self, db: Database, project: Project, locks: Locks, later: Later, column: str) -> None:
        async with db.project(project.id) as session:
            run = await repos.qa_runs.enqueue(session, a_run())
            ticket = await repos.qa_tickets.create(session, a_ticket())
            attempt = await repos.qa_fix_attempts.dispatch(session, ticket.id, model="m")
        target = {"run_id": run.id, "ticket_id": ticket.id, "fix_attempt_id": attempt.id}
        async with db.project(project.id) as session:
            await repos.audit_artifacts.record(session, an_artifact(**{column: target[column]}))
            delete = repos.qa_runs.delete if column == "run_id" else repos.qa_tickets.delete
            deleting = later(delete, run.id if column == "run_id" else ticket.id)
            await locks.until_waiting(deleting)
        with pytest.raises(RetentionLocked):
            await deleting

    @pytest.mark.parametrize("column", ["run_id", "ticket_id", "fix_attempt_id"])
    async def test_recorded_after(self, db: Database, project: Project, locks: Locks, later: Later, column: str) -> None:
        async with db.project(project.id) as session:
            run = await repos.qa_runs.enqueue(session, a_run())
            ticket = await repos.qa_tickets.create(session, a_ticket())
            attempt = await repos.qa_fix_attempts.dispatch(session, ticket.id, model="m")
        target = {"run_id": run.id, "ticket_id": ticket.id, "fix_attempt_id": attempt.id}
        async with db.project(project.id) as session:
            await (repos.qa_runs.delete(session, run.id) if column == "run_id" else repos.qa_tickets.delete(session, ticket.id))
            recording = later(repos.audit_artifacts.record, an_artifact(**{column: target[column]}))
            await locks.until_waiting(recording)
        with pytest.raises(InvalidReference):
            await recording


async def _record_by_hand(session: ProjectSession) -> AuditArtifact:
    values = {"project_id": session.project_id, "compliance_mode": "GDPR", "retention_until": datetime.now(UTC)}
    row = AuditArtifact(**an_artifact().model_dump(), **values)
    session.sql.add(row)
    await session.sql.flush()
    return row


class TestRetention:
    async def test_evidence_recorded_before_a_change_of_mode_is_raised_by_it(
        self, db: Database, project: Project, locks: Locks
    ) -> None:
        async with db.project(project.id) as session:
            artifact = await repos.audit_artifacts.record(session, an_artifact())
            changing = asyncio.ensure_future(self._change(db, project, ComplianceMode.SOX))
            await locks.until_waiting(changing)
        await changing
        await self._check(db, project, artifact.id, ComplianceMode.STANDARD)

    @pytest.mark.parametrize("is_by_hand", [False, True])
    async def test_evidence_recorded_during_a_change_of_mode_gets_the_new_one(
        self, db: Database, project: Project, locks: Locks, later: Later, is_by_hand: bool
    ) -> None:
        async with db.admin(reason="a test") as admin:
            await repos.projects.update(admin, project.id, ProjectUpdate(compliance_mode=ComplianceMode.SOX))
            recording = later(_record_by_hand) if is_by_hand else later(repos.audit_artifacts.record, an_artifact())
            await locks.until_waiting(recording)
        await self._check(db, project, (await recording).id, ComplianceMode.SOX)

    async def _change(self, db: Database, project: Project, mode: ComplianceMode) -> None:
        async with db.admin(reason="a test") as admin:
            await note_backend(admin)
            await repos.projects.update(admin, project.id, ProjectUpdate(compliance_mode=mode))

    async def _check(self, db: Database, project: Project, artifact: Any, mode: ComplianceMode) -> None:
        async with db.project(project.id) as session:
            row = await repos.audit_artifacts.get(session, artifact)
        assert row.compliance_mode is mode
        assert row.retention_until.year == row.created_at.year + 7

    async def test_recording_and_then_spending_do_not_deadlock(self, db: Database, project: Project, later: Later) -> None:
        """What a worker does in one unit. With evidence and cap locking the project in two strengths, two of them would."""
        recorded = asyncio.Barrier(2)

        async def work(session: ProjectSession, key: str) -> None:
            await repos.audit_artifacts.record(session, an_artifact())
            await recorded.wait()
            await repos.spend_ledger.append(session, a_charge(key), cap=CAP)

        await asyncio.gather(later(work, "a"), later(work, "b"))
        async with db.project(project.id) as session:
            assert await repos.spend_ledger.total(session) == 3


class TestPrune:
    async def test_a_hold_before_its_turn_wins(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            ids = await expired(session, 3)
        deleted = []

        async def delete_blob(row: Any) -> None:
            deleted.append(row.id)
            if row.id == ids[0]:
                async with db.project(project.id) as other:
                    await repos.audit_artifacts.hold(other, ids[1])

        async with db.project(project.id) as session:
            result = await repos.audit_artifacts.prune_expired(session, delete_blob=delete_blob)
        assert deleted == [ids[0], ids[2]]
        assert (result.pruned, result.remaining) == (2, 0)
        async with db.project(project.id) as session:
            assert (await repos.audit_artifacts.get(session, ids[1])).legal_hold
            assert [await repos.audit_artifacts.exists(session, id) for id in ids] == [False, True, False]

    async def test_a_hold_after_its_turn_is_too_late(self, db: Database, project: Project, locks: Locks, later: Later) -> None:
        async with db.project(project.id) as session:
            (only,) = await expired(session, 1)
        async with db.project(project.id) as session:
            await repos.audit_artifacts.prune_expired(session, delete_blob=lambda _: None)
            holding = later(repos.audit_artifacts.hold, only)
            await locks.until_waiting(holding)
        with pytest.raises(NotFound):
            await holding

    async def test_what_others_have_at_its_turn_keeps_its_row_with_its_blob(self, db: Database, project: Project) -> None:
        """They let go of it before the rows are removed."""
        async with db.project(project.id) as session:
            ids = await expired(session, 3)
        other, deleted = db.project(project.id), []
        await repos.audit_artifacts.release(await other.__aenter__(), ids[1])

        async def delete_blob(row: Any) -> None:
            deleted.append(row.id)
            if row.id == ids[2]:
                await other._abandon()

        async with db.project(project.id) as session:
            result = await repos.audit_artifacts.prune_expired(session, delete_blob=delete_blob)
            assert deleted == [ids[0], ids[2]]
            assert (result.pruned, result.remaining) == (2, 1)

    @pytest.mark.parametrize("delete_blob", [None, lambda _: None], ids=["rows", "blobs"])
    async def test_a_hold_that_is_being_set_is_passed_by(
        self, db: Database, project: Project, later: Later, delete_blob: Any
    ) -> None:
        """Without waiting for it: the sweep goes on, and finds the hold the next time."""
        async with db.project(project.id) as session:
            ids = await expired(session, 3)
        async with db.project(project.id) as session:
            await repos.audit_artifacts.hold(session, ids[1])
            async with asyncio.timeout(10):
                result = await later(repos.audit_artifacts.prune_expired, delete_blob=delete_blob)
        assert result.pruned == 2
        async with db.project(project.id) as session:
            assert (await repos.audit_artifacts.prune_expired(session, delete_blob=delete_blob)).pruned == 0
            assert (await repos.audit_artifacts.get(session, ids[1])).legal_hold

    @pytest.mark.parametrize("limit", [3, 6])
    async def test_two_sweeps_share_the_work(self, db: Database, project: Project, later: Later, limit: int) -> None:
        async with db.project(project.id) as session:
            await expired(session, 6)
        async with db.project(project.id) as session:
            first = await repos.audit_artifacts.prune_expired(session, limit=3)
            second = await later(repos.audit_artifacts.prune_expired, limit=limit)
        assert (first.pruned, second.pruned) == (3, 3)

    async def test_a_hold_during_the_deletion_of_the_project_keeps_all(
        self, db: Database, project: Project, locks: Locks
    ) -> None:
        async with db.project(project.id) as session:
            artifact = await repos.audit_artifacts.record(session, an_artifact())
            await repos.qa_tickets.create(session, a_ticket())

        async def delete() -> None:
            async with db.admin(reason="a test") as admin:
                await note_backend(admin)
                await repos.projects.delete(admin, project.id, despite_retention=True)

        async with db.project(project.id) as session:
            await repos.audit_artifacts.hold(session, artifact.id)
            deleting = asyncio.ensure_future(delete())
            await locks.until_waiting(deleting)
        with pytest.raises(RetentionLocked):
            await deleting
        async with db.project(project.id) as session:
            assert await repos.qa_tickets.count(session) == 1
