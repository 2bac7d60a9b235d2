"""Tickets: listed, written, changed by version, moved along their state machine, exported as a stream."""

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body
from pydantic import Field

from derwin_db import Page, repos
from derwin_db.fastapi import Paging
from derwin_db.models import Bucket, QATicket, QATicketCreate, QATicketUpdate, Severity, TicketStatus
from examples.service.access import ReadScoped, Scoped, StreamScoped

router = APIRouter(prefix="/projects/{project}/tickets", tags=["tickets"])

Version = Annotated[int | None, Body(ge=1, description="Refuse (409) unless the ticket has this version.")]


@router.get("")
async def list_tickets(
    session: ReadScoped,
    paging: Paging,
    status: TicketStatus | None = None,
    severity: Severity | None = None,
    bucket: Bucket | None = None,
    classification: str | None = None,
) -> Page[QATicket]:
    """Return tickets, newest first."""
    return await repos.qa_tickets.list(
        session, status=status, severity=severity, final_bucket=bucket, classification=classification, **paging
    )


@router.post("", status_code=201)
async def create_ticket(session: Scoped, data: QATicketCreate) -> QATicket:
    """Write a ticket."""
    return await repos.qa_tickets.create(session, data)


@router.get("/counts")
async def count_tickets(session: ReadScoped) -> dict[TicketStatus, int]:
    """Return how many tickets there are in each status."""
    return await repos.qa_tickets.counts_by_status(session)


@router.get("/export")
async def export_tickets(session: StreamScoped) -> AsyncIterator[QATicket]:
    """Return all tickets, a line of JSON each, in constant memory."""
    async for ticket in repos.qa_tickets.stream(session):
        yield ticket


@router.get("/{ticket_id}")
async def get_ticket(session: ReadScoped, ticket_id: UUID) -> QATicket:
    """Return the ticket."""
    return await repos.qa_tickets.get(session, ticket_id)


@router.patch("/{ticket_id}")
async def update_ticket(
    session: Scoped, ticket_id: UUID, data: Annotated[QATicketUpdate, Body()], expected_version: Version = None
) -> QATicket:
    """Change what `data` has; what it leaves out stays as it is."""
    return await repos.qa_tickets.update(session, ticket_id, data, expected_version=expected_version)


@router.post("/{ticket_id}/transition")
async def transition_ticket(
    session: Scoped, ticket_id: UUID, to: Annotated[TicketStatus, Body()], expected_version: Version = None
) -> QATicket:
    """Move the ticket along its state machine; any other move is 409."""
    return await repos.qa_tickets.transition(session, ticket_id, to, expected_version=expected_version)


@router.post("/{ticket_id}/duplicate")
async def mark_duplicate(session: Scoped, ticket_id: UUID, of: Annotated[UUID, Body(embed=True)]) -> QATicket:
    """End the ticket as a duplicate of another one."""
    return await repos.qa_tickets.mark_duplicate(session, ticket_id, of)


@router.post("/{ticket_id}/signals")
async def attach_signals(
    session: Scoped, ticket_id: UUID, ids: Annotated[list[UUID], Body(embed=True), Field(max_length=1000)]
) -> int:
    """Make signals part of the ticket: all of them, or none."""
    return await repos.raw_signals.attach(session, ids, ticket_id)
