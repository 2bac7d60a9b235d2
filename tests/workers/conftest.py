"""Fixtures of the tests of workers: each has a database of its own, since a worker takes what is queued in all projects."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from derwin_db import Database, repos
from derwin_db.models import QARun, RunStats, RunStatus
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase
from derwin_db.workers import Job
from tests.missing import left_out
from tests.repos.rows import a_run
from tests.repos.test_projects import a_project

collect_ignore = left_out(__file__)

NEVER: dict[str, Any] = {"poll_seconds": 1000.0}
"""What is taken is taken because a commit said so, or because a run ended."""

STEADY: dict[str, Any] = {"stalled_seconds": 600.0}
"""No run stalls while a test lasts, however busy the machine is."""

DONE = RunStats(signals=1)
Projects = Callable[[int], Awaitable[list[UUID]]]


@pytest.fixture
async def db(own_database: TestDatabase) -> AsyncIterator[Database]:
    """A `Database` in which nothing is queued yet."""
    async with Database(**own_database.urls, settings=Settings(_env_file=None, lock_timeout=20, pool_timeout=20)) as database:
        yield database


@pytest.fixture
def projects(db: Database) -> Projects:
    """Makes projects; their ids in the order in which they stand in the circle."""

    async def make(number: int) -> list[UUID]:
        async with db.admin(reason="a test") as admin:
            return sorted([(await repos.projects.create(admin, a_project())).id for _ in range(number)])

    return make


async def enqueue(db: Database, project: UUID, number: int = 1) -> list[UUID]:
    """Queue runs, each in a unit of its own; their ids, the oldest first."""
    found = []
    for _ in range(number):
        async with db.project(project) as session:
            found.append((await repos.qa_runs.enqueue(session, a_run())).id)
    return found


async def run_of(db: Database, project: UUID, id: UUID) -> QARun:
    async with db.project(project, read_only=True) as session:
        return await repos.qa_runs.get(session, id)


async def statuses(db: Database, project: UUID) -> list[RunStatus]:
    """Return the statuses of a project's runs, the oldest first."""
    async with db.project(project, read_only=True) as session:
        return [run.status for run in (await repos.qa_runs.list(session, order="created_at", limit=500)).items]


class Done:
    """The function of a worker that notes what it is given, and can be held up."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.begun = asyncio.Condition()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self, job: Job) -> RunStats:
        async with self.begun:
            self.jobs.append(job)
            self.begun.notify_all()
        await self.may_end.wait()
        return DONE

    async def until(self, number: int) -> None:
        """Wait until so many were begun."""
        async with self.begun, asyncio.timeout(60):
            await self.begun.wait_for(lambda: len(self.jobs) >= number)

    @property
    def projects(self) -> list[UUID]:
        return [job.project_id for job in self.jobs]


@pytest.fixture
def done() -> Done:
    return Done()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what a worker does by itself."""
    async with asyncio.timeout(120):
        while not await condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def beats_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats a tenth of a second apart, of runs that are steady."""
    monkeypatch.setattr("derwin_db.workers.claim.BEATS", 6000)


async def is_idle(worker: Any) -> bool:
    """Tell whether it does no run."""
    return worker.running == 0


async def ended(db: Database, project: UUID, run: UUID) -> bool:
    """Tell whether the run has ended."""
    return (await run_of(db, project, run)).finished_at is not None
