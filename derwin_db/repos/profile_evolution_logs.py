"""profile_evolution_logs: reads only. Entries are written by the operations of project_profiles that they audit."""

from collections.abc import AsyncIterator
from typing import Literal, Unpack

from derwin_db.fields.scalars import Id
from derwin_db.filters import Filter, OptionalFilter
from derwin_db.models.profile_evolution_log import ProfileChange, ProfileEvolutionLog, ProfileEvolutionLogBrief
from derwin_db.paging import Page
from derwin_db.repos.base import Repository, TimeFilters
from derwin_db.session import ProjectSession


class ProfileEvolutionLogFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""

    profile_id: Filter[Id]
    doc_id: OptionalFilter[Id]
    change: Filter[ProfileChange]


ProfileEvolutionLogOrder = Literal["-created_at", "created_at", "to_version", "-to_version"]
"""Orders of `list`: `-` says that the greatest comes first."""


class ProfileEvolutionLogs(Repository[ProfileEvolutionLog]):
    """The history of the profile, append-only."""

    model = ProfileEvolutionLog
    filters = ProfileEvolutionLogFilters
    orders = ProfileEvolutionLogOrder

    async def list(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: ProfileEvolutionLogOrder = "-created_at",
        with_total: bool = False,
        **filters: Unpack[ProfileEvolutionLogFilters],
    ) -> Page[ProfileEvolutionLog]:
        """Return a page of entries.

        Order:
            Newest first, or by `to_version`, through its index.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        return await self._page(session, limit, cursor, filters, order=order, with_total=with_total)

    async def list_brief(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: ProfileEvolutionLogOrder = "-created_at",
        with_total: bool = False,
        **filters: Unpack[ProfileEvolutionLogFilters],
    ) -> Page[ProfileEvolutionLogBrief]:
        """Return a page of entries without their patches: large values are not read at all.

        Order:
            As `list`, whose cursors it takes.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        return await self._page_of(
            ProfileEvolutionLogBrief, session, limit, cursor, filters, order=order, with_total=with_total
        )

    def stream(
        self, session: ProjectSession, **filters: Unpack[ProfileEvolutionLogFilters]
    ) -> AsyncIterator[ProfileEvolutionLog]:
        """Iterate over all entries.

        Order:
            Newest first.

        Cost:
            A transaction, and a round trip for every 500 rows; constant memory.
        """
        return self._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Unpack[ProfileEvolutionLogFilters]) -> int:
        """Count entries.

        Cost:
            One statement, which counts the rows that the filters select one by one.
        """
        return await self._count(session, filters)
