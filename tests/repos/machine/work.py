"""Rules of the state machine: runs and their signals."""

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from derwin_db import repos
from derwin_db.errors import Conflict, DerwinError, IllegalTransition, InvalidReference, NotFound, RetentionLocked
from derwin_db.models import IngestResult, RunStats, RunStatus, SignalStatus
from tests.repos.machine.base import KEPT, PICK, WHICH, Base
from tests.repos.rows import a_run, signals

WORKER = st.sampled_from(["ada", "bob"])
FINGERPRINTS = st.lists(st.sampled_from("abcdef"), max_size=6)


class RunRules(Base):
    @rule(which=WHICH, kept=KEPT)
    def enqueue(self, which: int, kept: bool) -> None:
        world, _ = self.take(which)
        done, row = self.act(world, lambda session: repos.qa_runs.enqueue(session, a_run()), kept=kept)
        if done:
            world.tables["qa_runs"][row.id] = {"status": RunStatus.QUEUED, "claimed_by": None, "mode": world.mode}

    @rule(which=WHICH, worker=WORKER, kept=KEPT)
    def claim(self, which: int, worker: str, kept: bool) -> None:
        world, _ = self.take(which)
        queued = world.where("qa_runs", status=RunStatus.QUEUED)
        done, row = self.act(world, lambda session: repos.qa_runs.claim(session, worker), kept=kept)
        if done:
            assert (row and row.id) == (queued[0] if queued else None), "the oldest one"
            if row:
                world.tables["qa_runs"][row.id] |= {"status": RunStatus.RUNNING, "claimed_by": worker, "mode": world.mode}

    @rule(which=WHICH, pick=PICK, worker=WORKER, verb=st.sampled_from(["heartbeat", "complete", "fail", "cancel"]), kept=KEPT)
    def end_run(self, which: int, pick: int, worker: str, verb: str, kept: bool) -> None:
        world, other = self.take(which)
        id, run = world.pick("qa_runs", pick, other)
        calls: dict[str, Any] = {
            "heartbeat": lambda session: repos.qa_runs.heartbeat(session, id, worker=worker),
            "complete": lambda session: repos.qa_runs.complete(session, id, RunStats(), worker=worker),
            "fail": lambda session: repos.qa_runs.fail(session, id, "no", worker=worker),
            "cancel": lambda session: repos.qa_runs.cancel(session, id),
        }
        expected: type[DerwinError] | None = None
        if run is None:
            expected = NotFound
        elif verb == "cancel":
            expected = None if run["status"] in (RunStatus.QUEUED, RunStatus.RUNNING) else IllegalTransition
        elif run["status"] is not RunStatus.RUNNING:
            expected = IllegalTransition
        elif run["claimed_by"] != worker:
            expected = Conflict
        done, _ = self.act(world, calls[verb], expected, kept=kept)
        if done and run is not None and verb != "heartbeat":
            run["status"] = {"complete": RunStatus.COMPLETED, "fail": RunStatus.FAILED, "cancel": RunStatus.CANCELLED}[verb]

    @rule(which=WHICH, older_than=st.sampled_from([timedelta(microseconds=1), timedelta(days=1)]), kept=KEPT)
    def requeue_stalled(self, which: int, older_than: timedelta, kept: bool) -> None:
        world, _ = self.take(which)
        stalled = world.where("qa_runs", status=RunStatus.RUNNING) if older_than < timedelta(days=1) else []
        done, count = self.act(world, lambda session: repos.qa_runs.requeue_stalled(session, older_than=older_than), kept=kept)
        if done:
            assert count == len(stalled)
            for id in stalled:
                world.tables["qa_runs"][id] |= {"status": RunStatus.QUEUED, "claimed_by": None}

    @rule(which=WHICH, pick=PICK, kept=KEPT)
    def delete_run(self, which: int, pick: int, kept: bool) -> None:
        world, other = self.take(which)
        id, run = world.pick("qa_runs", pick, other)
        expected = NotFound if run is None else RetentionLocked if world.where("audit_artifacts", run_id=id) else None
        done, _ = self.act(world, lambda session: repos.qa_runs.delete(session, id), expected, kept=kept)
        if done:
            del world.tables["qa_runs"][id]
            for signal in world.where("raw_signals", run_id=id):
                del world.tables["raw_signals"][signal]
            for ticket in world.where("qa_tickets", run_id=id):
                world.tables["qa_tickets"][ticket]["run_id"] = None


