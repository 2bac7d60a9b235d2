"""Two units of work that meet: each interleaving is forced, by waiting until the second one waits for a lock."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import BudgetExceeded, Conflict, InvalidReference, NotFound, ProjectNotFound, StaleWrite
from derwin_db.models import (
    FixOutcome,
    ProfileChange,
    Project,
    ProjectMode,
    ProjectProfileUpdate,
    QATicketUpdate,
    SpendCap,
)
from tests.repos.conftest import Later, Locks, note_backend
from tests.repos.rows import a_charge, a_doc, a_policy, a_profile, a_run, a_ticket, an_artifact, signals

WHO = {"actor": "ada", "reason": "a test"}
CAP = SpendCap(Decimal(100), timedelta(days=1))


class TestAttach:
    async def test_all_or_none_when_a_signal_goes_meanwhile(
        self, db: Database, project: Project, locks: Locks, later: Later
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

    async def test_to_a_ticket_that_goes_meanwhile(self, db: Database, project: Project, locks: Locks, later: Later) -> None:
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


class TestIngest:
    async def test_into_a_run_that_goes_meanwhile(self, db: Database, project: Project, locks: Locks, later: Later) -> None:
        async with db.project(project.id) as session:
            run = await repos.qa_runs.enqueue(session, a_run())
        async with db.project(project.id) as session:
            await repos.qa_runs.delete(session, run.id)
            ingesting = later(repos.raw_signals.ingest, run.id, signals("a", "b"))
            await locks.until_waiting(ingesting)
        with pytest.raises(NotFound):
            await ingesting


class TestIngestOfAKnownContent:
    @pytest.fixture
    async def going(self, db: Database, project: Project, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The document that stands in the way is deleted before it is read, for as often as the list says, and is back then."""
        times = [0]
        fetch = ProjectSession.fetch

        async def fetched(session: ProjectSession, statement: Any, values: Any) -> Any:
            if statement.name == "ingested_docs.ingest" and "id" not in values and times[0]:
                times[0] -= 1
                async with db.project(project.id) as other:
                    (doc,) = (await repos.ingested_docs.list(other)).items
                    await repos.ingested_docs.delete(other, doc.id)
                rows = await fetch(session, statement, values)
                if times[0]:
                    async with db.project(project.id) as other:
                        await repos.ingested_docs.ingest(other, a_doc())
                return rows
            return await fetch(session, statement, values)

        async with db.project(project.id) as session:
            await repos.ingested_docs.ingest(session, a_doc())
        monkeypatch.setattr(ProjectSession, "fetch", fetched)
        return times

    async def test_that_is_deleted_meanwhile_is_written(self, db: Database, project: Project, going: list[int]) -> None:
        going[0] = 2
        async with db.project(project.id) as session:
            row = await repos.ingested_docs.ingest(session, a_doc(title="again"))
        assert (row.title, going) == ("again", [0])

    async def test_that_is_deleted_again_and_again_says_so(self, db: Database, project: Project, going: list[int]) -> None:
        going[0] = 3
        async with db.project(project.id) as session:
            with pytest.raises(Conflict, match="is being deleted at the same time"):
                await repos.ingested_docs.ingest(session, a_doc())


class TestDeleteDocument:
    async def test_that_the_log_comes_to_name(self, db: Database, project: Project, locks: Locks, later: Later) -> None:
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
        self, db: Database, project: Project, locks: Locks, later: Later
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
        self, db: Database, project: Project, locks: Locks, later: Later
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
        self, db: Database, project: Project, locks: Locks, later: Later
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
        self, db: Database, project: Project, locks: Locks, later: Later
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

    async def test_conclusions_of_one_ticket_do_not_wait_to_move_it(
        self, db: Database, project: Project, locks: Locks, later: Later
    ) -> None:
        """Each concludes and then changes the ticket, as workers do: with a lock that is upgraded they would deadlock."""
        async with db.project(project.id) as session:
            ticket, first = await self._concludable(session, classification="one")
            second = await repos.qa_fix_attempts.dispatch(session, ticket.id, model="m")
            await repos.qa_fix_attempts.start(session, second.id)

        concluded, go_on = (asyncio.Event(), asyncio.Event()), asyncio.Event()

        async def work(session: ProjectSession, attempt: Any, done: asyncio.Event) -> None:
            await repos.qa_fix_attempts.conclude(session, attempt.id, FixOutcome.ERROR)
            done.set()
            await go_on.wait()
            await repos.qa_tickets.update(session, ticket.id, QATicketUpdate(actual="tried"))

        one = later(work, first, concluded[0])
        await asyncio.wait_for(concluded[0].wait(), 10)
        other = later(work, second, concluded[1])
        await locks.until_met(concluded[1], other)
        go_on.set()
        await asyncio.gather(one, other)
        await self._check(db, project, {"one": 2})


