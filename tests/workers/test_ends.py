"""How each run that a worker takes ends, whatever its function does, and whatever becomes of the answers."""

import asyncio
import logging
from typing import Any

import pytest

from derwin_db import Database, repos
from derwin_db.errors import (
    Conflict,
    DatabaseTimeout,
    DatabaseUnavailable,
    DerwinError,
    InvalidInput,
    OutcomeUnknown,
    StorageFull,
)
from derwin_db.fields.scalars import LONG_TEXT_LENGTH
from derwin_db.models import RunStats, RunStatus
from derwin_db.repos.qa_runs import QARuns
from derwin_db.workers import Job
from derwin_db.workers.claim import Claim
from tests.repos.rows import a_ticket
from tests.workers.conftest import DONE, NEVER, STEADY, Done, Projects, ended, enqueue, is_idle, run_of, statuses, until


class TestEnds:
    async def test_completed_with_what_is_stored_of_it(self, db: Database, projects: Projects) -> None:
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)

        async def work(job: Job) -> None:
            async with job.project() as session:
                await repos.qa_tickets.create(session, a_ticket(run_id=job.run.id))

        async with db.worker("w", work):
            await until(lambda: ended(db, project, run))
        row = await run_of(db, project, run)
        assert (row.status, row.stats) == (RunStatus.COMPLETED, RunStats(tickets=1))

    async def test_completed_in_the_transaction_of_its_results(self, db: Database, projects: Projects) -> None:
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)

        async def work(job: Job) -> None:
            async with job.project() as session:
                await repos.qa_tickets.create(session, a_ticket(run_id=job.run.id))
                await job.complete(session, DONE)

        async with db.worker("w", work):
            await until(lambda: ended(db, project, run))
        assert (await run_of(db, project, run)).stats == DONE

    @pytest.mark.parametrize("by", ["the job", "the repository"])
    @pytest.mark.usefixtures("beats_often")
    async def test_completed_is_no_claim_that_is_lost_whatever_it_does_afterwards(
        self, db: Database, projects: Projects, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, by: str
    ) -> None:
        """The heartbeat that finds no run to keep any more comes before the function ends."""
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)
        keep, kept, went_on = Claim.keep, asyncio.Event(), []

        async def noting(self: Claim) -> None:
            await keep(self)
            kept.set()

        async def work(job: Job) -> None:
            async with job.project() as session:
                if by == "the job":
                    await job.complete(session, DONE)
                else:
                    await repos.qa_runs.complete(session, job.run_id, DONE, worker=job.claim)
            await kept.wait()
            for _ in range(100):  # time for the worker to notice
                await asyncio.sleep(0)
            went_on.append(job.run_id)

        monkeypatch.setattr(Claim, "keep", noting)
        with caplog.at_level(logging.DEBUG, "derwin_db.worker"):
            async with db.worker("w", work, **STEADY) as worker:
                await until(lambda: _has_said(caplog, "w: a run is claimed"))
                await until(lambda: is_idle(worker))
        assert (await run_of(db, project, run)).status is RunStatus.COMPLETED
        assert went_on == [run]
        assert "w: a run is completed" in caplog.text
        assert "lost" not in caplog.text

    @pytest.mark.parametrize(
        ("error", "stored"),
        [
            (LookupError("no browser\0 \ud800"), "LookupError: no browser\\0 \\ud800"),
            (LookupError(), "LookupError"),
            (LookupError("x" * 2 * LONG_TEXT_LENGTH), "LookupError: " + "x" * (LONG_TEXT_LENGTH - len("LookupError: "))),
            (InvalidInput("title: too long."), "InvalidInput: title: too long."),
            (asyncio.CancelledError(), "CancelledError"),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
    )
    async def test_failed_with_what_was_raised(
        self, db: Database, projects: Projects, caplog: pytest.LogCaptureFixture, error: BaseException, stored: str
    ) -> None:
        caplog.set_level(logging.CRITICAL, logger="derwin_db.worker")  # no surrogates in what pytest reports
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)

        async def work(_job: Job) -> None:
            raise error

        async with db.worker("w", work):
            await until(lambda: ended(db, project, run))
        row = await run_of(db, project, run)
        assert (row.status, row.error) == (RunStatus.FAILED, stored)

    async def test_failed_where_it_fails_while_the_worker_stops(self, db: Database, projects: Projects) -> None:
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)
        begun = asyncio.Event()

        async def work(job: Job) -> None:
            begun.set()
            await job.stopping.wait()
            raise LookupError

        async with db.worker("w", work, grace_seconds=1000):
            async with asyncio.timeout(60):
                await begun.wait()
        assert (await run_of(db, project, run)).status is RunStatus.FAILED

    async def test_failed_where_it_returns_something_else(self, db: Database, projects: Projects) -> None:
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)

        async def work(_job: Job) -> Any:
            return {"signals": 1}

        async with db.worker("w", work):
            await until(lambda: ended(db, project, run))
        assert (await run_of(db, project, run)).status is RunStatus.FAILED

    async def test_failed_where_its_end_is_refused_for_good(self, db: Database, projects: Projects) -> None:
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)

        async def work(_job: Job) -> RunStats:
            return RunStats.model_construct(signals="\0")

        async with db.worker("w", work):
            await until(lambda: ended(db, project, run))
        row = await run_of(db, project, run)
        assert (row.status, str(row.error).partition(":")[0]) == (RunStatus.FAILED, "InvalidInput")

    @pytest.mark.parametrize("error", [StorageFull, DatabaseUnavailable, DatabaseTimeout])
    async def test_completed_as_soon_as_the_database_takes_it(
        self, db: Database, projects: Projects, done: Done, monkeypatch: pytest.MonkeyPatch, error: type[DerwinError]
    ) -> None:
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)
        complete, refused = QARuns.complete, []

        async def refuse_at_first(self: Any, session: Any, id: Any, stats: Any, *, worker: str) -> Any:
            if len(refused) < 4:  # one more than a unit is tried by itself
                refused.append(id)
                raise error
            return await complete(self, session, id, stats, worker=worker)

        monkeypatch.setattr(QARuns, "complete", refuse_at_first)
        async with db.worker("w", done):
            await until(lambda: ended(db, project, run))
        assert (await run_of(db, project, run)).status is RunStatus.COMPLETED
        assert (len(done.jobs), len(refused)) == (1, 4)

    async def test_queued_again_where_the_database_was_away(self, db: Database, projects: Projects) -> None:
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)
        attempts = []

        async def work(job: Job) -> RunStats:
            attempts.append(job.claim)
            if len(attempts) < 3:
                raise DatabaseUnavailable
            return DONE

        async with db.worker("w", work, **NEVER):
            await until(lambda: ended(db, project, run))
        assert (await run_of(db, project, run)).status is RunStatus.COMPLETED
        assert len(set(attempts)) == 3, "each claim has a name of its own"

    async def test_an_end_whose_answer_was_lost_is_found_out(
        self,
        db: Database,
        projects: Projects,
        done: Done,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)
        complete, calls = QARuns.complete, []

        async def unsure(self: Any, session: Any, id: Any, stats: Any, *, worker: str) -> Any:
            row = await complete(self, session, id, stats, worker=worker)
            calls.append(id)
            if len(calls) == 1:
                session.after_commit(_lose_the_answer)
            return row

        monkeypatch.setattr(QARuns, "complete", unsure)
        with caplog.at_level(logging.DEBUG, "derwin_db.worker"):
            async with db.worker("w", done):
                await until(lambda: ended(db, project, run))
        assert (await run_of(db, project, run)).status is RunStatus.COMPLETED
        assert "w: a run is completed" in caplog.text

    @pytest.mark.usefixtures("beats_often")
    async def test_its_job_ends_when_the_run_is_cancelled(self, db: Database, projects: Projects, done: Done) -> None:
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)
        done.may_end.clear()
        async with db.worker("w", done, **STEADY) as worker:
            await done.until(1)
            async with db.project(project) as session:
                await repos.qa_runs.cancel(session, run)
            await until(lambda: is_idle(worker))
        assert (await run_of(db, project, run)).status is RunStatus.CANCELLED

    async def test_lost_where_its_project_is_gone(
        self, db: Database, projects: Projects, caplog: pytest.LogCaptureFixture
    ) -> None:
        (project,) = await projects(1)
        await enqueue(db, project)

        async def work(job: Job) -> RunStats:
            async with db.admin(reason="a test") as admin:
                await repos.projects.delete(admin, job.project_id)
            return DONE

        with caplog.at_level(logging.DEBUG, "derwin_db.worker"):
            async with db.worker("w", work, **STEADY) as worker:
                await until(lambda: _has_said(caplog, "a run is lost"))
                await until(lambda: is_idle(worker))
        assert "error of the worker itself" not in caplog.text

    async def test_what_nobody_can_tell_is_left_to_whoever_takes_it_next(
        self,
        db: Database,
        projects: Projects,
        done: Done,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """The end is refused, and what became of the run can't be asked."""

        async def refused(*_: Any, **__: Any) -> Any:
            raise Conflict

        async def away(*_: Any, **__: Any) -> Any:
            raise DatabaseTimeout

        (project,) = await projects(1)
        await enqueue(db, project)
        monkeypatch.setattr(QARuns, "complete", refused)
        monkeypatch.setattr(QARuns, "find", away)
        with caplog.at_level(logging.DEBUG, "derwin_db.worker"):
            async with db.worker("w", done, **STEADY) as worker:
                await done.until(1)
                await until(lambda: is_idle(worker))
        assert "w: a run is lost" in caplog.text
        assert await statuses(db, project) == [RunStatus.RUNNING]


def _lose_the_answer() -> None:
    raise OutcomeUnknown


async def _has_said(caplog: pytest.LogCaptureFixture, words: str) -> bool:
    return words in caplog.text
