"""Evidence of any age: a verb writes it as of now, raw SQL of the project's own session as of any time, as long as the
admin door lets it write the past."""

from typing import Any
from uuid import UUID

import sqlalchemy as sa

from derwin_db import ProjectSession
from derwin_db.fields.scalars import new_id
from derwin_db.models import ComplianceMode
from derwin_db.testing.history import writing_history

_INSERT = (
    "INSERT INTO audit_artifacts (project_id, id, kind, storage_uri, mime_type, byte_size, content_hash,"
    " compliance_mode, ticket_id, created_at, retention_until) VALUES (:project_id, :id, 'LOG', 's3://b/k',"
    " 'text/plain', 1, repeat('a', 64), :mode, :ticket_id, {created_at}, {until})"
)


async def evidence(
    session: ProjectSession,
    *,
    created_at: str = "now()",
    until: str,
    mode: ComplianceMode = ComplianceMode.STANDARD,
    ticket_id: UUID | None = None,
) -> UUID:
    """Write evidence with these times, each an SQL expression, and return its id."""
    id = new_id()
    values: dict[str, Any] = {"id": id, "project_id": session.project_id, "mode": mode, "ticket_id": ticket_id}
    async with writing_history(session):
        await session.sql.execute(sa.text(_INSERT.format(created_at=created_at, until=until)), values)
    return id


async def expired(session: ProjectSession, number: int) -> list[UUID]:
    """Write evidence whose time has come, and return the ids, expired longest first."""
    return [await evidence(session, until=f"now() - interval '1 day' + interval '{n} seconds'") for n in range(number)]
