"""A worker over all projects: whose runs it takes and when, what it holds of them, and how it stops."""

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.errors import (
    DatabaseTimeout,
    DatabaseUnavailable,
    InvalidInput,
    NotFound,
    ScopeError,
    StorageFull,
)
from derwin_db.fields.scalars import new_id
from derwin_db.models import QARun, RunStatus
from derwin_db.repos.qa_runs import QARuns
from derwin_db.workers import Job
from derwin_db.workers.claim import Claim
from derwin_db.workers.queue import SealedQueue, queue_of
from derwin_db.workers.worker import Worker, _retry_seconds
from tests.repos.rows import a_ticket
from tests.workers.conftest import DONE, NEVER, STEADY, Done, Projects, ended, enqueue, is_idle, run_of, statuses, until


class TestTakes:
    async def test_what_is_queued_in_all_projects(self, db: Database, projects: Projects, done: Done) -> None:
        ids = await projects(3)
        for project in ids:
            await enqueue(db, project, 2)
        async with db.worker("w", done):
            await done.until(6)
        assert [await statuses(db, project) for project in ids] == [[RunStatus.COMPLETED] * 2] * 3
        assert [(await run_of(db, job.project_id, job.run.id)).stats for job in done.jobs] == [DONE] * 6

    async def test_at_once_what_is_committed_elsewhere(self, db: Database, projects: Projects, done: Done) -> None:
        (project,) = await projects(1)
        async with db.worker("w", done, **NEVER):
            for number in range(1, 4):
                await enqueue(db, project)
                await done.until(number)

    async def test_a_run_a_turn_from_one_project_to_the_next(self, db: Database, projects: Projects, done: Done) -> None:
        ids = await projects(4)
        for project, number in zip(ids, (9, 1, 2, 3), strict=True):
            await enqueue(db, project, number)
        async with db.worker("w", done, at_once=1):
            await done.until(15)
        first = ids.index(done.projects[0])
        circle = ids[first:] + ids[:first]
        assert done.projects[:4] == circle, "each project that waits has its turn before one has a second"
        assert [project for project in done.projects[4:] if project != ids[0]] != []
        rest = {project: done.projects[4:].count(project) for project in ids}
        assert rest == dict(zip(ids, (8, 0, 1, 2), strict=True))
        assert set(done.projects[4:7]) == {ids[0], ids[2], ids[3]}

    async def test_the_oldest_of_a_project_first(self, db: Database, projects: Projects, done: Done) -> None:
        (project,) = await projects(1)
        ids = await enqueue(db, project, 5)
        async with db.worker("w", done, at_once=1):
            await done.until(5)
        assert [job.run.id for job in done.jobs] == ids

    async def test_no_more_at_once_than_it_may(self, db: Database, projects: Projects, done: Done) -> None:
        done.may_end.clear()
        for project in await projects(2):
            await enqueue(db, project, 4)
        async with db.worker("w", done, at_once=3, **NEVER) as worker:
            await done.until(3)
            assert worker.running == 3
            await enqueue(db, done.projects[0])
            assert len(done.jobs) == 3
            done.may_end.set()
            await done.until(9)

    async def test_no_more_of_a_project_than_all_workers_may(self, db: Database, projects: Projects, done: Done) -> None:
        one, other = await projects(2)
        await enqueue(db, one, 6)
        await enqueue(db, other, 1)
        done.may_end.clear()
        limits: dict[str, Any] = {"at_once_per_project": 2, "poll_seconds": 0.1}
        async with db.worker("a", done, **limits), db.worker("b", done, **limits), db.worker("c", done, **limits):
            await done.until(3)
            for _ in range(20):  # looks, that find no more
                await asyncio.sleep(0.01)
            assert sorted(done.projects) == sorted([one, one, other])
            done.may_end.set()
            await done.until(7)

    async def test_nothing_of_a_project_whose_row_somebody_has_locked_and_all_of_others(
        self, db: Database, projects: Projects, done: Done
    ) -> None:
        one, other = await projects(2)
        await enqueue(db, one)
        await enqueue(db, other, 3)
        async with db.project(one) as session:
            await session.sql.execute(sa.text("SELECT FROM public.projects FOR NO KEY UPDATE"))
            async with db.worker("w", done, at_once_per_project=5, **NEVER):
                await done.until(3)
        assert set(done.projects) == {other}
        assert await statuses(db, one) == [RunStatus.QUEUED]

    async def test_all_that_it_may_at_once_though_the_runs_of_one_project_can_not_be_claimed(
        self, db: Database, projects: Projects, done: Done, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A project whose node is away keeps no other from its turn, and does not count as the whole database."""
        broken, whole = await projects(2)
        await enqueue(db, broken)
        await enqueue(db, whole, 4)
        done.may_end.clear()
        claim, take = QARuns.claim, Worker._take
        refused: list[UUID] = []
        takes: list[tuple[int, bool]] = []

        async def unsteady(self: Any, session: Any, worker: str, *, at_most: int | None) -> Any:
            if session.project_id == broken:
                refused.append(broken)
                raise DatabaseUnavailable
            return await claim(self, session, worker, at_most=at_most)

        async def noted(self: Worker, queue: Any) -> tuple[int, bool]:
            takes.append(taken := await take(self, queue))
            return taken

        monkeypatch.setattr(QARuns, "claim", unsteady)
        monkeypatch.setattr(Worker, "_take", noted)
        async with db.worker("w", done, at_once=4, **NEVER):
            await done.until(4)
            seen, said = (list(takes), len(refused) >= 3), caplog.text
            done.may_end.set()
        assert seen == ([(4, False)], True)
        assert "waits for the database" not in said

    async def test_three_refusals_in_a_row_are_the_databases_and_no_projects(
        self, db: Database, projects: Projects, done: Done, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        runs = [(project, (await enqueue(db, project))[0]) for project in await projects(3)]
        claim = QARuns.claim
        refused: list[UUID] = []

        async def refuse(self: Any, session: Any, worker: str, *, at_most: int | None) -> Any:
            if len(refused) < 3:
                refused.append(session.project_id)
                raise DatabaseUnavailable
            return await claim(self, session, worker, at_most=at_most)

        monkeypatch.setattr(QARuns, "claim", refuse)
        async with db.worker("w", done, **NEVER):
            for project, run in runs:
                await until(lambda project=project, run=run: ended(db, project, run))
        assert len(set(refused)) == 3
        assert caplog.text.count("worker w waits for the database") == 1

    async def test_as_soon_as_the_database_is_there(
        self, db: Database, projects: Projects, done: Done, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)
        away = [StorageFull(), DatabaseTimeout(), DatabaseUnavailable("nobody answers")]

        async def opened(asked: Database) -> Any:
            if away:
                raise away.pop()
            return await queue_of(asked)

        monkeypatch.setattr("derwin_db.workers.worker.queue_of", opened)
        async with db.worker("w", done, **NEVER):
            await until(lambda: ended(db, project, run))
        assert (await run_of(db, project, run)).status is RunStatus.COMPLETED
        assert caplog.text.count("worker w waits for the database: nobody answers") == 1

    async def test_as_soon_as_it_is_told_again_whose_runs_wait(
        self, db: Database, projects: Projects, done: Done, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One look fails; the next one is told of a project that is deleted by then, too."""
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)
        waiting, looks = SealedQueue.waiting, []

        async def told(*given: Any) -> Any:
            looks.append(given)
            if len(looks) == 1:
                raise DatabaseTimeout
            return [new_id()] * (len(looks) == 2) + list(await waiting(*given))

        monkeypatch.setattr(SealedQueue, "waiting", told)
        async with db.worker("w", done, **NEVER):
            await until(lambda: ended(db, project, run))
        assert (await run_of(db, project, run)).status is RunStatus.COMPLETED

    async def test_a_run_that_was_cancelled_never(self, db: Database, projects: Projects, done: Done) -> None:
        (project,) = await projects(1)
        first, second = await enqueue(db, project, 2)
        async with db.project(project) as session:
            await repos.qa_runs.cancel(session, first)
        async with db.worker("w", done):
            await done.until(1)
        assert [job.run.id for job in done.jobs] == [second]


