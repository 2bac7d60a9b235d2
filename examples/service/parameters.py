"""Parameters that several routes have: what they mean is said once."""

from typing import Annotated
from uuid import UUID

from fastapi import Body, Path, Query

_ID = "0198f3c2-7b1e-7c3a-9d52-4e0f6a1b2c3d"

ProjectSlug = Annotated[str, Path(description="The project's slug, or its id.", examples=["lifeline"])]
TicketId = Annotated[UUID, Path(description="The ticket's id.", examples=[_ID])]
RunId = Annotated[UUID, Path(description="The run's id.", examples=[_ID])]
WebhookId = Annotated[UUID, Path(description="The webhook's id.", examples=[_ID])]
Version = Annotated[int | None, Body(ge=1, description="Refuse (409) unless the row has this version.", examples=[3])]
WithTotal = Annotated[bool, Query(description="Count what the filters select, too, up to 10,000.")]
