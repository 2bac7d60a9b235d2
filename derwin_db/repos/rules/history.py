"""Writing the past of a project: only while the admin door says so are times and rules taken as they are given."""

from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from derwin_db.query.statement import Statement, command
from derwin_db.session import AdminSession, ImportSession

_RESTORING = sa.table("restoring", sa.column("id", sa.Uuid()), schema="derwin")


async def open_history(session: AdminSession | ImportSession, project_id: UUID) -> None:
    """Let units of work write rows of this project with times of the past, for a day at the most.

    Several may open it at once: it is open once, and the first `close_history` ends it for all.
    So those that write at the same time write the same rows, and take those that are there: who is done first has written all.
    """
    await close_history(session, project_id)
    await session.execute(_open_statement(), {"id": project_id})


async def close_history(session: AdminSession | ImportSession, project_id: UUID) -> None:
    """Have the database stamp what is written into this project, as into all others."""
    await session.execute(_close_statement(), {"id": project_id})


@cache
def _open_statement() -> Statement[None]:
    values: dict[str, Any] = {"id": sa.bindparam("id", type_=sa.Uuid())}
    return command("projects.open_history", insert(_RESTORING).values(values).on_conflict_do_nothing(), is_scoped=False)


@cache
def _close_statement() -> Statement[None]:
    query = sa.delete(_RESTORING).where(_RESTORING.c.id == sa.bindparam("id", type_=sa.Uuid()))
    return command("projects.close_history", query, is_scoped=False)