class TestScope:
    async def test_a_job_sees_its_own_project_alone(self, db: Database, projects: Projects) -> None:
        ids = await projects(2)
        tickets = {}
        for project in ids:
            async with db.project(project) as session:
                tickets[project] = (await repos.qa_tickets.create(session, a_ticket())).id
            await enqueue(db, project)
        seen: dict[UUID, Any] = {}

        async def look(job: Job) -> None:
            async with job.project(read_only=True) as session:
                rows = (await session.sql.execute(sa.text("SELECT project_id, id FROM public.qa_tickets"))).all()
                foreign = next(id for project, id in tickets.items() if project != job.project_id)
                with pytest.raises(NotFound):
                    await repos.qa_tickets.get(session, foreign)
            seen[job.project_id] = [tuple(row) for row in rows]

        async with db.worker("w", look):
            await until(lambda: _has(seen, 2))
        assert seen == {project: [(project, id)] for project, id in tickets.items()}

    async def test_what_it_asks_over_all_projects_is_told_ids_alone(self, db: Database, projects: Projects) -> None:
        one, other, _idle = await projects(3)
        await enqueue(db, one, 3)
        await enqueue(db, other)
        async with db.queue() as session:
            from derwin_db.workers.queue import _waiting_statement

            rows = await session.ask(_waiting_statement(), {"last": UUID(int=0), "most": 10, "at_once": None})
            assert rows == [one, other]
            with pytest.raises(ScopeError):
                await repos.qa_runs.list(session)  # type: ignore[arg-type]


