"""New tickets as server-sent events.

A stream without an end holds no transaction: it opens a unit of work for each look. Tickets are stamped with the start of
the transaction that wrote them, so one may turn up late: each look goes back a minute, and what was sent is not sent again.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import UUID

from fastapi import APIRouter
from fastapi.sse import EventSourceResponse, ServerSentEvent

from derwin_db import repos
from derwin_db.models import QATicket
from examples.service.access import Readable, db

router = APIRouter(prefix="/projects/{project}/tickets", tags=["tickets"])

SECONDS_BETWEEN_LOOKS = 0.5
LATEST_COMMIT = timedelta(minutes=1)
"""How long after its start a transaction may commit: DERWIN_TRANSACTION_TIMEOUT."""

Sent = dict[UUID, datetime]
"""When what was sent had been written."""


@router.get("/events", response_class=EventSourceResponse)
async def ticket_events(project: Readable) -> AsyncIterator[ServerSentEvent]:
    """Send each ticket that is written from now on."""
    sent = await _newest(project)
    sent.update({ticket.id: ticket.created_at for ticket in await _look(project, sent)})
    yield ServerSentEvent(comment="listening")
    while True:
        for ticket in await _look(project, sent):
            sent[ticket.id] = ticket.created_at
            yield ServerSentEvent(data=ticket, event="ticket", id=str(ticket.id))
        sent = _without_old(sent)
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)


async def _newest(project: str) -> Sent:
    async with db.project(project, read_only=True) as session:
        return {ticket.id: ticket.created_at for ticket in (await repos.qa_tickets.list(session, limit=1)).items}


async def _look(project: str, sent: Sent) -> list[QATicket]:
    """Return what was not sent, oldest first: from a minute before the newest that was, or all where none was."""
    since = max(sent.values()) - LATEST_COMMIT if sent else None
    async with db.project(project, read_only=True) as session:
        found = [ticket async for ticket in repos.qa_tickets.stream(session, since=since) if ticket.id not in sent]
    return found[::-1]


def _without_old(sent: Sent) -> Sent:
    """Keep what a look may find again."""
    if not sent:
        return sent
    oldest = max(sent.values()) - LATEST_COMMIT
    return {ticket_id: created_at for ticket_id, created_at in sent.items() if created_at >= oldest}
