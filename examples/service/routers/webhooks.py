"""Webhooks: a table of the service's own, with the verbs of a repository, behind the same fences as the tables of derwin-db."""

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Query

from derwin_db import Page
from derwin_db.fastapi import Paging
from derwin_db.models import BatchReport
from examples.service.access import ReadScoped, Scoped
from examples.service.parameters import Version, WebhookId, WithTotal
from examples.service.tables import Webhook, WebhookCreate, WebhookEvent, WebhookUpdate, webhooks

router = APIRouter(prefix="/projects/{project}/webhooks", tags=["webhooks"])


@router.get("")
async def list_webhooks(
    session: ReadScoped,
    paging: Paging,
    event: Annotated[list[WebhookEvent] | None, Query(description="One of these events.")] = None,
    order: Annotated[Literal["-created_at", "created_at"], Query(description="Newest or oldest first.")] = "-created_at",
    with_total: WithTotal = False,
) -> Page[Webhook]:
    """Return webhooks."""
    return await webhooks.list(session, event=event, order=order, with_total=with_total, **paging)


@router.post("", status_code=201)
async def create_webhook(session: Scoped, data: WebhookCreate) -> Webhook:
    """Write a webhook. An address hears of an event once: 409 if it does already."""
    return await webhooks.create(session, data)


@router.post("/bulk")
async def create_webhooks(session: Scoped, rows: Annotated[list[WebhookCreate], Body(max_length=1000)]) -> BatchReport:
    """Write those that can be written, and say of each other one which rule it breaks."""
    return await webhooks.create_many(session, rows, on_error="report")


@router.get("/{webhook_id}")
async def get_webhook(session: ReadScoped, webhook_id: WebhookId) -> Webhook:
    """Return the webhook."""
    return await webhooks.get(session, webhook_id)


@router.patch("/{webhook_id}")
async def update_webhook(
    session: Scoped,
    webhook_id: WebhookId,
    data: Annotated[WebhookUpdate, Body(description="What is to change.")],
    expected_version: Version = None,
) -> Webhook:
    """Change what `data` has; what it leaves out stays as it is."""
    return await webhooks.update(session, webhook_id, data, expected_version=expected_version)


@router.delete("/{webhook_id}", status_code=204)
async def delete_webhook(session: Scoped, webhook_id: WebhookId) -> None:
    """Delete the webhook."""
    await webhooks.delete(session, webhook_id)