class SignalRules(Base):
    @rule(which=WHICH, pick=PICK, fingerprints=FINGERPRINTS, kept=KEPT)
    def ingest(self, which: int, pick: int, fingerprints: list[str], kept: bool) -> None:
        world, other = self.take(which)
        run_id, run = world.pick("qa_runs", pick, other)

        async def ingest(session: Any) -> Any:
            result = await repos.raw_signals.ingest(session, run_id, signals(*fingerprints))
            return result, [row async for row in repos.raw_signals.stream(session, run_id=run_id)]

        done, answer = self.act(world, ingest, NotFound if run is None else None, kept=kept)
        if done:
            result, rows = answer
            known = {world.tables["raw_signals"][id]["fingerprint"] for id in world.where("raw_signals", run_id=run_id)}
            fresh = set(fingerprints) - known
            assert result == IngestResult(len(fresh), len(fingerprints) - len(fresh))
            for row in rows:
                if row.fingerprint in fresh:
                    world.tables["raw_signals"][row.id] = {
                        "run_id": run_id,
                        "fingerprint": row.fingerprint,
                        "status": SignalStatus.NEW,
                        "ticket_id": None,
                    }

    @rule(which=WHICH, picks=st.lists(PICK, max_size=4), pick=PICK, kept=KEPT)
    def attach(self, which: int, picks: list[int], pick: int, kept: bool) -> None:
        world, other = self.take(which)
        chosen = dict(world.pick("raw_signals", number, other) for number in picks)
        ticket_id, ticket = world.pick("qa_tickets", pick, other)
        expected: type[DerwinError] | None = None
        if chosen and ticket is None:
            expected = InvalidReference
        elif None in chosen.values():
            expected = NotFound
        done, count = self.act(
            world, lambda session: repos.raw_signals.attach(session, list(chosen), ticket_id), expected, kept=kept
        )
        if done:
            assert count == len(chosen)
            for row in filter(None, chosen.values()):
                row |= {"status": SignalStatus.TRIAGED, "ticket_id": ticket_id}

    @rule(which=WHICH, picks=st.lists(PICK, max_size=4), kept=KEPT)
    def discard(self, which: int, picks: list[int], kept: bool) -> None:
        world, other = self.take(which)
        chosen = dict(world.pick("raw_signals", number, other) for number in picks)
        expected = NotFound if None in chosen.values() else None
        done, count = self.act(world, lambda session: repos.raw_signals.discard(session, list(chosen)), expected, kept=kept)
        if done:
            assert count == len(chosen)
            for row in filter(None, chosen.values()):
                row |= {"status": SignalStatus.DISCARDED, "ticket_id": None}

    @rule(which=WHICH, pick=PICK, kept=KEPT)
    def delete_signal(self, which: int, pick: int, kept: bool) -> None:
        world, other = self.take(which)
        id, row = world.pick("raw_signals", pick, other)
        expected = NotFound if row is None else None
        if self.act(world, lambda session: repos.raw_signals.delete(session, id), expected, kept=kept)[0]:
            del world.tables["raw_signals"][id]

    @rule(which=WHICH, pick=PICK)
    def pending(self, which: int, pick: int) -> None:
        world, other = self.take(which)
        run_id, _ = world.pick("qa_runs", pick, other)
        _, rows = self.act(world, lambda session: repos.raw_signals.pending(session, run_id))
        assert {row.id for row in rows} == set(world.where("raw_signals", run_id=run_id, status=SignalStatus.NEW))
