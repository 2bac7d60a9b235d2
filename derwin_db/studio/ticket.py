"""A ticket with all that belongs to it: signals, attempts, artifacts, duplicates."""

from uuid import UUID

import sqlalchemy as sa
from sqlmodel import col
from starlette.requests import Request
from starlette.responses import Response

from derwin_db import repos
from derwin_db.models import AuditArtifact, QAFixAttempt
from derwin_db.studio.rendering import render
from derwin_db.studio.request_params import query, unit

_MOST = 50


async def show(request: Request) -> Response:
    """Show the ticket.

    Cost:
        Seven statements, each through an index; of each kind the newest 50.
    """
    id: UUID = request.path_params["id"]
    query(request)
    async with unit(request) as session:
        project = await repos.projects.current(session)
        ticket = await repos.qa_tickets.get(session, id)
        signals = await repos.raw_signals.list(session, ticket_id=id, limit=_MOST)
        attempts = await repos.qa_fix_attempts.list(session, ticket_id=id, limit=_MOST)
        duplicates = await repos.qa_tickets.list(session, duplicate_of_id=id, limit=_MOST)
        artifacts = (await session.sql.scalars(_artifacts(id))).all()
        trust = await repos.classification_trust.for_classification(session, ticket.classification)
    return render(
        request,
        "ticket.html",
        project=project,
        section="tables",
        ticket=ticket,
        signals=signals,
        attempts=attempts,
        duplicates=duplicates,
        artifacts=artifacts[:_MOST],
        has_more_artifacts=len(artifacts) > _MOST,
        trust=trust,
    )


def _artifacts(ticket_id: UUID) -> sa.Select[AuditArtifact]:
    """Evidence of the ticket itself and of its attempts: no filter of the repository names both."""
    attempts = sa.select(col(QAFixAttempt.id)).where(col(QAFixAttempt.ticket_id) == ticket_id)
    of_ticket = sa.or_(col(AuditArtifact.ticket_id) == ticket_id, col(AuditArtifact.fix_attempt_id).in_(attempts))
    order = col(AuditArtifact.created_at).desc(), col(AuditArtifact.id).desc()
    return sa.select(AuditArtifact).where(of_ticket).order_by(*order).limit(_MOST + 1)
