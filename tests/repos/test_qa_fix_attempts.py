"""qa_fix_attempts: dispatches, outcomes, and every edge of the state machine. What they prove: test_trust.py."""

from decimal import Decimal
from typing import Any

import pytest

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import IllegalTransition, InvalidInput, NotFound
from derwin_db.fields.scalars import new_id
from derwin_db.models import DiffStat, FixOutcome, FixStatus, Project, QAFixAttempt, QATicket, TicketStatus
from tests.repos.rows import a_ticket
from tests.repos.test_qa_ticket_states import in_status

Out, S = FixOutcome, FixStatus
STATES: list[tuple[FixStatus, FixOutcome | None]] = [
    (S.DISPATCHED, None),
    (S.RUNNING, None),
    (S.CANCELLED, None),
    *((S.SUCCEEDED if outcome in (Out.MERGED, Out.PR_OPENED) else S.FAILED, outcome) for outcome in Out),
]
"""Every state that an attempt can be in, with its outcome."""

MOVES: dict[str, Any] = {
    "start": repos.qa_fix_attempts.start,
    "cancel": repos.qa_fix_attempts.cancel,
    "mark_reverted": repos.qa_fix_attempts.mark_reverted,
    **{f"conclude {o}": lambda session, key, o=o: repos.qa_fix_attempts.conclude(session, key, o) for o in Out},
}


def after(move: str, state: tuple[FixStatus, FixOutcome | None]) -> tuple[FixStatus, FixOutcome | None] | None:
    """Where this move leads from there; None: nowhere."""
    status, outcome = state
    if move == "start":
        return (S.RUNNING, None) if status is S.DISPATCHED else None
    if move == "cancel":
        return (S.CANCELLED, None) if status in (S.DISPATCHED, S.RUNNING) else None
    if move == "mark_reverted":
        return (S.FAILED, Out.REVERTED) if outcome is Out.MERGED else None
    to = Out(move.removeprefix("conclude "))
    if status is S.RUNNING or (outcome is Out.PR_OPENED and to in (Out.MERGED, Out.REJECTED)):
        return (S.SUCCEEDED if to in (Out.MERGED, Out.PR_OPENED) else S.FAILED, to)
    return None


EDGES = [(move, state, after(move, state)) for move in MOVES for state in STATES]


@pytest.fixture
async def ticket(session: ProjectSession) -> QATicket:
    return await repos.qa_tickets.create(session, a_ticket())


async def in_state(session: ProjectSession, state: tuple[FixStatus, FixOutcome | None]) -> QAFixAttempt:
    ticket = await repos.qa_tickets.create(session, a_ticket())
    row = await repos.qa_fix_attempts.dispatch(session, ticket.id, model="m")
    if state[0] is S.CANCELLED:
        return await repos.qa_fix_attempts.cancel(session, row.id)
    if state[0] is not S.DISPATCHED:
        row = await repos.qa_fix_attempts.start(session, row.id)
    if state[1] is not None:
        row = await repos.qa_fix_attempts.conclude(session, row.id, state[1])
    return row


class TestStateMachine:
    def test_there_are_as_many_edges_as_the_schema_names(self) -> None:
        assert sum(to is not None for _, _, to in EDGES) == 1 + 2 + 1 + 7 + 2

    @pytest.mark.parametrize(("move", "state", "to"), EDGES)
    async def test_legal_moves_lead_there_and_all_others_are_refused(
        self, session: ProjectSession, move: str, state: Any, to: Any
    ) -> None:
        attempt = await in_state(session, state)
        assert (attempt.status, attempt.outcome) == state
        if to is not None:
            row = await MOVES[move](session, attempt.id)
            assert (row.status, row.outcome) == to
            assert await repos.qa_fix_attempts.get(session, attempt.id) == row
        else:
            trust = [row async for row in repos.classification_trust.stream(session)]
            with pytest.raises(IllegalTransition):
                await MOVES[move](session, attempt.id)
            assert await repos.qa_fix_attempts.get(session, attempt.id) == attempt
            assert [row async for row in repos.classification_trust.stream(session)] == trust

    @pytest.mark.parametrize("move", MOVES)
    async def test_an_unknown_attempt_is_not_found(self, session: ProjectSession, move: str) -> None:
        with pytest.raises(NotFound):
            await MOVES[move](session, new_id())


