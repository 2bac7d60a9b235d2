"""The claim on a run: kept alive by heartbeats while the run is being done, and ended for good, whatever the database is doing.

Each claim has a name that nobody else has, not even the same worker later on, and each statement on a claimed run is bound to
it. So a worker that was away for too long changes nothing of a run that is somebody else's by now.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from derwin_db import repos
from derwin_db.errors import Conflict, DatabaseTimeout, DatabaseUnavailable, DerwinError, NotFound, StorageFull
from derwin_db.models import QARun, RunStats, RunStatus
from derwin_db.session import ProjectSession
from derwin_db.workers.job import Job

if TYPE_CHECKING:
    from derwin_db.database import Database

logger: logging.Logger = logging.getLogger("derwin_db.worker")

BEATS = 6
"""Heartbeats in the time after which a run counts as stalled. A worker gives its claim up one of them before that time."""

_LONGEST_PAUSE = 2.0

End = Callable[[ProjectSession], Awaitable[QARun]]


class Claim:
    """One claim, from its first moment to its end."""

    def __init__(self, db: "Database", job: Job, stalled_seconds: float, claimed_at: float) -> None:
        self._db = db
        self._job = job
        self._beat = stalled_seconds / BEATS
        self._lease = stalled_seconds - self._beat
        self._alive_until = claimed_at + self._lease
        self._has_time = True

    def hurry(self) -> None:
        """Try the end once more at the most: the worker is about to be gone, and a claim that is left behind stalls."""
        self._has_time = False

    @property
    def is_alive(self) -> bool:
        """Whether nobody else can have the run yet, as far as this side's clock tells."""
        return asyncio.get_running_loop().time() < self._alive_until

    async def keep(self) -> None:
        """Send heartbeats, and return when the claim is lost: the run was ended, deleted or given to another, or time is up."""
        clock = asyncio.get_running_loop().time
        pause = self._beat
        while True:
            await asyncio.sleep(pause * random.uniform(0.8, 1.0))  # noqa: S311  # spreads load
            begun = clock()
            try:
                async with asyncio.timeout_at(self._alive_until):
                    await self._run(lambda session: repos.qa_runs.heartbeat(session, self._job.run_id, worker=self._job.claim))
            except (Conflict, NotFound):
                return
            except (DerwinError, TimeoutError):
                if not self.is_alive:
                    return
                pause = self._beat / BEATS
            else:
                self._alive_until = begun + self._lease
                pause = self._beat

    async def complete(self, stats: RunStats | None) -> RunStatus | None:
        """End the run as COMPLETED; without statistics, with those of what is stored of it."""
        id, claim = self._job.run_id, self._job.claim

        async def end(session: ProjectSession) -> QARun:
            found = await repos.qa_runs.statistics(session, id) if stats is None else stats
            return await repos.qa_runs.complete(session, id, found, worker=claim)

        return await self._end(end)

    async def fail(self, error: str) -> RunStatus | None:
        """End the run as FAILED."""
        id, claim = self._job.run_id, self._job.claim
        return await self._end(lambda session: repos.qa_runs.fail(session, id, error, worker=claim))

    async def give_back(self) -> RunStatus | None:
        """Put the run back into the queue."""
        id, claim = self._job.run_id, self._job.claim
        return await self._end(lambda session: repos.qa_runs.give_back(session, id, worker=claim))

    async def _end(self, end: End) -> RunStatus | None:
        """Do it, again and again while the claim lives, and return what the run is then. None: lost, or nobody can tell."""
        pause = 0.05
        while True:
            try:
                row: QARun = await self._run(end)
            except (Conflict, NotFound):
                return await self._ended_before()
            except (DatabaseUnavailable, DatabaseTimeout, StorageFull) as error:
                if not (self.is_alive and self._has_time):
                    logger.warning("the end of a run could not be stored in time (%s): it will be run again", error.code)
                    return None
            else:
                return row.status
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311  # full jitter
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def has_completed(self) -> bool:
        """Tell whether the function has completed the run itself and goes on: then there is no claim to lose any more."""
        return self._job.is_completed or (self.is_alive and await self._ended_before() is RunStatus.COMPLETED)

    async def _ended_before(self) -> RunStatus | None:
        """Return what this claim ended the run as: an end whose answer was lost may have been stored."""
        try:
            row = await self._run(lambda session: repos.qa_runs.find(session, self._job.run_id))
        except DerwinError:
            return None
        return row.status if row is not None and row.claimed_by == self._job.claim else None

    async def _run(self, work: Callable[[ProjectSession], Awaitable[Any]]) -> Any:
        return await self._db.run(self._job.project_id, work)
