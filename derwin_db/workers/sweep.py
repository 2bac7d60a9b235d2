"""What is swept over all projects: stalled runs, expired evidence, trust scores. A unit of work a project, or a batch of one.

All sweeps have one shape: which projects there is something to do for is asked once, over all of them; each is then visited in
its own scope. A project that is deleted meanwhile is left out, and one that fails keeps no other from its turn.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, get_args
from uuid import UUID

from derwin_db import repos
from derwin_db.connection.facts import LOCK_NOT_AVAILABLE
from derwin_db.errors import DatabaseUnavailable, DerwinError, InvalidInput, ProjectNotFound
from derwin_db.models import PruneResult
from derwin_db.observe.events import RunEvent, tell
from derwin_db.observe.progress import Progress
from derwin_db.repos.audit_artifacts import DeleteBlob, count_remaining, prune_batch
from derwin_db.repos.validation import check_window
from derwin_db.translation.sqlstates import COLLISIONS
from derwin_db.workers.queue import Queue, all_projects, queue_of

if TYPE_CHECKING:
    from derwin_db.database import Database

logger: logging.Logger = logging.getLogger("derwin_db.retention")

What = Literal["stalled", "evidence", "trust"]
"""What is swept: runs whose worker is gone, evidence whose retention has ended, scores whose window slides."""

_OF_ONE_PROJECT = COLLISIONS | {LOCK_NOT_AVAILABLE}
"""SQLSTATEs that tell of somebody else's locks on the rows of one project, and nothing of the next one."""

_NO_ERRORS: Sequence[DerwinError] = ()

STALLED_AFTER = timedelta(seconds=60)
"""A worker's own default: a run without a heartbeat for so long counts as stalled."""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What was done: runs that are queued again, artifacts removed and left, scores computed; projects that failed."""

    requeued: int = 0
    pruned: int = 0
    remaining: int = 0
    scores: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Visited:
    """What one sweep did: in how many projects, the sum of what was done there, and where it failed."""

    projects: int = 0
    count: int = 0
    errors: Sequence[DerwinError] = ()


async def visit(
    projects: Sequence[UUID], work: Callable[[UUID], Awaitable[int]], what: What, progress: Progress | None = None
) -> Visited:
    """Do the work for each project in turn, and add up what it returns. Deleted projects count as done.

    Errors:
        DatabaseUnavailable, after which the next one would fail as well.
    """
    count = 0
    errors: list[DerwinError] = []
    for done, project in enumerate(projects, 1):
        try:
            count += await work(project)
        except ProjectNotFound:
            pass
        except DerwinError as error:
            if isinstance(error, DatabaseUnavailable) and error.sqlstate not in _OF_ONE_PROJECT:
                raise
            errors.append(error)
            logger.error("the sweep of %s failed in project %s: %s", what, project, error.message)  # noqa: TRY400  # no values
        if progress is not None:
            progress(what, done, len(projects))
    return Visited(len(projects), count, errors)


async def requeue(db: "Database", queue: Queue, older_than: timedelta, progress: Progress | None = None) -> Visited:
    """Put stalled runs back into the queue, in the projects that have some."""

    async def of_project(project: UUID) -> int:
        count: int = await db.run(project, repos.qa_runs.requeue_stalled, older_than=older_than)
        if count:
            tell(db.observers, RunEvent("requeued", None, project, None, None, count))
        return count

    return await visit(await queue.stalled(older_than), of_project, "stalled", progress)


async def refresh_trust(db: "Database", progress: Progress | None = None) -> Visited:
    """Compute the trust scores of all projects again, as their window slides."""

    async def of_project(project: UUID) -> int:
        scores: int = await db.run(project, repos.classification_trust.refresh)
        return scores

    return await visit(await all_projects(db, reason="refresh trust scores of all projects"), of_project, "trust", progress)


async def prune(
    db: "Database", *, limit_per_unit: int, delete_blob: DeleteBlob | None, dry_run: bool, progress: Progress | None
) -> tuple[PruneResult, Sequence[DerwinError]]:
    """Remove what has expired, project by project. See `Database.prune`. Returns where it failed, too."""
    async with db.admin(reason="find projects with expired evidence") as admin:
        expired = await repos.audit_artifacts.expired_by_project(admin)
    if dry_run:
        return PruneResult(0, sum(expired.values())), ()
    remaining = 0

    async def of_project(project: UUID) -> int:
        nonlocal remaining
        result = await _prune_project(db, project, limit_per_unit, delete_blob)
        remaining += result.remaining
        return result.pruned

    done = await visit(list(expired), of_project, "evidence", progress)
    logger.info("pruned %d artifacts of %d projects; %d expired ones are left", done.count, done.projects, remaining)
    return PruneResult(done.count, remaining), done.errors


async def _prune_project(db: "Database", project: UUID, limit: int, delete_blob: DeleteBlob | None) -> PruneResult:
    """Prune batch after batch, until one removes nothing: the rest is locked, held, or its blobs can't be deleted."""
    total = 0
    while True:
        async with db.project(project) as session:
            pruned = await prune_batch(session, limit, delete_blob)
            total += pruned
            if pruned < limit:  # after a full batch comes another one: to count then would read the rest again and again
                remaining = await count_remaining(session)
                if pruned == 0 or remaining == 0:
                    return PruneResult(total, remaining)


async def sweep(
    db: "Database",
    what: Collection[What],
    *,
    stalled_after: timedelta,
    limit_per_unit: int,
    delete_blob: DeleteBlob | None,
    progress: Progress | None,
) -> SweepResult:
    """Do each of these sweeps. See `Database.sweep`."""
    if any(one not in get_args(What) for one in what):
        raise InvalidInput(f"what: some of {', '.join(get_args(What))}.")
    check_window(stalled_after, "stalled_after")  # where nothing is stalled, no project would refuse it
    requeued = scores = Visited()
    pruned, unpruned = PruneResult(0, 0), _NO_ERRORS
    if "stalled" in what:
        requeued = await requeue(db, await queue_of(db), stalled_after, progress)
    if "evidence" in what:
        pruned, unpruned = await prune(
            db, limit_per_unit=limit_per_unit, delete_blob=delete_blob, dry_run=False, progress=progress
        )
    if "trust" in what:
        scores = await refresh_trust(db, progress)
    failed = len(requeued.errors) + len(unpruned) + len(scores.errors)
    return SweepResult(requeued.count, pruned.pruned, pruned.remaining, scores.count, failed)
