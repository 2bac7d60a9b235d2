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
