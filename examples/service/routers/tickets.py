"""Tickets: listed, written, changed by version, moved along their state machine, exported as a stream."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Body, Query

from derwin_db import Page, repos
from derwin_db.fastapi import Paging
from derwin_db.filters import IS_NULL
from derwin_db.models import Bucket, QATicket, QATicketCreate, QATicketUpdate, Severity, TicketStatus
from derwin_db.repos.qa_tickets import QATicketOrder
from examples.service.access import ReadScoped, Scoped, StreamScoped
from examples.service.parameters import TicketId, Version, WithTotal

router = APIRouter(prefix="/projects/{project}/tickets", tags=["tickets"])

_ID = "0198f3c2-7b1e-7c3a-9d52-4e0f6a1b2c3d"

Statuses = Annotated[list[TicketStatus] | None, Query(description="One of these statuses.")]
Severities = Annotated[list[Severity] | None, Query(description="One of these severities.")]
Buckets = Annotated[list[Bucket | Literal["NONE"]] | None, Query(description="One of these buckets; NONE: without one.")]
Kind = Annotated[str | None, Query(description="Of this kind.", examples=["calculation"])]
Other = Annotated[UUID, Body(embed=True, description="The ticket that is kept.", examples=[_ID])]
Ids = Annotated[list[UUID], Body(embed=True, max_length=1000, description="The signals' ids.", examples=[[_ID]])]
MinRisk = Annotated[float | None, Query(ge=0, le=1, description="At least this risk.", examples=[0.5])]
Change = Annotated[QATicketUpdate, Body(description="What is to change.")]
Next = Annotated[TicketStatus, Body(description="The next status.")]
Ordered = Annotated[QATicketOrder, Query(description="`-`: the greatest first.")]


@router.get("")
async def list_tickets(
    session: ReadScoped,
    paging: Paging,
    status: Statuses = None,
    severity: Severities = None,
    bucket: Buckets = None,
    classification: Kind = None,
    min_risk_score: MinRisk = None,
    order: Ordered = "-created_at",
    with_total: WithTotal = False,
) -> Page[QATicket]:
    """Return tickets."""
    return await repos.qa_tickets.list(
        session,
        status=status,
        severity=severity,
        final_bucket=bucket and [IS_NULL if one == "NONE" else one for one in bucket],
        classification=classification,
        min_risk_score=min_risk_score,
        order=order,
        with_total=with_total,
        **paging,
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
async def get_ticket(session: ReadScoped, ticket_id: TicketId) -> QATicket:
    """Return the ticket."""
    return await repos.qa_tickets.get(session, ticket_id)


@router.patch("/{ticket_id}")
async def update_ticket(session: Scoped, ticket_id: TicketId, data: Change, expected_version: Version = None) -> QATicket:
    """Change what `data` has; what it leaves out stays as it is."""
    return await repos.qa_tickets.update(session, ticket_id, data, expected_version=expected_version)


@router.post("/{ticket_id}/transition")
async def transition_ticket(session: Scoped, ticket_id: TicketId, to: Next, expected_version: Version = None) -> QATicket:
    """Move the ticket along its state machine; any other move is 409."""
    return await repos.qa_tickets.transition(session, ticket_id, to, expected_version=expected_version)


@router.post("/{ticket_id}/duplicate")
async def mark_duplicate(session: Scoped, ticket_id: TicketId, of: Other) -> QATicket:
    """End the ticket as a duplicate of another one."""
    return await repos.qa_tickets.mark_duplicate(session, ticket_id, of)


@router.post("/{ticket_id}/signals")
async def attach_signals(session: Scoped, ticket_id: TicketId, ids: Ids) -> int:
    """Make signals part of the ticket: all of them, or none."""
    return await repos.raw_signals.attach(session, ids, ticket_id)
