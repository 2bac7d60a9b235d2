"""Rules of the state machine: tickets and the attempts to fix them."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from derwin_db import repos
from derwin_db.errors import (
    Conflict,
    DerwinError,
    IllegalTransition,
    InvalidReference,
    NotFound,
    RetentionLocked,
    StaleWrite,
)
from derwin_db.models import Bucket, FixOutcome, FixStatus, QATicketUpdate, TicketStatus
from tests.repos.machine.base import KEPT, PICK, WHICH, Base
from tests.repos.machine.world import Row, World, count_by
from tests.repos.rows import a_ticket
from tests.repos.test_qa_fix_attempts import MOVES, after
from tests.repos.test_qa_ticket_states import LEGAL, OPEN

NAME = st.sampled_from(["ui_bug", "billing", "data"])
VERSION = st.sampled_from([None, None, 0, 1])
"""The expected version: none, the right one (0 off), or one that is off by 1."""


def stale(row: Row | None, off: int | None) -> tuple[int | None, bool]:
    """Return the expected version to give, and whether it is stale."""
    version = 1 if row is None else row["version"]
    return (None if off is None else version + off), bool(off)


class TicketRules(Base):
    @rule(which=WHICH, pick=PICK, with_run=st.booleans(), fingerprint=st.sampled_from([None, "a", "b"]), name=NAME, kept=KEPT)
    def create_ticket(self, which: int, pick: int, with_run: bool, fingerprint: str | None, name: str, kept: bool) -> None:
        world, other = self.take(which)
        run_id, run = world.pick("qa_runs", pick, other) if with_run else (None, {})
        data = a_ticket(run_id=run_id, fingerprint=fingerprint, classification=name)
        expected = InvalidReference if run is None else None
        done, row = self.act(world, lambda session: repos.qa_tickets.create(session, data), expected, kept=kept)
        if done:
            world.tables["qa_tickets"][row.id] = {
                **data.model_dump(),
                "status": TicketStatus.OPEN,
                "version": 1,
                "duplicate_of_id": None,
                "initial_bucket": None,
                "final_bucket": None,
            }

    @rule(which=WHICH, pick=PICK, name=NAME, off=VERSION, title=st.sampled_from(["x", "y"]), kept=KEPT)
    def update_ticket(self, which: int, pick: int, name: str, off: int | None, title: str, kept: bool) -> None:
        world, other = self.take(which)
        id, ticket = world.pick("qa_tickets", pick, other)
        version, is_stale = stale(ticket, off)
        expected = NotFound if ticket is None else StaleWrite if is_stale else None
        data = QATicketUpdate(classification=name, title=title)
        done, _ = self.act(
            world,
            lambda session: repos.qa_tickets.update(session, id, data, expected_version=version),
            expected,
            kept=kept,
        )
        if done and ticket is not None:
            ticket |= {"classification": name, "title": title, "version": ticket["version"] + 1}

    @rule(which=WHICH, pick=PICK, to=st.sampled_from(TicketStatus), off=VERSION, kept=KEPT)
    def transition(self, which: int, pick: int, to: TicketStatus, off: int | None, kept: bool) -> None:
        world, other = self.take(which)
        id, ticket = world.pick("qa_tickets", pick, other)
        version, is_stale = stale(ticket, off)
        expected: type[DerwinError] | None = None
        if to is TicketStatus.DUPLICATE:
            expected = IllegalTransition
        elif ticket is None:
            expected = NotFound
        elif is_stale:
            expected = StaleWrite
        elif (ticket["status"], to) not in LEGAL:
            expected = IllegalTransition
        done, row = self.act(
            world,
            lambda session: repos.qa_tickets.transition(session, id, to, expected_version=version),
            expected,
            kept=kept,
        )
        if done and ticket is not None:
            assert (row.resolved_at is not None) == (to is TicketStatus.RESOLVED)
            ticket |= {"status": to, "version": ticket["version"] + 1}

    @rule(which=WHICH, pick=PICK, bucket=st.sampled_from(Bucket), kept=KEPT)
    def assign_bucket(self, which: int, pick: int, bucket: Bucket, kept: bool) -> None:
        world, other = self.take(which)
        id, ticket = world.pick("qa_tickets", pick, other)
        expected = NotFound if ticket is None else None
        done, _ = self.act(world, lambda session: repos.qa_tickets.assign_bucket(session, id, bucket), expected, kept=kept)
        if done and ticket is not None:
            first = ticket["initial_bucket"] or bucket
            ticket |= {"final_bucket": bucket, "initial_bucket": first, "version": ticket["version"] + 1}

    @rule(which=WHICH, pick=PICK, pick_other=PICK, kept=KEPT)
    def mark_duplicate(self, which: int, pick: int, pick_other: int, kept: bool) -> None:
        world, other = self.take(which)
        id, ticket = world.pick("qa_tickets", pick, other)
        of, target = world.pick("qa_tickets", pick_other, other)
        expected: type[DerwinError] | None = None
        if id == of:
            expected = Conflict
        elif ticket is None:
            expected = NotFound
        elif target is None:
            expected = InvalidReference
        elif ticket["status"] not in OPEN:
            expected = IllegalTransition
        elif id in _chain(world, of):
            expected = Conflict
        done, _ = self.act(world, lambda session: repos.qa_tickets.mark_duplicate(session, id, of), expected, kept=kept)
        if done and ticket is not None:
            ticket |= {"status": TicketStatus.DUPLICATE, "duplicate_of_id": of, "version": ticket["version"] + 1}

    @rule(which=WHICH, number=st.integers(0, 5))
    def close_a_circle(self, which: int, number: int) -> None:
        """From the end of a chain back to one of its members: always refused."""
        world, _ = self.take(which)
        tickets = world.tables["qa_tickets"]
        members = [id for id, row in tickets.items() if row["duplicate_of_id"] is not None]
        if members:
            member = members[number % len(members)]
            (end,) = [id for id in _chain(world, member) if tickets[id]["duplicate_of_id"] is None]
            expected = Conflict if tickets[end]["status"] in OPEN else IllegalTransition
            self.act(world, lambda session: repos.qa_tickets.mark_duplicate(session, end, member), expected)

    @rule(which=WHICH, pick=PICK, kept=KEPT)
    def delete_ticket(self, which: int, pick: int, kept: bool) -> None:
        world, other = self.take(which)
        id, ticket = world.pick("qa_tickets", pick, other)
        attempts = world.where("qa_fix_attempts", ticket_id=id)
        evidence = world.tables["audit_artifacts"].values()
        is_kept = any(row["ticket_id"] == id or row["fix_attempt_id"] in attempts for row in evidence)
        expected = NotFound if ticket is None else RetentionLocked if is_kept else None
        if self.act(world, lambda session: repos.qa_tickets.delete(session, id), expected, kept=kept)[0]:
            del world.tables["qa_tickets"][id]
            for attempt in attempts:
                del world.tables["qa_fix_attempts"][attempt]
            for signal in world.where("raw_signals", ticket_id=id):
                world.tables["raw_signals"][signal]["ticket_id"] = None
            for duplicate in world.where("qa_tickets", duplicate_of_id=id):
                world.tables["qa_tickets"][duplicate]["duplicate_of_id"] = None

    @rule(which=WHICH, fingerprint=st.sampled_from(["a", "b", "c"]))
    def look_up(self, which: int, fingerprint: str) -> None:
        world, _ = self.take(which)
        same = world.where("qa_tickets", fingerprint=fingerprint)
        _, row = self.act(world, lambda session: repos.qa_tickets.find_by_fingerprint(session, fingerprint))
        assert (row and row.id) == (same[-1] if same else None), "the newest one"
        _, counts = self.act(world, repos.qa_tickets.counts_by_status)
        assert counts == {status: count_by(world.tables["qa_tickets"], "status")[status] for status in TicketStatus}


class AttemptRules(Base):
    @rule(which=WHICH, pick=PICK, kept=KEPT)
    def dispatch(self, which: int, pick: int, kept: bool) -> None:
        world, other = self.take(which)
        id, ticket = world.pick("qa_tickets", pick, other)
        expected: type[DerwinError] | None = None
        if ticket is None:
            expected = NotFound
        elif ticket["status"] in (TicketStatus.DUPLICATE, TicketStatus.REJECTED, TicketStatus.WONT_FIX):
            expected = IllegalTransition
        done, row = self.act(world, lambda session: repos.qa_fix_attempts.dispatch(session, id, model="m"), expected, kept=kept)
        if done:
            number = len(world.where("qa_fix_attempts", ticket_id=id)) + 1
            state = {"attempt_no": number, "status": FixStatus.DISPATCHED, "outcome": None}
            world.tables["qa_fix_attempts"][row.id] = {"ticket_id": id, **state}

    @rule(which=WHICH, pick=PICK, move=st.sampled_from(["start", "start", *MOVES]), kept=KEPT)
    def move_attempt(self, which: int, pick: int, move: str, kept: bool) -> None:
        world, other = self.take(which)
        id, row = world.pick("qa_fix_attempts", pick, other)
        to = None if row is None else after(move, (row["status"], row["outcome"]))
        expected = NotFound if row is None else IllegalTransition if to is None else None
        done, _ = self.act(world, lambda session: MOVES[move](session, id), expected, kept=kept)
        if done and row is not None and to is not None:
            row |= {"status": to[0], "outcome": to[1]}

    @rule(which=WHICH, pick=PICK, outcome=st.sampled_from(FixOutcome))
    def run_attempt(self, which: int, pick: int, outcome: FixOutcome) -> None:
        """Several verbs in one unit: an attempt from its dispatch to its end."""
        world, other = self.take(which)
        id, ticket = world.pick("qa_tickets", pick, other)
        if ticket is None or ticket["status"] not in OPEN:
            return

        async def run(session: Any) -> Any:
            row = await repos.qa_fix_attempts.dispatch(session, id, model="m")
            await repos.qa_fix_attempts.start(session, row.id)
            return await repos.qa_fix_attempts.conclude(session, row.id, outcome)

        _, row = self.act(world, run)
        number = len(world.where("qa_fix_attempts", ticket_id=id)) + 1
        state = {"attempt_no": number, "status": row.status, "outcome": outcome}
        world.tables["qa_fix_attempts"][row.id] = {"ticket_id": id, **state}


def _chain(world: World, id: Any) -> set[Any]:
    seen = set()
    while id is not None:
        seen.add(id)
        id = world.tables["qa_tickets"][id]["duplicate_of_id"]
    return seen
