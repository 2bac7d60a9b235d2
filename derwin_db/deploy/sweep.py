"""The sweep of expired evidence over all projects: a unit of work a batch, each in a project's own session."""

import logging
from typing import Protocol
from uuid import UUID

from derwin_db import repos
from derwin_db.errors import ProjectNotFound
from derwin_db.models import PruneResult
from derwin_db.observe.progress import Progress
from derwin_db.repos.audit_artifacts import DeleteBlob, count_remaining, prune_batch
from derwin_db.session import AdminSession, ProjectSession

logger: logging.Logger = logging.getLogger("derwin_db.retention")


class Opener(Protocol):
    """What opens units of work: a `Database`."""

    def project(self, project: UUID) -> ProjectSession: ...

    def admin(self, *, reason: str) -> AdminSession: ...


async def sweep(
    db: Opener, *, limit_per_unit: int, delete_blob: DeleteBlob | None, dry_run: bool, progress: Progress | None
) -> PruneResult:
    """Remove what has expired, project by project. See `Database.prune`."""
    async with db.admin(reason="find projects with expired evidence") as admin:
        expired = await repos.audit_artifacts.expired_by_project(admin)
    if dry_run:
        return PruneResult(0, sum(expired.values()))
    pruned = remaining = 0
    for done, project in enumerate(expired, 1):
        try:
            result = await _sweep_project(db, project, limit_per_unit, delete_blob)
        except ProjectNotFound:  # deleted meanwhile, and its evidence with it
            continue
        pruned += result.pruned
        remaining += result.remaining
        if progress is not None:
            progress("projects", done, len(expired))
    logger.info("pruned %d artifacts of %d projects; %d expired ones are left", pruned, len(expired), remaining)
    return PruneResult(pruned, remaining)


async def _sweep_project(db: Opener, project: UUID, limit: int, delete_blob: DeleteBlob | None) -> PruneResult:
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
