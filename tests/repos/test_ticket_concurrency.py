"""Tickets and attempts under many tasks at once, each in a unit of work of its own: what must hold in every interleaving."""

import asyncio
from typing import Any

import pytest

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import StaleWrite
from derwin_db.models import (
    FixOutcome,
    Project,
    QATicketUpdate,
    TicketStatus,
)
from tests.repos.conftest import AtOnce, Later, Locks, kinds
from tests.repos.rows import a_ticket
from tests.repos.rules.test_trust import attempt


class TestTickets:
    async def test_of_updates_at_one_version_one_wins(self, db: Database, project: Project, at_once: AtOnce) -> None:
        async with db.project(project.id) as session:
            ticket = await repos.qa_tickets.create(session, a_ticket())

        async def update(session: ProjectSession, title: str) -> Any:
            return await repos.qa_tickets.update(session, ticket.id, QATicketUpdate(title=title), expected_version=1)

        results = await at_once(update, *((f"{n}",) for n in range(10)))
        assert kinds(results) == {"QATicket": 1, "StaleWrite": 9}
        (winner,) = [row for row in results if not isinstance(row, StaleWrite)]
        async with db.project(project.id) as session:
            assert await repos.qa_tickets.get(session, ticket.id) == winner

    async def test_updates_without_a_version_all_count(self, db: Database, project: Project, at_once: AtOnce) -> None:
        async with db.project(project.id) as session:
            ticket = await repos.qa_tickets.create(session, a_ticket())
        calls = [(ticket.id, QATicketUpdate(title=f"{n}", classification=f"c{n % 3}")) for n in range(20)]
        versions = [row.version for row in await at_once(repos.qa_tickets.update, *calls)]
        assert sorted(versions) == list(range(2, 22))

    async def test_a_transition_happens_once(self, db: Database, project: Project, at_once: AtOnce) -> None:
        async with db.project(project.id) as session:
            ticket = await repos.qa_tickets.create(session, a_ticket())
        results = await at_once(repos.qa_tickets.transition, *((ticket.id, TicketStatus.TRIAGED) for _ in range(10)))
        assert kinds(results) == {"QATicket": 1, "IllegalTransition": 9}

    @pytest.mark.parametrize("size", [2, 3, 5, 8])
    async def test_duplicates_form_no_circle(self, db: Database, project: Project, at_once: AtOnce, size: int) -> None:
        async with db.project(project.id) as session:
            ids = [(await repos.qa_tickets.create(session, a_ticket())).id for _ in range(size)]
        calls = [(one, ids[(n + step) % size]) for n, one in enumerate(ids) for step in range(1, size)]
        results = await at_once(repos.qa_tickets.mark_duplicate, *calls)
        assert set(kinds(results)) <= {"QATicket", "Conflict", "IllegalTransition"}
        async with db.project(project.id) as session:
            parents = {row.id: row.duplicate_of_id async for row in repos.qa_tickets.stream(session)}
        for start in ids:
            seen, at = set(), start
            while at is not None:
                assert at not in seen, "a circle"
                seen.add(at)
                at = parents[at]
        assert sum(parent is None for parent in parents.values()) >= 1

    @pytest.mark.parametrize("place", [0, 1], ids=["the duplicate", "the other one"])
    async def test_a_duplicate_waits_for_a_ticket_that_another_unit_changes(
        self, db: Database, project: Project, later: Later, locks: Locks, place: int
    ) -> None:
        async with db.project(project.id) as session:
            ids = [(await repos.qa_tickets.create(session, a_ticket())).id for _ in range(2)]
        async with db.project(project.id) as session:
            await repos.qa_tickets.transition(session, ids[place], TicketStatus.TRIAGED)
            marking = later(repos.qa_tickets.mark_duplicate, *ids)
            await locks.until_waiting(marking)
        assert (await marking).duplicate_of_id == ids[1]

    async def test_deletions_and_duplicates_do_not_deadlock(self, db: Database, project: Project, at_once: AtOnce) -> None:
        async with db.project(project.id) as session:
            ids = [(await repos.qa_tickets.create(session, a_ticket())).id for _ in range(24)]
            for one, other in zip(ids[:12:2], ids[1:12:2], strict=True):
                await repos.qa_tickets.mark_duplicate(session, one, other)

        async def delete_or_mark(session: ProjectSession, n: int) -> Any:
            if n % 2:
                return await repos.qa_tickets.delete(session, ids[n])
            return await repos.qa_tickets.mark_duplicate(session, ids[12 + n], ids[n])

        results = await at_once(delete_or_mark, *((n,) for n in range(12)))
        assert kinds(results) == {"NoneType": 6, "QATicket": 6}


class TestFixAttempts:
    async def test_are_numbered_without_gaps(self, db: Database, project: Project, at_once: AtOnce) -> None:
        async with db.project(project.id) as session:
            ticket = await repos.qa_tickets.create(session, a_ticket())

        async def dispatch(session: ProjectSession) -> int:
            return (await repos.qa_fix_attempts.dispatch(session, ticket.id, model="m")).attempt_no

        assert sorted(await at_once(dispatch, *(() for _ in range(40)))) == list(range(1, 41))

    async def test_trust_is_what_its_evidence_says(self, db: Database, project: Project, at_once: AtOnce) -> None:
        async with db.project(project.id) as session:
            attempts = [await attempt(session, f"c{n % 2}") for n in range(24)]
        outcomes = [FixOutcome.MERGED, FixOutcome.ERROR, FixOutcome.PR_OPENED, FixOutcome.MERGED]

        async def work(n: int) -> list[Any]:
            """Each verb in a unit of its own, and none of them may wait in a circle."""
            id, ticket = attempts[n].id, attempts[n].ticket_id
            verbs: list[tuple[Any, ...]] = [(repos.qa_fix_attempts.conclude, id, outcomes[n % 4])]
            if n % 8 == 0:
                verbs.append((repos.qa_fix_attempts.mark_reverted, id))
            if n % 3 == 0:
                verbs.append((repos.qa_tickets.update, ticket, QATicketUpdate(classification=f"c{(n + 1) % 2}")))
            if n % 5 == 0:
                verbs.append((repos.qa_tickets.delete, ticket))
            return [(await at_once(verb, tuple(args)))[0] for verb, *args in verbs]

        results = [result for results in await asyncio.gather(*(work(n) for n in range(24))) for result in results]
        assert set(kinds(results)) == {"QAFixAttempt", "QATicket", "NoneType"}
        async with db.project(project.id) as session:
            before = {row.classification: row async for row in repos.classification_trust.stream(session)}
            await repos.classification_trust.refresh(session)
            after = {row.classification: row async for row in repos.classification_trust.stream(session)}
        assert set(before) == {"c0", "c1"}
        for name, row in before.items():
            assert (row.attempts, row.successes, row.reverts, row.score) == (
                after[name].attempts,
                after[name].successes,
                after[name].reverts,
                after[name].score,
            )
        assert sum(row.attempts for row in after.values()) > 0