async def _has(seen: dict[UUID, Any], number: int) -> bool:
    return len(seen) >= number


class TestClaims:
    def test_that_fail_are_tried_again_soon_and_then_more_and_more_seldom(self) -> None:
        assert [_retry_seconds(attempts, 5.0) for attempts in (0, 1, 2, 6, 7, 10_000)] == [0.05, 0.1, 0.2, 3.2, 5.0, 5.0]

    async def test_that_can_not_be_had_now_are_looked_for_soon_and_then_more_and_more_seldom(
        self, done: Done, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Where nothing waits it looks as seldom as it was told to; what was had in between starts anew."""
        worker = Database("postgresql://nobody@localhost/nothing").worker("w", done, poll_seconds=5)
        away = DatabaseTimeout()
        answers = [away, away, (1, False), (0, True), (0, True), (1, True), (0, True), (0, False), (0, True)]
        rests: list[float] = []

        async def take(_queue: Any) -> Any:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        async def rest(seconds: float) -> None:
            rests.append(seconds)
            if not answers:
                worker.stop()

        monkeypatch.setattr(worker, "_take", take)
        monkeypatch.setattr(worker, "_rest", rest)
        nothing: Any = None
        await worker._take_until_stopped(nothing)
        assert rests == [0.1, 0.2, 5.0, 0.1, 0.2, 0.05, 0.1, 5.0, 0.1]
        assert caplog.text.count("worker w waits for the database") == 1

    @pytest.mark.usefixtures("beats_often")
    async def test_live_on_where_some_heartbeats_get_lost(
        self, db: Database, projects: Projects, done: Done, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)
        done.may_end.clear()
        heartbeat, beats = QARuns.heartbeat, []

        async def unsteady(self: Any, session: Any, id: UUID, *, worker: str) -> Any:
            beats.append(id)
            if len(beats) <= 4:  # one more than a unit is tried by itself
                raise DatabaseUnavailable
            return await heartbeat(self, session, id, worker=worker)

        async def has_beaten() -> bool:
            return len(beats) > 5

        monkeypatch.setattr(QARuns, "heartbeat", unsteady)
        async with db.worker("w", done, **STEADY):
            await done.until(1)
            await until(has_beaten)
            done.may_end.set()
        assert (await run_of(db, project, run)).status is RunStatus.COMPLETED

    async def test_whose_time_is_up_are_ended_once_and_not_again(self, caplog: pytest.LogCaptureFixture) -> None:
        """What is stored later than that may be of a run that is another worker's."""
        tried: list[None] = []

        class Away:
            async def run(self, *_: Any) -> None:
                tried.append(None)
                raise DatabaseUnavailable

        away: Any = Away()
        job = Job(away, QARun(project_id=new_id(), id=new_id()), "w/1")
        async with asyncio.timeout(60):
            late = Claim(away, job, 60.0, asyncio.get_running_loop().time() - 60.0)
            assert await late.give_back() is None
        assert (len(tried), "it will be run again" in caplog.text) == (1, True)

    @pytest.mark.usefixtures("beats_often")
    async def test_are_kept_while_they_are_being_done(self, db: Database, projects: Projects, done: Done) -> None:
        """Each heartbeat is stored, and gives the claim as long again as it had in the beginning."""
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)
        done.may_end.clear()
        stored: set[datetime | None] = set()
        leases: set[float] = set()
        async with db.worker("w", done, **STEADY) as worker:
            await done.until(1)
            ((_, claim),) = worker._jobs.values()

            async def has_beaten() -> bool:
                stored.add((await run_of(db, project, run)).heartbeat_at)
                leases.add(claim._alive_until)
                return len(stored) > 3 and len(leases) > 3

            await until(has_beaten)
            assert len(done.jobs) == 1
            done.may_end.set()
        assert (await run_of(db, project, run)).status is RunStatus.COMPLETED

    async def test_of_workers_that_are_gone_are_taken_by_others(self, db: Database, projects: Projects, done: Done) -> None:
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)
        async with db.project(project) as session:
            assert await repos.qa_runs.claim(session, "gone") is not None
            await session.sql.execute(sa.text("UPDATE public.qa_runs SET heartbeat_at = now() - interval '2 minutes'"))
        async with db.worker("w", done, **NEVER):
            await done.until(1)
        row = await run_of(db, project, run)
        assert (row.status, str(row.claimed_by).partition("/")[0]) == (RunStatus.COMPLETED, "w")

    async def test_of_workers_that_are_gone_are_looked_for_again_after_any_refusal(
        self, db: Database, done: Done, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        looks: list[None] = []

        async def refused(*_: Any) -> None:
            looks.append(None)
            raise InvalidInput("whatever it is")

        async def has_looked_again() -> bool:
            return len(looks) >= 2

        monkeypatch.setattr("derwin_db.workers.worker.requeue", refused)
        async with db.worker("w", done, stalled_seconds=0.1):
            await until(has_looked_again)
        assert "stalled runs could not be looked for: invalid_input" in caplog.text

    @pytest.mark.usefixtures("beats_often")
    async def test_that_are_lost_end_their_job_and_change_nothing(self, db: Database, projects: Projects, done: Done) -> None:
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)
        done.may_end.clear()
        async with db.worker("w", done, **STEADY) as worker:
            await done.until(1)
            async with db.project(project) as session:  # as if it had been away for long, and another had the run
                await session.sql.execute(sa.text("UPDATE public.qa_runs SET claimed_by = 'other'"))
            await until(lambda: is_idle(worker))
        row = await run_of(db, project, run)
        assert (row.status, row.claimed_by) == (RunStatus.RUNNING, "other")

    @pytest.mark.usefixtures("beats_often")
    @pytest.mark.parametrize("line", ["refused", "silent"])
    async def test_end_when_their_time_is_up_and_nothing_gets_through(
        self, db: Database, projects: Projects, done: Done, monkeypatch: pytest.MonkeyPatch, line: str
    ) -> None:
        """The job is over, whatever becomes of the heartbeats."""
        (project,) = await projects(1)
        await enqueue(db, project)
        done.may_end.clear()

        async def away(*_: Any, **__: Any) -> Any:
            if line == "silent":
                await asyncio.Event().wait()
            raise DatabaseUnavailable

        def late(db: Database, job: Job, stalled: float, claimed_at: float) -> Claim:
            return Claim(db, job, stalled, claimed_at - 599.5)

        monkeypatch.setattr(QARuns, "heartbeat", away)
        monkeypatch.setattr("derwin_db.workers.worker.Claim", late)
        async with db.worker("w", done, **STEADY) as worker:
            await done.until(1)
            await until(lambda: is_idle(worker))
            assert await statuses(db, project) == [RunStatus.RUNNING]

    async def test_live_a_heartbeat_less_than_makes_a_run_stall(self) -> None:
        """So a job ends before another can have its run."""
        nothing: Any = None
        now = asyncio.get_running_loop().time()
        assert not Claim(nothing, nothing, 60.0, now - 50.0).is_alive
        assert Claim(nothing, nothing, 60.0, now - 30.0).is_alive


