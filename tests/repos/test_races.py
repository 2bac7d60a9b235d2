"""Two units of work that meet: each interleaving is forced, by waiting until the second one waits for a lock."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import BudgetExceeded, Conflict, InvalidReference, NotFound, ProjectNotFound, RetentionLocked, StaleWrite
from derwin_db.models import (
    ComplianceMode,
    FixOutcome,
    ProfileChange,
    Project,
    ProjectMode,
    ProjectProfileUpdate,
    ProjectUpdate,
    QATicketUpdate,
    SpendCap,
)
from tests.repos.conftest import Locks
from tests.repos.evidence import expired
from tests.repos.rows import a_charge, a_doc, a_profile, a_run, a_ticket, an_artifact, signals

WHO = {"actor": "ada", "reason": "a test"}
CAP = SpendCap(Decimal(100), timedelta(days=1))


@pytest.fixture
def later(db: Database, project: Project) -> Callable[..., "asyncio.Task[Any]"]:
    """Runs a verb in a unit of work of its own, in a task."""

    def start(verb: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> "asyncio.Task[Any]":
        async def run() -> Any:
            async with db.project(project.id) as session:
                return await verb(session, *args, **kwargs)

        return asyncio.ensure_future(run())

    return start


class TestAttach:
    async def test_all_or_none_when_a_signal_goes_meanwhile(
        self, db: Database, project: Project, locks: Locks, later: Any
    ) -> None:
        async with db.project(project.id) as session:
            run = await repos.qa_runs.enqueue(session, a_run())
            await repos.raw_signals.ingest(session, run.id, signals("a", "b"))
            first, second = await repos.raw_signals.pending(session, run.id)
            ticket = await repos.qa_tickets.create(session, a_ticket())
        async with db.project(project.id) as session:
            await repos.raw_signals.delete(session, first.id)
            attaching = later(repos.raw_signals.attach, [first.id, second.id], ticket.id)
            await locks.until_waiting(attaching)
        with pytest.raises(NotFound):
            await attaching
        async with db.project(project.id) as session:
            assert (await repos.raw_signals.get(session, second.id)).ticket_id is None

    async def test_to_a_ticket_that_goes_meanwhile(self, db: Database, project: Project, locks: Locks, later: Any) -> None:
        async with db.project(project.id) as session:
            run = await repos.qa_runs.enqueue(session, a_run())
            await repos.raw_signals.ingest(session, run.id, signals("a"))
            (signal,) = await repos.raw_signals.pending(session, run.id)
            ticket = await repos.qa_tickets.create(session, a_ticket())
        async with db.project(project.id) as session:
            await repos.qa_tickets.delete(session, ticket.id)
            attaching = later(repos.raw_signals.attach, [signal.id], ticket.id)
            await locks.until_waiting(attaching)
        with pytest.raises(InvalidReference):
            await attaching


class TestDeleteWithEvidence:
    """Evidence that is recorded while the deletion is on its way keeps what it points to."""

    @pytest.mark.parametrize("column", ["run_id", "ticket_id", "fix_attempt_id"])
    async def test_recorded_before(self, db: Database, project: Project, locks: Locks, later: Any, column: str) -> None:
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
    async def test_recorded_after(self, db: Database, project: Project, locks: Locks, later: Any, column: str) -> None:
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


class TestDeleteDocument:
    async def test_that_the_log_comes_to_name(self, db: Database, project: Project, locks: Locks, later: Any) -> None:
        async with db.project(project.id) as session:
            doc = await repos.ingested_docs.ingest(session, a_doc())
            await repos.project_profiles.create(session, a_profile(), **WHO)
        async with db.project(project.id) as session:
            await repos.project_profiles.evolve(
                session,
                ProjectProfileUpdate(summary="new"),
                change=ProfileChange.DOC_INGESTED,
                expected_version=1,
                doc_id=doc.id,
                **WHO,
            )
            deleting = later(repos.ingested_docs.delete, doc.id)
            await locks.until_waiting(deleting)
        with pytest.raises(Conflict) as refused:
            await deleting
        assert type(refused.value) is Conflict


class TestTrust:
    async def _concludable(self, session: ProjectSession, **given: Any) -> tuple[Any, Any]:
        ticket = await repos.qa_tickets.create(session, a_ticket(**given))
        attempt = await repos.qa_fix_attempts.dispatch(session, ticket.id, model="m")
        return ticket, await repos.qa_fix_attempts.start(session, attempt.id)

    async def _check(self, db: Database, project: Project, expected: dict[str, int]) -> None:
        async with db.project(project.id) as session:
            names = {name: (await repos.classification_trust.for_classification(session, name)) for name in expected}
            assert {name: row.attempts for name, row in names.items()} == expected
            await repos.classification_trust.refresh(session)
            for name, row in names.items():
                assert (await repos.classification_trust.for_classification(session, name)).score == row.score

    async def test_a_conclusion_meets_a_reclassification(
        self, db: Database, project: Project, locks: Locks, later: Any
    ) -> None:
        async with db.project(project.id) as session:
            ticket, attempt = await self._concludable(session, classification="old")
        async with db.project(project.id) as session:
            await repos.qa_fix_attempts.conclude(session, attempt.id, FixOutcome.MERGED)
            reclassifying = later(repos.qa_tickets.update, ticket.id, QATicketUpdate(classification="new"))
            await locks.until_waiting(reclassifying)
        await reclassifying
        await self._check(db, project, {"old": 0, "new": 1})

    async def test_a_reclassification_meets_a_conclusion(
        self, db: Database, project: Project, locks: Locks, later: Any
    ) -> None:
        async with db.project(project.id) as session:
            ticket, attempt = await self._concludable(session, classification="old")
        async with db.project(project.id) as session:
            await repos.qa_tickets.update(session, ticket.id, QATicketUpdate(classification="new"))
            concluding = later(repos.qa_fix_attempts.conclude, attempt.id, FixOutcome.MERGED)
            await locks.until_waiting(concluding)
        await concluding
        await self._check(db, project, {"old": 0, "new": 1})

    async def test_two_conclusions_of_one_classification(
        self, db: Database, project: Project, locks: Locks, later: Any
    ) -> None:
        async with db.project(project.id) as session:
            _, first = await self._concludable(session)
            _, second = await self._concludable(session)
        async with db.project(project.id) as session:
            await repos.qa_fix_attempts.conclude(session, first.id, FixOutcome.MERGED)
            concluding = later(repos.qa_fix_attempts.conclude, second.id, FixOutcome.ERROR)
            await locks.until_waiting(concluding)
        await concluding
        await self._check(db, project, {"ui_bug": 2})

    async def test_a_conclusion_meets_the_deletion_of_its_ticket(
        self, db: Database, project: Project, locks: Locks, later: Any
    ) -> None:
        async with db.project(project.id) as session:
            ticket, attempt = await self._concludable(session)
        async with db.project(project.id) as session:
            await repos.qa_tickets.delete(session, ticket.id)
            concluding = later(repos.qa_fix_attempts.conclude, attempt.id, FixOutcome.MERGED)
            await locks.until_waiting(concluding)
        with pytest.raises(NotFound):
            await concluding
        await self._check(db, project, {"ui_bug": 0})

    async def test_conclusions_of_one_ticket_do_not_wait_to_move_it(self, db: Database, project: Project, later: Any) -> None:
        """Each concludes and then changes the ticket, as workers do: with a lock that is upgraded they would deadlock."""
        async with db.project(project.id) as session:
            ticket, first = await self._concludable(session, classification="one")
            second = await repos.qa_fix_attempts.dispatch(session, ticket.id, model="m")
            await repos.qa_fix_attempts.start(session, second.id)

        async def work(session: ProjectSession, attempt: Any) -> None:
            await repos.qa_fix_attempts.conclude(session, attempt.id, FixOutcome.ERROR)
            await asyncio.sleep(0.02)
            await repos.qa_tickets.update(session, ticket.id, QATicketUpdate(actual="tried"))

        await asyncio.gather(later(work, first), later(work, second))
        await self._check(db, project, {"one": 2})


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

    async def test_evidence_recorded_during_a_change_of_mode_gets_the_new_one(
        self, db: Database, project: Project, locks: Locks, later: Any
    ) -> None:
        async with db.admin(reason="a test") as admin:
            await repos.projects.update(admin, project.id, ProjectUpdate(compliance_mode=ComplianceMode.SOX))
            recording = later(repos.audit_artifacts.record, an_artifact())
            await locks.until_waiting(recording)
        await self._check(db, project, (await recording).id, ComplianceMode.SOX)

    async def _change(self, db: Database, project: Project, mode: ComplianceMode) -> None:
        async with db.admin(reason="a test") as admin:
            await repos.projects.update(admin, project.id, ProjectUpdate(compliance_mode=mode))

    async def _check(self, db: Database, project: Project, artifact: Any, mode: ComplianceMode) -> None:
        async with db.project(project.id) as session:
            row = await repos.audit_artifacts.get(session, artifact)
        assert row.compliance_mode is mode
        assert row.retention_until.year == row.created_at.year + 7

    async def test_recording_and_then_spending_do_not_deadlock(self, db: Database, project: Project, later: Any) -> None:
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

    async def test_a_hold_after_its_turn_is_too_late(self, db: Database, project: Project, locks: Locks, later: Any) -> None:
        async with db.project(project.id) as session:
            (only,) = await expired(session, 1)
        async with db.project(project.id) as session:
            await repos.audit_artifacts.prune_expired(session, delete_blob=lambda _: None)
            holding = later(repos.audit_artifacts.hold, only)
            await locks.until_waiting(holding)
        with pytest.raises(NotFound):
            await holding

    @pytest.mark.parametrize("delete_blob", [None, lambda _: None], ids=["rows", "blobs"])
    async def test_a_hold_that_is_being_set_is_passed_by(
        self, db: Database, project: Project, later: Any, delete_blob: Any
    ) -> None:
        """Without waiting for it: the sweep goes on, and finds the hold the next time."""
        async with db.project(project.id) as session:
            ids = await expired(session, 3)
        async with db.project(project.id) as session:
            await repos.audit_artifacts.hold(session, ids[1])
            async with asyncio.timeout(1):
                result = await later(repos.audit_artifacts.prune_expired, delete_blob=delete_blob)
        assert result.pruned == 2
        async with db.project(project.id) as session:
            assert (await repos.audit_artifacts.prune_expired(session, delete_blob=delete_blob)).pruned == 0
            assert (await repos.audit_artifacts.get(session, ids[1])).legal_hold

    async def test_two_sweeps_share_the_work(self, db: Database, project: Project, later: Any) -> None:
        async with db.project(project.id) as session:
            await expired(session, 6)
        async with db.project(project.id) as session:
            first = await repos.audit_artifacts.prune_expired(session, limit=3)
            second = await later(repos.audit_artifacts.prune_expired, limit=6)
        assert (first.pruned, second.pruned) == (3, 3)

    async def test_a_hold_during_the_deletion_of_the_project_keeps_all(
        self, db: Database, project: Project, locks: Locks
    ) -> None:
        async with db.project(project.id) as session:
            artifact = await repos.audit_artifacts.record(session, an_artifact())
            await repos.qa_tickets.create(session, a_ticket())

        async def delete() -> None:
            async with db.admin(reason="a test") as admin:
                await repos.projects.delete(admin, project.id, despite_retention=True)

        async with db.project(project.id) as session:
            await repos.audit_artifacts.hold(session, artifact.id)
            deleting = asyncio.ensure_future(delete())
            await locks.until_waiting(deleting)
        with pytest.raises(RetentionLocked):
            await deleting
        async with db.project(project.id) as session:
            assert await repos.qa_tickets.count(session) == 1


class TestLedger:
    async def test_a_slug_is_not_taken_while_an_entry_of_its_former_project_is_on_its_way(
        self, db: Database, project: Project, locks: Locks
    ) -> None:
        async def delete() -> None:
            async with db.admin(reason="a test") as admin:
                await repos.projects.delete(admin, project.id)

        async with db.project(project.id) as session:
            await repos.spend_ledger.append(session, a_charge())
            deleting = asyncio.ensure_future(delete())
            await locks.until_waiting(deleting)
        await deleting
        async with db.admin(reason="a test") as admin:
            assert (await repos.spend_ledger.totals_by_project(admin))[project.slug] == Decimal("1.5")

    @pytest.mark.parametrize("many", [False, True])
    async def test_nothing_is_appended_to_a_project_that_goes(
        self, db: Database, project: Project, locks: Locks, later: Any, many: bool
    ) -> None:
        async with db.admin(reason="a test") as admin:
            await repos.projects.delete(admin, project.id)
            append = repos.spend_ledger.append_many if many else repos.spend_ledger.append
            appending = later(append, [a_charge()] if many else a_charge())
            await locks.until_waiting(appending)
        with pytest.raises(ProjectNotFound):
            await appending

    async def test_the_second_spender_sees_the_first(self, db: Database, project: Project, locks: Locks, later: Any) -> None:
        async with db.project(project.id) as session:
            await repos.spend_ledger.append(session, a_charge("a", "60"), cap=CAP)
            spending = later(repos.spend_ledger.append, a_charge("b", "60"), cap=CAP)
            await locks.until_waiting(spending)
        with pytest.raises(BudgetExceeded):
            await spending

    async def test_one_key_waits_for_the_other_writer(self, db: Database, project: Project, locks: Locks, later: Any) -> None:
        async with db.project(project.id) as session:
            first = await repos.spend_ledger.append(session, a_charge("a"))
            again = later(repos.spend_ledger.append, a_charge("a"))
            other = later(repos.spend_ledger.append, a_charge("a", "2"))
            await locks.until_waiting(again)
            await locks.until_waiting(other)
        assert (await again).id == first.id
        with pytest.raises(Conflict):
            await other


class TestMode:
    async def test_the_last_entry_is_of_the_last_change(self, db: Database, project: Project, later: Any) -> None:
        """Also when the unit that changes it last began first: entries are not stamped with the start of the unit."""
        async with db.project(project.id) as early:
            await repos.projects.current(early)
            await later(repos.projects.set_mode, ProjectMode.AUTHOR, **WHO)
            await repos.projects.set_mode(early, ProjectMode.TRIAGE, **WHO)
        async with db.project(project.id) as session:
            entries = (await repos.project_mode_logs.list(session)).items
            assert [entry.to_mode for entry in entries] == [ProjectMode.TRIAGE, ProjectMode.AUTHOR, ProjectMode.OBSERVE]
            assert (await repos.projects.current(session)).mode is entries[0].to_mode


class TestProfile:
    async def test_the_last_entry_is_of_the_last_version(self, db: Database, project: Project, later: Any) -> None:
        async def evolve(session: ProjectSession, version: int) -> None:
            update = ProjectProfileUpdate(summary=f"{version}")
            change = ProfileChange.LEARNED
            await repos.project_profiles.evolve(session, update, change=change, expected_version=version, **WHO)

        async with db.project(project.id) as session:
            await repos.project_profiles.create(session, a_profile(), **WHO)
        async with db.project(project.id) as early:
            await repos.project_profiles.current(early)
            await later(evolve, 1)
            await evolve(early, 2)
        async with db.project(project.id) as session:
            entries = (await repos.profile_evolution_logs.list(session)).items
            assert [entry.to_version for entry in entries] == [3, 2, 1]

    async def test_the_second_of_two_at_one_version_is_stale(
        self, db: Database, project: Project, locks: Locks, later: Any
    ) -> None:
        async with db.project(project.id) as session:
            await repos.project_profiles.create(session, a_profile(), **WHO)
        change = {"change": ProfileChange.LEARNED, "expected_version": 1, **WHO}
        async with db.project(project.id) as session:
            await repos.project_profiles.evolve(session, ProjectProfileUpdate(summary="a"), **change)
            second = later(repos.project_profiles.evolve, ProjectProfileUpdate(summary="b"), **change)
            await locks.until_waiting(second)
        with pytest.raises(StaleWrite):
            await second


class TestMarkDuplicate:
    async def test_two_chains_do_not_close_a_circle(self, db: Database, project: Project, later: Any) -> None:
        """a -> b and c -> d are there; b -> c and d -> a, at once, touch no ticket in common by name."""
        async with db.project(project.id) as session:
            a, b, c, d = [(await repos.qa_tickets.create(session, a_ticket())).id for _ in range(4)]
            await repos.qa_tickets.mark_duplicate(session, a, b)
            await repos.qa_tickets.mark_duplicate(session, c, d)

        async def mark(session: ProjectSession, id: Any, of: Any) -> None:
            await repos.qa_tickets.mark_duplicate(session, id, of)
            await asyncio.sleep(0.05)

        outcomes = await asyncio.gather(later(mark, b, c), later(mark, d, a), return_exceptions=True)
        assert sorted(type(outcome) for outcome in outcomes if outcome) == [Conflict]
