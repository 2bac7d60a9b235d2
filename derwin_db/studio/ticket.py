"""A ticket with all that belongs to it: signals, attempts, artifacts, duplicates, spending, past fixes."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from derwin_db import repos
from derwin_db.models import AuditArtifact
from derwin_db.session import ProjectSession
from derwin_db.studio.related import children_of, names_of
from derwin_db.studio.rendering import render
from derwin_db.studio.request_params import current, query, unit, views
from derwin_db.studio.views import VIEWS

_MOST = 50
_SHOWN = ("raw_signals", "qa_fix_attempts", "audit_artifacts", "qa_tickets")
"""Tables whose rows the page shows itself."""


async def show(request: Request) -> Response:
    """Show the ticket.

    Cost:
        About a dozen statements, each through an index; of each kind the newest 50.
    """
    id: UUID = request.path_params["id"]
    query(request)
    view = VIEWS["qa_tickets"]
    async with unit(request) as session:
        project = await current(request, session)
        ticket = await repos.qa_tickets.get(session, id)
        signals = await repos.raw_signals.list(session, ticket_id=id, limit=_MOST)
        attempts = await repos.qa_fix_attempts.list(session, ticket_id=id, limit=_MOST)
        duplicates = await repos.qa_tickets.list(session, duplicate_of_id=id, limit=_MOST)
        artifacts = await _artifacts(session, id, [attempt.id for attempt in attempts.items])
        trust = await repos.classification_trust.for_classification(session, ticket.classification)
        names = await names_of(session, views(request), view, [ticket])
        more = [child for child in await children_of(session, views(request), view, ticket) if child.view.name not in _SHOWN]
    return render(
        request,
        "ticket.html",
        project=project,
        section=view.name,
        view=view,
        ticket=ticket,
        signals=signals,
        attempts=attempts,
        duplicates=duplicates,
        artifacts=artifacts,
        trust=trust,
        names=names,
        more=more,
    )


async def _artifacts(session: ProjectSession, ticket_id: UUID, attempt_ids: list[UUID]) -> list[AuditArtifact]:
    """Return the newest evidence of the ticket itself and of its attempts: no filter of the repository names both."""
    found = {row.id: row for row in (await repos.audit_artifacts.list(session, ticket_id=ticket_id, limit=_MOST)).items}
    if attempt_ids:
        of_attempts = await repos.audit_artifacts.list(session, fix_attempt_id=attempt_ids, limit=_MOST)
        found.update((row.id, row) for row in of_attempts.items)
    newest = sorted(found.values(), key=lambda row: (row.created_at, row.id), reverse=True)
    return newest[:_MOST]