class TestDispatch:
    async def test_writes_the_next_attempt(self, session: ProjectSession, ticket: QATicket) -> None:
        prompt = new_id()
        first = await repos.qa_fix_attempts.dispatch(session, ticket.id, model="m")
        second = await repos.qa_fix_attempts.dispatch(session, ticket.id, model="n", branch="fix/2", prompt_artifact_id=prompt)
        assert [(row.attempt_no, row.model, row.branch, row.prompt_artifact_id) for row in (first, second)] == [
            (1, "m", None, None),
            (2, "n", "fix/2", prompt),
        ]
        assert (second.status, second.ticket_id, second.cost_usd) == (S.DISPATCHED, ticket.id, Decimal(0))
        assert {second.outcome, second.pr_url, second.diff_stat, second.started_at, second.concluded_at} == {None}
        assert await repos.qa_tickets.get(session, ticket.id) == ticket

    async def test_numbers_are_of_one_ticket(self, session: ProjectSession, ticket: QATicket) -> None:
        await repos.qa_fix_attempts.dispatch(session, ticket.id, model="m")
        other = await repos.qa_tickets.create(session, a_ticket())
        assert (await repos.qa_fix_attempts.dispatch(session, other.id, model="m")).attempt_no == 1

    @pytest.mark.parametrize("status", TicketStatus)
    async def test_a_ticket_that_is_closed_gets_none(self, session: ProjectSession, status: TicketStatus) -> None:
        ticket = await in_status(session, status)
        if status in (TicketStatus.DUPLICATE, TicketStatus.REJECTED, TicketStatus.WONT_FIX):
            with pytest.raises(IllegalTransition):
                await repos.qa_fix_attempts.dispatch(session, ticket.id, model="m")
            assert await repos.qa_fix_attempts.count(session) == 0
        else:
            assert (await repos.qa_fix_attempts.dispatch(session, ticket.id, model="m")).attempt_no == 1

    async def test_an_unknown_or_foreign_ticket_is_not_found(
        self, db: Database, session: ProjectSession, other_project: Project
    ) -> None:
        async with db.project(other_project.id) as other:
            foreign = await repos.qa_tickets.create(other, a_ticket())
        for id in (new_id(), foreign.id):
            with pytest.raises(NotFound):
                await repos.qa_fix_attempts.dispatch(session, id, model="m")

    @pytest.mark.parametrize("bad", [{"model": ""}, {"model": None}, {"branch": ""}, {"prompt_artifact_id": "x"}])
    async def test_bad_input_is_refused(self, session: ProjectSession, ticket: QATicket, bad: dict[str, Any]) -> None:
        with pytest.raises(InvalidInput, match=next(iter(bad))):
            await repos.qa_fix_attempts.dispatch(session, ticket.id, **{"model": "m", **bad})


class TestStart:
    async def test_stamps(self, session: ProjectSession) -> None:
        attempt = await in_state(session, (S.DISPATCHED, None))
        row = await repos.qa_fix_attempts.start(session, attempt.id)
        changed = {"status": S.RUNNING, "started_at": row.updated_at, "updated_at": row.updated_at}
        assert row == attempt.model_copy(update=changed)


class TestConclude:
    GIVEN = {
        "branch": "fix/1",
        "pr_url": "https://git.example/pr/1",
        "diff_stat": DiffStat(files=1, insertions=2, deletions=3),
        "input_tokens": 10,
        "output_tokens": 20,
        "cost_usd": Decimal("0.123456"),
        "error": "no",
    }

    async def test_keeps_what_is_given(self, session: ProjectSession) -> None:
        attempt = await in_state(session, (S.RUNNING, None))
        row = await repos.qa_fix_attempts.conclude(session, attempt.id, Out.TESTS_FAILED, **self.GIVEN)
        ended = {"status": S.FAILED, "outcome": Out.TESTS_FAILED, "concluded_at": row.updated_at, "updated_at": row.updated_at}
        assert row == attempt.model_copy(update={**self.GIVEN, **ended})

    @pytest.mark.parametrize("name", GIVEN)
    async def test_what_is_not_given_stays(self, session: ProjectSession, name: str) -> None:
        attempt = await in_state(session, (S.RUNNING, None))
        await repos.qa_fix_attempts.conclude(session, attempt.id, Out.PR_OPENED, **self.GIVEN)
        changed = {"error": "later", "pr_url": None, "diff_stat": None, "branch": None}.get(name, self.GIVEN[name])
        row = await repos.qa_fix_attempts.conclude(session, attempt.id, Out.MERGED, **{name: changed})
        assert {key: getattr(row, key) for key in self.GIVEN} == {**self.GIVEN, name: changed}

    async def test_a_second_conclusion_is_stamped_anew(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            first = await in_state(session, (S.SUCCEEDED, Out.PR_OPENED))
        async with db.project(project.id) as session:
            second = await repos.qa_fix_attempts.conclude(session, first.id, Out.REJECTED)
        assert first.concluded_at is not None
        assert second.concluded_at is not None
        assert second.concluded_at > first.concluded_at

    async def test_never_moves_the_ticket(self, session: ProjectSession, ticket: QATicket) -> None:
        attempt = await repos.qa_fix_attempts.dispatch(session, ticket.id, model="m")
        await repos.qa_fix_attempts.start(session, attempt.id)
        await repos.qa_fix_attempts.conclude(session, attempt.id, Out.MERGED)
        assert await repos.qa_tickets.get(session, ticket.id) == ticket

    @pytest.mark.parametrize(
        "bad",
        [
            {"outcome": "merged"},
            {"outcome": None},
            {"cost_usd": 0.5},
            {"cost_usd": "-1"},
            {"cost_usd": None},
            {"input_tokens": -1},
            {"output_tokens": True},
            {"pr_url": "javascript:alert(1)"},
            {"diff_stat": {"lines": 1}},
            {"error": "\0"},
            {"branch": ""},
        ],
    )
    async def test_bad_input_is_refused(self, session: ProjectSession, bad: dict[str, Any]) -> None:
        attempt = await in_state(session, (S.RUNNING, None))
        with pytest.raises(InvalidInput, match=next(iter(bad))):
            await repos.qa_fix_attempts.conclude(session, attempt.id, **{"outcome": Out.MERGED, **bad})
        assert await repos.qa_fix_attempts.get(session, attempt.id) == attempt


class TestMarkReverted:
    async def test_keeps_the_time_of_the_merge(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            merged = await in_state(session, (S.SUCCEEDED, Out.MERGED))
        async with db.project(project.id) as session:
            row = await repos.qa_fix_attempts.mark_reverted(session, merged.id)
        changed = {"status": S.FAILED, "outcome": Out.REVERTED, "updated_at": row.updated_at}
        assert row == merged.model_copy(update=changed)
