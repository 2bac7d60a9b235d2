"""The end of a project: what stands in its way, what is counted, and what goes. Through the admin door."""

from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from derwin_db import sql
from derwin_db.errors import ProjectNotFound, RetentionLocked
from derwin_db.models.audit_artifact import AuditArtifact
from derwin_db.models.project import Project
from derwin_db.query.builders import param, table_of
from derwin_db.query.statement import Statement, command, scalars, tuples
from derwin_db.repos.rules.own import own_tables
from derwin_db.session import AdminSession

_PROJECTS = table_of(Project)
_ARTIFACTS = table_of(AuditArtifact)
_CASCADING = tuple(name for name in sql.PROJECT_TABLES if name != "spend_ledger")
_ID = param("id", _PROJECTS.c.id)


async def lock_whole(session: AdminSession, project_id: UUID) -> bool:
    """Lock the project, also against new rows that refer to it. Returns whether it exists."""
    return bool(await session.fetch(_lock_whole_statement(), {"id": project_id}))


async def remove(session: AdminSession, project_id: UUID, *, despite_retention: bool) -> dict[str, int]:
    """Delete the project with all rows of it but the ledger's. Returns how many went, by table.

    Errors:
        ProjectNotFound, RetentionLocked.
    """
    await session.allow_long_statements()
    if not await lock_whole(session, project_id):
        raise ProjectNotFound
    held, kept = (await session.fetch(_kept_statement(), {"id": project_id}))[0]
    if held:
        raise RetentionLocked("Evidence of this project is under legal hold. Release it first.")
    if kept and not despite_retention:
        raise RetentionLocked("Evidence of this project must still be kept. Delete despite_retention=True, if you may.")
    counts = (await session.fetch(_counts_statement(), {"id": project_id}))[0]
    own = [one for one in await own_tables(session, is_scoped=False) if one.is_fenced]
    of_service = {one.name: (await session.fetch(_count_own_statement(one.table), {"id": project_id}))[0] for one in own}
    await session.execute(_delete_statement(), {"id": project_id})
    return {"projects": 1, **dict(zip(_CASCADING, counts, strict=True)), **of_service}


@cache
def _lock_whole_statement() -> Statement[UUID]:
    """FOR UPDATE: it keeps off every row that would refer to the project."""
    query = sa.select(_PROJECTS.c.id).where(_PROJECTS.c.id == _ID).with_for_update()
    return scalars("projects.lock", query, is_scoped=False)


@cache
def _kept_statement() -> Statement[tuple[Any, ...]]:
    query = sa.select(
        sa.func.count().filter(_ARTIFACTS.c.legal_hold), sa.func.count().filter(_ARTIFACTS.c.retention_until > sa.func.now())
    ).where(_ARTIFACTS.c.project_id == _ID)
    return tuples("projects.delete", query, is_scoped=False)


@cache
def _counts_statement() -> Statement[tuple[Any, ...]]:
    tables = [Project.metadata.tables[f"public.{name}"] for name in _CASCADING]
    counts = [sa.select(sa.func.count()).where(table.c.project_id == _ID).scalar_subquery() for table in tables]
    return tuples("projects.delete", sa.select(*counts), is_scoped=False)


@cache
def _count_own_statement(table: sa.Table) -> Statement[int]:
    query = sa.select(sa.func.count(table.c.project_id)).where(table.c.project_id == _ID)
    return scalars("projects.delete", query, is_scoped=False)


@cache
def _delete_statement() -> Statement[None]:
    return command("projects.delete", sa.delete(_PROJECTS).where(_PROJECTS.c.id == _ID), is_scoped=False)