class TestStops:
    async def test_and_takes_no_run_of_those_that_it_was_just_told_of(
        self, db: Database, projects: Projects, done: Done, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is told to stop while the answer to "who has runs that wait?" is on its way."""
        (project,) = await projects(1)
        await enqueue(db, project)
        worker = db.worker("w", done)
        waiting = SealedQueue.waiting

        async def and_stop(*given: Any) -> Any:
            found = await waiting(*given)
            assert project in found
            worker.stop()
            return found

        monkeypatch.setattr(SealedQueue, "waiting", and_stop)
        await worker.run()
        assert await statuses(db, project) == [RunStatus.QUEUED]
        assert done.jobs == []

    async def test_and_gives_back_what_does_not_end_in_time(self, db: Database, projects: Projects, done: Done) -> None:
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)
        done.may_end.clear()
        async with db.worker("w", done, grace_seconds=0.05):
            await done.until(1)
        row = await run_of(db, project, run)
        assert (row.status, row.claimed_by, row.started_at, row.heartbeat_at) == (RunStatus.QUEUED, None, None, None)

    async def test_at_once_when_it_is_told_again(self, db: Database, projects: Projects, done: Done) -> None:
        (project,) = await projects(1)
        await enqueue(db, project)
        done.may_end.clear()
        worker = db.worker("w", done, grace_seconds=1000)
        serving = asyncio.create_task(worker.run())
        await done.until(1)
        worker.stop()
        worker.stop()
        async with asyncio.timeout(10):
            await serving
        assert await statuses(db, project) == [RunStatus.QUEUED]

    async def test_at_once_where_nothing_can_be_given_back(
        self, db: Database, projects: Projects, done: Done, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A database that is away is not waited for: the run stalls, and then another has it."""

        async def away(*_: Any, **__: Any) -> Any:
            raise DatabaseUnavailable

        monkeypatch.setattr(QARuns, "give_back", away)
        (project,) = await projects(1)
        await enqueue(db, project)
        done.may_end.clear()
        worker = db.worker("w", done, **STEADY, grace_seconds=0)
        serving = asyncio.create_task(worker.run())
        await done.until(1)
        worker.stop()
        ended, _ = await asyncio.wait({serving}, timeout=20)
        assert ended
        assert await statuses(db, project) == [RunStatus.RUNNING]

    async def test_a_block_in_which_it_was_told_to_and_lets_its_runs_end(
        self, db: Database, projects: Projects, done: Done
    ) -> None:
        (project,) = await projects(1)
        await enqueue(db, project)
        done.may_end.clear()
        async with db.worker("w", done, grace_seconds=1000) as worker:
            await done.until(1)
            worker.stop()
            asyncio.get_running_loop().call_soon(done.may_end.set)
        assert await statuses(db, project) == [RunStatus.COMPLETED]

    async def test_a_block_whose_task_is_cancelled_while_it_waits_for_its_runs(
        self, db: Database, projects: Projects, done: Done
    ) -> None:
        async def block() -> None:
            async with db.worker("w", done, grace_seconds=1000):
                await done.until(1)

        (project,) = await projects(1)
        await enqueue(db, project)
        done.may_end.clear()
        task = asyncio.create_task(block())
        await done.until(1)
        async with asyncio.timeout(10):
            await done.jobs[0].stopping.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await statuses(db, project) == [RunStatus.QUEUED]

    async def test_and_says_so_to_a_run_whose_claim_was_on_its_way(
        self, db: Database, projects: Projects, done: Done, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        worker = db.worker("w", done)
        claim = QARuns.claim

        async def and_stop(*given: Any, **named: Any) -> Any:
            run = await claim(*given, **named)
            worker.stop()
            return run

        monkeypatch.setattr(QARuns, "claim", and_stop)
        (project,) = await projects(1)
        await enqueue(db, project)
        await worker.run()
        assert [job.stopping.is_set() for job in done.jobs] == [True]
        assert await statuses(db, project) == [RunStatus.COMPLETED]

    @pytest.mark.parametrize("at", ["the start", "a look"])
    async def test_though_the_database_is_away(
        self, db: Database, done: Done, monkeypatch: pytest.MonkeyPatch, at: str
    ) -> None:
        """It is told to stop while it finds that out, and waits for nothing then."""
        worker = db.worker("w", done, **NEVER)

        async def away(*_: Any) -> Any:
            worker.stop()
            monkeypatch.setattr(worker, "_rest", None)
            raise DatabaseUnavailable

        if at == "the start":
            monkeypatch.setattr("derwin_db.workers.worker.queue_of", away)
        else:
            monkeypatch.setattr(SealedQueue, "waiting", away)
        async with asyncio.timeout(10):
            await worker.run()
        assert done.jobs == []

    async def test_though_a_run_catches_its_cancellation(
        self, db: Database, projects: Projects, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What it may still do is nobody else's business yet: its claim is let stall."""
        monkeypatch.setattr("derwin_db.workers.worker._CANCEL_SECONDS", 0.05)
        (project,) = await projects(1)
        await enqueue(db, project)
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def stubborn(_job: Job) -> None:
            begun.set()
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                await may_end.wait()

        async with db.worker("w", stubborn, **STEADY, grace_seconds=0):
            async with asyncio.timeout(10):
                await begun.wait()
        assert "caught its cancellation, and goes on" in caplog.text
        assert await statuses(db, project) == [RunStatus.RUNNING]
        may_end.set()

    async def test_when_its_task_is_cancelled(self, db: Database, projects: Projects, done: Done) -> None:
        (project,) = await projects(1)
        await enqueue(db, project)
        done.may_end.clear()
        serving = asyncio.create_task(db.worker("w", done).run())
        await done.until(1)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert await statuses(db, project) == [RunStatus.QUEUED]

    async def test_and_leaves_no_connection_behind(self, db: Database, projects: Projects, done: Done) -> None:
        (project,) = await projects(1)
        await enqueue(db, project)
        async with db.worker("w", done):
            await done.until(1)
        assert db.connections_in_use() == 0
        listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"

        async def is_gone() -> bool:
            async with db.admin(reason="a look") as admin:
                return (await admin.sql.execute(sa.text(listening))).scalar_one() == 0

        await until(is_gone)

    async def test_is_used_once(self, db: Database, done: Done) -> None:
        worker = db.worker("w", done)
        async with worker:
            pass
        with pytest.raises(ScopeError):
            await worker.run()


class TestArguments:
    @pytest.mark.parametrize(
        "given",
        [{"at_once": 0}, {"at_once": True}, {"at_once": 1.5}, {"at_once": 1001}, {"at_once_per_project": 0},
         {"poll_seconds": 0}, {"poll_seconds": 0.09}, {"poll_seconds": True}, {"stalled_seconds": -1},
         {"stalled_seconds": 1_000_001}, {"grace_seconds": -0.1}, {"grace_seconds": float("nan")}, {"grace_seconds": "5"}],
    )  # fmt: skip
    def test_that_can_not_be_are_refused(self, done: Done, given: dict[str, Any]) -> None:
        with pytest.raises(InvalidInput, match=next(iter(given))):
            Database("postgresql://nobody@localhost/nothing").worker("w", done, **given)

    @pytest.mark.parametrize(
        "given",
        [{"at_once": 1000}, {"at_once_per_project": 1}, {"poll_seconds": 0.1}, {"stalled_seconds": 1_000_000},
         {"grace_seconds": 0}],
    )  # fmt: skip
    def test_that_just_can_be_are_taken(self, done: Done, given: dict[str, Any]) -> None:
        assert Database("postgresql://nobody@localhost/nothing").worker("x" * 400, done, **given).name == "x" * 400

    @pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 401, None])
    def test_a_name_says_whose_claims_they_are(self, done: Done, name: Any) -> None:
        with pytest.raises(InvalidInput, match="name"):
            Database("postgresql://nobody@localhost/nothing").worker(name, done)
