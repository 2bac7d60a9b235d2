"""qa_runs: the queue, its claims, and every edge of its state machine."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import Conflict, IllegalTransition, InvalidInput, NotFound, RetentionLocked
from derwin_db.fields.scalars import new_id
from derwin_db.models import (
    DiscoveryRoute,
    Project,
    ProjectMode,
    QARun,
    QARunCreate,
    QATicketCreate,
    RunStats,
    RunStatus,
    RunTrigger,
)
from tests.repos.rows import a_run, a_signal, a_ticket, an_artifact, signals

STATS = RunStats(signals=3, duplicates=1, tickets=2, by_route={DiscoveryRoute.LOG_MINING: 3})

VERBS: dict[str, Any] = {
    "heartbeat": lambda session, key, worker="w": repos.qa_runs.heartbeat(session, key, worker=worker),
    "complete": lambda session, key, worker="w": repos.qa_runs.complete(session, key, STATS, worker=worker),
    "fail": lambda session, key, worker="w": repos.qa_runs.fail(session, key, "no browser", worker=worker),
    "cancel": lambda session, key, worker="w": repos.qa_runs.cancel(session, key),
}
LEGAL = {
    ("heartbeat", RunStatus.RUNNING): RunStatus.RUNNING,
    ("complete", RunStatus.RUNNING): RunStatus.COMPLETED,
    ("fail", RunStatus.RUNNING): RunStatus.FAILED,
    ("cancel", RunStatus.QUEUED): RunStatus.CANCELLED,
    ("cancel", RunStatus.RUNNING): RunStatus.CANCELLED,
}
"""QUEUED -> RUNNING -> COMPLETED | FAILED; QUEUED | RUNNING -> CANCELLED."""

ILLEGAL = [(verb, status) for verb in VERBS for status in RunStatus if (verb, status) not in LEGAL]


async def in_status(session: ProjectSession, status: RunStatus) -> QARun:
    row = await repos.qa_runs.enqueue(session, a_run())
    if status is not RunStatus.QUEUED:
        claimed = await repos.qa_runs.claim(session, "w")
        assert claimed is not None
        assert claimed.id == row.id
        verb = {RunStatus.COMPLETED: "complete", RunStatus.FAILED: "fail", RunStatus.CANCELLED: "cancel"}.get(status)
        row = await VERBS[verb](session, row.id) if verb else claimed
    return row


async def backdate(session: ProjectSession, id: UUID, age: timedelta) -> None:
    text = sa.text("UPDATE qa_runs SET heartbeat_at = now() - CAST(:age AS interval) WHERE id = :id")
    await session.sql.execute(text, {"age": age, "id": id})


class TestEnqueue:
    async def test_writes_a_queued_run_in_the_projects_mode(self, session: ProjectSession) -> None:
        await repos.projects.set_mode(session, ProjectMode.AUTHOR, actor="ada", reason="a test")
        data = a_run(routes=list(DiscoveryRoute), target_url="https://a.example/", commit_sha="abc", trigger=RunTrigger.DEPLOY)
        row = await repos.qa_runs.enqueue(session, data)
        assert row.model_dump(include=set(QARunCreate.model_fields)) == data.model_dump()
        assert (row.status, row.mode, row.stats) == (RunStatus.QUEUED, ProjectMode.AUTHOR, RunStats())
        assert {row.claimed_by, row.heartbeat_at, row.started_at, row.finished_at, row.error} == {None}

    async def test_other_input_is_refused(self, session: ProjectSession) -> None:
        with pytest.raises(InvalidInput):
            await repos.qa_runs.enqueue(session, a_ticket())  # type: ignore[arg-type]


class TestClaim:
    async def test_takes_the_oldest_in_the_present_mode(self, db: Database, project: Project) -> None:
        ids = []
        for _ in range(3):
            async with db.project(project.id) as session:
                ids.append((await repos.qa_runs.enqueue(session, a_run())).id)
        async with db.project(project.id) as session:
            await repos.projects.set_mode(session, ProjectMode.TRIAGE, actor="ada", reason="a test")
            for expected in ids:
                row = await repos.qa_runs.claim(session, "w")
                assert row is not None
                assert (row.id, row.status, row.claimed_by, row.mode) == (expected, RunStatus.RUNNING, "w", ProjectMode.TRIAGE)
                assert row.started_at == row.heartbeat_at == row.updated_at
            assert await repos.qa_runs.claim(session, "w") is None

    async def test_an_empty_queue_is_none(self, session: ProjectSession) -> None:
        assert await repos.qa_runs.claim(session, "w") is None

    @pytest.mark.parametrize("status", [status for status in RunStatus if status is not RunStatus.QUEUED])
    async def test_takes_queued_runs_alone(self, session: ProjectSession, status: RunStatus) -> None:
        await in_status(session, status)
        assert await repos.qa_runs.claim(session, "w") is None

    async def test_skips_what_another_unit_is_claiming(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            first = await repos.qa_runs.enqueue(session, a_run())
            second = await repos.qa_runs.enqueue(session, a_run())
        async with db.project(project.id) as one, db.project(project.id) as two:
            claimed = [await repos.qa_runs.claim(one, "a"), await repos.qa_runs.claim(two, "b")]
            assert {row.id for row in claimed if row} == {first.id, second.id}
            assert await repos.qa_runs.claim(two, "b") is None

    @pytest.mark.parametrize("worker", ["", None, 7, "x" * 501, "\0"])
    async def test_a_bad_worker_is_refused(self, session: ProjectSession, worker: Any) -> None:
        with pytest.raises(InvalidInput, match="worker"):
            await repos.qa_runs.claim(session, worker)


class TestStateMachine:
    @pytest.mark.parametrize(("verb", "status"), sorted(LEGAL))
    async def test_a_legal_move(self, session: ProjectSession, verb: str, status: RunStatus) -> None:
        run = await in_status(session, status)
        row = await VERBS[verb](session, run.id)
        assert row.status is LEGAL[verb, status]
        assert await repos.qa_runs.get(session, run.id) == row

    @pytest.mark.parametrize(("verb", "status"), ILLEGAL)
    async def test_any_other_move_is_refused_and_changes_nothing(
        self, session: ProjectSession, verb: str, status: RunStatus
    ) -> None:
        run = await in_status(session, status)
        with pytest.raises(IllegalTransition):
            await VERBS[verb](session, run.id)
        assert await repos.qa_runs.get(session, run.id) == run

    @pytest.mark.parametrize("verb", VERBS)
    async def test_an_unknown_run_is_not_found(self, session: ProjectSession, verb: str) -> None:
        with pytest.raises(NotFound):
            await VERBS[verb](session, new_id())

    @pytest.mark.parametrize("verb", ["heartbeat", "complete", "fail"])
    async def test_anothers_claim_conflicts(self, session: ProjectSession, verb: str) -> None:
        run = await in_status(session, RunStatus.RUNNING)
        with pytest.raises(Conflict) as refused:
            await VERBS[verb](session, run.id, "another")
        assert type(refused.value) is Conflict
        assert await repos.qa_runs.get(session, run.id) == run

    @pytest.mark.parametrize("verb", ["heartbeat", "complete", "fail"])
    async def test_a_bad_worker_is_refused(self, session: ProjectSession, verb: str) -> None:
        with pytest.raises(InvalidInput, match="worker"):
            await VERBS[verb](session, new_id(), "")


class TestHeartbeat:
    async def test_stamps_and_nothing_else(self, session: ProjectSession) -> None:
        run = await in_status(session, RunStatus.RUNNING)
        await backdate(session, run.id, timedelta(hours=1))
        row = await repos.qa_runs.heartbeat(session, run.id, worker="w")
        assert row == run.model_copy(update={"heartbeat_at": row.updated_at, "updated_at": row.updated_at})


class TestComplete:
    async def test_keeps_the_stats(self, session: ProjectSession) -> None:
        run = await in_status(session, RunStatus.RUNNING)
        row = await repos.qa_runs.complete(session, run.id, STATS, worker="w")
        ended = {"status": RunStatus.COMPLETED, "stats": STATS, "finished_at": row.updated_at, "updated_at": row.updated_at}
        assert row == run.model_copy(update=ended)

    async def test_other_stats_are_refused(self, session: ProjectSession) -> None:
        with pytest.raises(InvalidInput, match="stats"):
            await repos.qa_runs.complete(session, new_id(), {"signals": 1}, worker="w")  # type: ignore[arg-type]

    async def test_stats_that_were_changed_after_they_were_made_are_refused(self, session: ProjectSession) -> None:
        stats = RunStats()
        stats.signals = -1
        with pytest.raises(InvalidInput, match=r"stats\.signals"):
            await repos.qa_runs.complete(session, new_id(), stats, worker="w")


class TestFail:
    async def test_keeps_the_error(self, session: ProjectSession) -> None:
        run = await in_status(session, RunStatus.RUNNING)
        row = await repos.qa_runs.fail(session, run.id, "no browser", worker="w")
        ended = {"status": RunStatus.FAILED, "error": "no browser", "finished_at": row.updated_at, "updated_at": row.updated_at}
        assert row == run.model_copy(update=ended)


class TestRequeueStalled:
    async def test_puts_back_what_is_older_and_only_that(self, session: ProjectSession) -> None:
        ended = await in_status(session, RunStatus.COMPLETED)
        runs = [await in_status(session, RunStatus.RUNNING) for _ in range(3)]
        for run, age in zip(runs, (59, 61, 3600), strict=True):
            await backdate(session, run.id, timedelta(seconds=age))
        await backdate(session, ended.id, timedelta(days=1))
        assert await repos.qa_runs.requeue_stalled(session, older_than=timedelta(minutes=1)) == 2
        rows = [await repos.qa_runs.get(session, run.id) for run in runs]
        assert [row.status for row in rows] == [RunStatus.RUNNING, RunStatus.QUEUED, RunStatus.QUEUED]
        assert {rows[1].claimed_by, rows[1].heartbeat_at, rows[1].started_at} == {None}
        claimed = await repos.qa_runs.claim(session, "next")
        assert claimed is not None
        assert claimed.id in {rows[1].id, rows[2].id}
        with pytest.raises(IllegalTransition):
            await repos.qa_runs.complete(session, ({rows[1].id, rows[2].id} - {claimed.id}).pop(), STATS, worker="w")

    async def test_measures_hours_whatever_the_zone(self, session: ProjectSession) -> None:
        """Over 300 days, the clocks of New York were set at least once: 300 of its days are not 7,200 hours."""
        run = await in_status(session, RunStatus.RUNNING)
        for zone in ("UTC", "America/New_York", "Australia/Sydney"):
            await session.sql.execute(sa.text(f"SET LOCAL TimeZone = '{zone}'"))
            for days in (100, 150, 200, 300):
                text = sa.text("UPDATE qa_runs SET heartbeat_at = now() - make_interval(hours => :hours)")
                await session.sql.execute(text, {"hours": 24 * days})
                assert await repos.qa_runs.requeue_stalled(session, older_than=timedelta(days=days)) == 0
        assert (await repos.qa_runs.get(session, run.id)).status is RunStatus.RUNNING

    @pytest.mark.parametrize("length", [timedelta(0), timedelta(-1), 60, None, timedelta.max])
    async def test_a_bad_length_is_refused(self, session: ProjectSession, length: Any) -> None:
        with pytest.raises(InvalidInput, match="older_than"):
            await repos.qa_runs.requeue_stalled(session, older_than=length)


class TestStatistics:
    async def test_counts_what_is_stored(self, session: ProjectSession) -> None:
        run, other = await repos.qa_runs.enqueue(session, a_run()), await repos.qa_runs.enqueue(session, a_run())
        rows = [a_signal("c", route=DiscoveryRoute.LOG_MINING), *signals("a", "b")]
        await repos.raw_signals.ingest(session, run.id, rows)
        await repos.raw_signals.ingest(session, other.id, signals("a"))
        for data in (a_ticket(run_id=run.id), a_ticket(run_id=run.id), a_ticket(run_id=other.id), a_ticket()):
            await repos.qa_tickets.create(session, data)
        expected = RunStats(signals=3, tickets=2, by_route={DiscoveryRoute.E2E_CRAWL: 2, DiscoveryRoute.LOG_MINING: 1})
        assert await repos.qa_runs.statistics(session, run.id) == expected

    async def test_of_an_empty_run_are_zero(self, session: ProjectSession) -> None:
        run = await repos.qa_runs.enqueue(session, a_run())
        assert await repos.qa_runs.statistics(session, run.id) == RunStats()

    async def test_of_an_unknown_run_are_not_found(self, session: ProjectSession) -> None:
        with pytest.raises(NotFound):
            await repos.qa_runs.statistics(session, new_id())


class TestDelete:
    async def test_takes_its_signals_and_leaves_its_tickets(self, session: ProjectSession) -> None:
        run, other = await repos.qa_runs.enqueue(session, a_run()), await repos.qa_runs.enqueue(session, a_run())
        for each in (run, other):
            await repos.raw_signals.ingest(session, each.id, signals("a", "b"))
        ticket = await repos.qa_tickets.create(session, QATicketCreate(**a_ticket(run_id=run.id).model_dump()))
        await repos.qa_runs.delete(session, run.id)
        assert not await repos.qa_runs.exists(session, run.id)
        assert await repos.raw_signals.count(session) == await repos.raw_signals.count(session, run_id=other.id) == 2
        assert (await repos.qa_tickets.get(session, ticket.id)).run_id is None

    async def test_evidence_locks_it(self, session: ProjectSession) -> None:
        run = await repos.qa_runs.enqueue(session, a_run())
        await repos.raw_signals.ingest(session, run.id, signals("a"))
        await repos.audit_artifacts.record(session, an_artifact(run_id=run.id))
        with pytest.raises(RetentionLocked):
            await repos.qa_runs.delete(session, run.id)
        assert await repos.raw_signals.count(session, run_id=run.id) == 1

    async def test_an_unknown_run_is_not_found(self, session: ProjectSession) -> None:
        with pytest.raises(NotFound):
            await repos.qa_runs.delete(session, new_id())
