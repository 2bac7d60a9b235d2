"""policies: what the platform may do by itself, by version; at most one is active."""

from collections.abc import AsyncIterator
from functools import cache
from typing import ClassVar, Literal, Unpack
from uuid import UUID

import sqlalchemy as sa

from derwin_db.errors import NotFound, ProjectNotFound
from derwin_db.fields.scalars import new_id
from derwin_db.models.policy import Policy, PolicyCreate
from derwin_db.models.project import Project
from derwin_db.paging import Page
from derwin_db.query.builders import insert_of_project, param, scoped, scoped_update, table_of
from derwin_db.query.statement import Statement, command, entities, scalars
from derwin_db.repos.base import TimeFilters, WritableRepository
from derwin_db.session import ProjectSession, project_session

_POLICIES = table_of(Policy)
_PROJECTS = table_of(Project)


class PolicyFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""


PolicyOrder = Literal["-created_at", "created_at", "version", "-version"]
"""Orders of `list`: `-` says that the greatest comes first."""


class Policies(WritableRepository[Policy]):
    """Policy versions, never edited. `list` is the history."""

    model = Policy
    create_model: ClassVar[type[PolicyCreate]] = PolicyCreate
    filters = PolicyFilters
    orders = PolicyOrder

    async def list(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: PolicyOrder = "-created_at",
        with_total: bool = False,
        **filters: Unpack[PolicyFilters],
    ) -> Page[Policy]:
        """Return a page of versions.

        Order:
            Newest first, or by `version`, through its index.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        return await self._page(session, limit, cursor, filters, order=order, with_total=with_total)

    def stream(self, session: ProjectSession, **filters: Unpack[PolicyFilters]) -> AsyncIterator[Policy]:
        """Iterate over all versions.

        Order:
            Newest first.

        Cost:
            A transaction, and a round trip for every 500 rows; constant memory.
        """
        return self._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Unpack[PolicyFilters]) -> int:
        """Count versions.

        Cost:
            One statement, which counts the rows that the filters select one by one.
        """
        return await self._count(session, filters)

    async def active(self, session: ProjectSession) -> Policy:
        """Return the active version.

        Errors:
            NotFound before the first one.

        Cost:
            One statement.
        """
        rows = await project_session(session).fetch(_active_statement(), {})
        if not rows:
            raise NotFound("The project has no active policy yet.")
        return rows[0]

    async def activate(self, session: ProjectSession, data: PolicyCreate) -> Policy:
        """Write the next version and make it the active one. There is no moment with two active ones, or none.

        Locks:
            The project's row, until the end of the unit.

        Cost:
            Three statements.
        """
        session = project_session(session)
        values = {**self._create_values(data), "id": new_id()}
        if not await session.fetch(_lock_project_statement(), {}):
            raise ProjectNotFound
        await session.execute(_deactivate_statement(), {})
        return (await session.fetch(_activate_statement(), values))[0]


@cache
def _active_statement() -> Statement[Policy]:
    return entities("policies.active", scoped(Policy).where(_POLICIES.c.is_active), Policy)


@cache
def _lock_project_statement() -> Statement[UUID]:
    return scalars("policies.activate", scoped(Project, _PROJECTS.c.id).with_for_update(key_share=True))


@cache
def _deactivate_statement() -> Statement[None]:
    return command("policies.activate", scoped_update(Policy).where(_POLICIES.c.is_active).values(is_active=False))


@cache
def _activate_statement() -> Statement[Policy]:
    """A statement of its own: in one with the deactivation, both would meet at the unique index."""
    last = scoped(Policy, sa.func.coalesce(sa.func.max(_POLICIES.c.version), 0)).correlate(None).scalar_subquery()
    values = {name: param(name, _POLICIES.c[name]) for name in ("id", *PolicyCreate.model_fields)}
    query = insert_of_project(Policy, {**values, "version": last + 1, "is_active": sa.true()})
    return entities("policies.activate", query.returning(*_POLICIES.c), Policy)
