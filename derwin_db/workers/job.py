"""`Job`: one claimed run, and what the function that does it may use. Its claim is kept alive, and ended, by `claim`."""

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

from derwin_db import repos
from derwin_db.models import QARun, RunStats
from derwin_db.session import ProjectSession

if TYPE_CHECKING:
    from derwin_db.database import Database


class Job:
    """One claimed run, handed to the function that does it.

    `run` is the row as it was claimed; `stopping` is set when the worker is to stop: what can be ended early then, should.
    """

    def __init__(self, db: "Database", run: QARun, claim: str) -> None:
        self.__db = db
        self.__project_id, self.__run_id, self.__claim = run.project_id, run.id, claim
        self.run: QARun = run
        self.stopping: asyncio.Event = asyncio.Event()
        self.is_completed: bool = False

    @property
    def project_id(self) -> UUID:
        """The run's project: the only one that this job's sessions reach."""
        return self.__project_id

    @property
    def run_id(self) -> UUID:
        """The run's id, which stays what it was claimed with."""
        return self.__run_id

    @property
    def claim(self) -> str:
        """The name of the claim: the `worker` of the verbs of `repos.qa_runs`. Another claim of the same run has another."""
        return self.__claim

    def project(self, *, read_only: bool = False, snapshot: bool = False) -> ProjectSession:
        """Return a unit of work of the run's project, as `Database.project` does: as many as the job needs, each short."""
        return self.__db.project(self.project_id, read_only=read_only, snapshot=snapshot)

    async def complete(self, session: ProjectSession, stats: RunStats) -> QARun:
        """End the run as COMPLETED in this unit, with what else is written in it: all of it is stored, once, or nothing.

        Errors:
            Conflict or IllegalTransition where the claim is lost: raise it, and the unit leaves nothing behind.
        """
        row = await repos.qa_runs.complete(session, self.run_id, stats, worker=self.claim)
        session.after_commit(self._note_completed)
        return row

    def _note_completed(self) -> None:
        self.is_completed = True
