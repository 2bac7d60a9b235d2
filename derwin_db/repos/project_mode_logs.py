"""project_mode_logs: reads only. Entries are written by `projects.create` and `projects.set_mode`."""

from collections.abc import AsyncIterator
from typing import Literal, Unpack

from derwin_db.filters import Filter, OptionalFilter
from derwin_db.models.enums import ProjectMode
from derwin_db.models.project_mode_log import ProjectModeLog
from derwin_db.paging import Page
from derwin_db.repos.base import Repository, TimeFilters
from derwin_db.session import ProjectSession


class ProjectModeLogFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""

    from_mode: OptionalFilter[ProjectMode]
    to_mode: Filter[ProjectMode]


ProjectModeLogOrder = Literal["-created_at", "created_at"]
"""Orders of `list`: `-` says that the greatest comes first."""


class ProjectModeLogs(Repository[ProjectModeLog]):
    """The history of the project's mode, append-only."""

    model = ProjectModeLog
    filters = ProjectModeLogFilters
    orders = ProjectModeLogOrder

    async def list(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: ProjectModeLogOrder = "-created_at",
        with_total: bool = False,
        **filters: Unpack[ProjectModeLogFilters],
    ) -> Page[ProjectModeLog]:
        """Return a page of entries.

        Order:
            Newest first.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        return await self._page(session, limit, cursor, filters, order=order, with_total=with_total)

    def stream(self, session: ProjectSession, **filters: Unpack[ProjectModeLogFilters]) -> AsyncIterator[ProjectModeLog]:
        """Iterate over all entries.

        Order:
            Newest first.

        Cost:
            A transaction, and a round trip for every 500 rows; constant memory.
        """
        return self._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Unpack[ProjectModeLogFilters]) -> int:
        """Count entries.

        Cost:
            One statement, which counts the rows that the filters select one by one.
        """
        return await self._count(session, filters)
