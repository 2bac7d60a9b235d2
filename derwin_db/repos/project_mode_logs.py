"""project_mode_logs: reads only. Entries are written by `projects.create` and `projects.set_mode`."""

from collections.abc import AsyncIterator
from typing import Unpack

from derwin_db.models.enums import ProjectMode
from derwin_db.models.project_mode_log import ProjectModeLog
from derwin_db.paging import Page
from derwin_db.repos.base import Repository, TimeFilters
from derwin_db.session import ProjectSession


class ProjectModeLogFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""

    from_mode: ProjectMode | None
    to_mode: ProjectMode | None


class ProjectModeLogs(Repository[ProjectModeLog]):
    """The history of the project's mode, append-only."""

    model = ProjectModeLog
    filters = ProjectModeLogFilters

    async def list(
        self, session: ProjectSession, *, limit: int = 50, cursor: str | None = None, **filters: Unpack[ProjectModeLogFilters]
    ) -> Page[ProjectModeLog]:
        """Return a page of entries.

        Order:
            Newest first.
        """
        return await self._page(session, limit, cursor, filters)

    def stream(self, session: ProjectSession, **filters: Unpack[ProjectModeLogFilters]) -> AsyncIterator[ProjectModeLog]:
        """Iterate over all entries.

        Order:
            Newest first.
        """
        return self._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Unpack[ProjectModeLogFilters]) -> int:
        """Count entries."""
        return await self._count(session, filters)
