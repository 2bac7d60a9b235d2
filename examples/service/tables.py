"""A table of the service's own, under the same fences as ours: whom to tell when tickets move."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from derwin_db.models import QATicket
from derwin_db.tables import (
    Changing,
    Count,
    Fields,
    Id,
    Input,
    ProjectTable,
    Repository,
    ShortText,
    WebUrl,
    choice,
    describe,
    nullable,
    references,
    unique,
    unset,
    with_default,
)


class WebhookEvent(StrEnum):
    """What a webhook hears of."""

    TICKET_OPENED = "TICKET_OPENED"
    TICKET_RESOLVED = "TICKET_RESOLVED"


class WebhookFields(Fields):
    """What a webhook is written with."""

    url: WebUrl
    event: Annotated[WebhookEvent, choice(WebhookEvent)]
    ticket_id: Id | None = references(QATicket, optional=True, ondelete="CASCADE")
    note: ShortText | None = nullable(ShortText)


class WebhookCreate(WebhookFields, Input):
    """Input of `webhooks.create`."""


class WebhookUpdate(Input):
    """Input of `webhooks.update`."""

    url: WebUrl = unset()
    event: WebhookEvent = unset()
    note: ShortText | None = unset()


class Webhook(Changing, WebhookFields, ProjectTable, table=True):
    """One address to call. Unique by address and event; goes with its ticket, if it is of one, or its project."""

    __tablename__: ClassVar[str] = "webhooks"
    __table_args__: ClassVar[tuple[Any, ...]] = (unique("webhooks", "url", "event"),)

    version: int = with_default(Count, default=1, server_default="1")


webhooks: Repository[Webhook, WebhookCreate, WebhookUpdate] = Repository(Webhook, create=WebhookCreate, update=WebhookUpdate)

describe(
    __name__,
    {
        "url": ("The address that is called.", "https://hooks.example.org/tickets"),
        "event": ("What it hears of.", "TICKET_OPENED"),
        "ticket_id": ("The one ticket that it hears of; null for all.", "0198f3c2-7b1e-7c3a-9d52-4e0f6a1b2c3d"),
        "note": ("Why it is there.", "For the dashboard."),
        "version": ("Counts the changes, from 1.", 3),
    },
)