class TestLedger:
    async def test_a_slug_is_not_taken_while_an_entry_of_its_former_project_is_on_its_way(
        self, db: Database, project: Project, locks: Locks
    ) -> None:
        async def delete() -> None:
            async with db.admin(reason="a test") as admin:
                await note_backend(admin)
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
        self, db: Database, project: Project, locks: Locks, later: Later, many: bool
    ) -> None:
        async with db.admin(reason="a test") as admin:
            await repos.projects.delete(admin, project.id)
            append = repos.spend_ledger.append_many if many else repos.spend_ledger.append
            appending = later(append, [a_charge()] if many else a_charge())
            await locks.until_waiting(appending)
        with pytest.raises(ProjectNotFound):
            await appending

    async def test_the_second_spender_sees_the_first(self, db: Database, project: Project, locks: Locks, later: Later) -> None:
        async with db.project(project.id) as session:
            await repos.spend_ledger.append(session, a_charge("a", "60"), cap=CAP)
            spending = later(repos.spend_ledger.append, a_charge("b", "60"), cap=CAP)
            await locks.until_waiting(spending)
        with pytest.raises(BudgetExceeded):
            await spending

    async def test_one_key_waits_for_the_other_writer(self, db: Database, project: Project, locks: Locks, later: Later) -> None:
        async with db.project(project.id) as session:
            first = await repos.spend_ledger.append(session, a_charge("a"))
            again = later(repos.spend_ledger.append, a_charge("a"))
            other = later(repos.spend_ledger.append, a_charge("a", "2"))
            await locks.until_waiting(again)
            await locks.until_waiting(other)
        assert (await again).id == first.id
        with pytest.raises(Conflict):
            await other


class TestAProjectThatGoes:
    async def test_takes_no_further_row_of_a_unit_that_was_open_before(self, db: Database, project: Project) -> None:
        calls: dict[str, Callable[[ProjectSession], Awaitable[object]]] = {
            "an artifact": lambda session: repos.audit_artifacts.record(session, an_artifact()),
            "tickets": lambda session: repos.qa_tickets.create_many(session, [a_ticket(), a_ticket()]),
            "a policy": lambda session: repos.policies.activate(session, a_policy()),
            "a mode": lambda session: repos.projects.set_mode(session, ProjectMode.AUTHOR, **WHO),
            "a run": lambda session: repos.qa_runs.enqueue(session, a_run()),
            "a charge": lambda session: repos.spend_ledger.append(session, a_charge()),
            "a charge with a cap": lambda session: repos.spend_ledger.append(session, a_charge(), cap=CAP),
        }
        refused = set()
        async with db.project(project.id) as session:
            async with session.savepoint():  # the project is seen
                pass
            async with db.admin(reason="a test") as admin:
                await repos.projects.delete(admin, project.id)
            for name, call in calls.items():
                with contextlib.suppress(ProjectNotFound):
                    async with session.savepoint():
                        await call(session)
                        refused.add(f"{name} was taken")
        assert not refused


class TestMode:
    async def test_the_last_entry_is_of_the_last_change(self, db: Database, project: Project, later: Later) -> None:
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
    async def test_the_last_entry_is_of_the_last_version(self, db: Database, project: Project, later: Later) -> None:
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
        self, db: Database, project: Project, locks: Locks, later: Later
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
    async def test_two_chains_do_not_close_a_circle(self, db: Database, project: Project, locks: Locks, later: Later) -> None:
        """a -> b and c -> d are there; b -> c and d -> a, at once, touch no ticket in common by name."""
        async with db.project(project.id) as session:
            a, b, c, d = [(await repos.qa_tickets.create(session, a_ticket())).id for _ in range(4)]
            await repos.qa_tickets.mark_duplicate(session, a, b)
            await repos.qa_tickets.mark_duplicate(session, c, d)

        marked, go_on = asyncio.Event(), asyncio.Event()

        async def mark(session: ProjectSession) -> None:
            await repos.qa_tickets.mark_duplicate(session, d, a)
            marked.set()
            await go_on.wait()

        one = later(mark)
        await asyncio.wait_for(marked.wait(), 10)
        other = later(repos.qa_tickets.mark_duplicate, b, c)
        await locks.until_waiting(other)
        go_on.set()
        await one
        with pytest.raises(Conflict):
            await other

    async def test_what_a_chain_has_grown_by_is_not_waited_for(
        self, db: Database, project: Project, locks: Locks, later: Later
    ) -> None:
        """c becomes a duplicate of d while b waits to become one of c; somebody else holds d: waiting could close a ring."""
        async with db.project(project.id) as session:
            b, c, d = [(await repos.qa_tickets.create(session, a_ticket())).id for _ in range(3)]
        marked, holds, go_on, end = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def hold(session: ProjectSession) -> None:
            await repos.qa_tickets.update(session, d, QATicketUpdate(actual="held"))
            holds.set()
            await end.wait()

        async def mark(session: ProjectSession) -> None:
            """By hand: the verb would wait for d, and whether `hold` or the other one then gets it is luck."""
            await session.sql.execute(
                sa.text("UPDATE qa_tickets SET status = 'DUPLICATE', duplicate_of_id = :d WHERE id = :c"), {"c": c, "d": d}
            )
            marked.set()
            await go_on.wait()

        holding = later(hold)
        await asyncio.wait_for(holds.wait(), 10)
        one = later(mark)
        await asyncio.wait_for(marked.wait(), 10)
        other = later(repos.qa_tickets.mark_duplicate, b, c)
        await locks.until_waiting(other)
        go_on.set()
        await one
        try:
            with pytest.raises(Conflict):
                await asyncio.wait_for(other, 10)
        finally:
            end.set()
            await holding
