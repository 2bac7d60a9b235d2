"""Spending: entries go into an append-only ledger, under the daily cap of the project's policy."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime

from derwin_db import Page, repos
from derwin_db.errors import NotFound
from derwin_db.fastapi import Paging
from derwin_db.models import SpendCap, SpendLedger, SpendLedgerCreate, SpendSource
from derwin_db.repos.spend_ledger import SpendLedgerOrder
from examples.service.access import ReadScoped, Scoped
from examples.service.parameters import WithTotal

router = APIRouter(prefix="/projects/{project}/spend", tags=["spend"])

DEFAULT_DAILY_CAP = Decimal(50)

_TIME = "2026-03-01T00:00:00Z"
Since = Annotated[AwareDatetime | None, Query(description="From this time on.", examples=[_TIME])]
Until = Annotated[AwareDatetime | None, Query(description="Before this time.", examples=[_TIME])]
Key = Annotated[Literal["source", "model", "day"], Path(description="What to add up by.")]


@router.get("")
async def list_spend(
    session: ReadScoped,
    paging: Paging,
    source: Annotated[list[SpendSource] | None, Query(description="One of these.")] = None,
    order: Annotated[SpendLedgerOrder, Query(description="`-`: the greatest first.")] = "-created_at",
    with_total: WithTotal = False,
) -> Page[SpendLedger]:
    """Return entries."""
    return await repos.spend_ledger.list(session, source=source, order=order, with_total=with_total, **paging)


@router.post("")
async def append_spend(session: Scoped, data: SpendLedgerCreate) -> SpendLedger:
    """Book an entry. The same key with the same content is booked once; over the cap it is 409 and nothing is booked."""
    try:
        daily = (await repos.policies.active(session)).thresholds.daily_spend_limit_usd
    except NotFound:
        daily = None
    cap = SpendCap(DEFAULT_DAILY_CAP if daily is None else daily, timedelta(days=1))
    return await repos.spend_ledger.append(session, data, cap=cap)


@router.get("/total")
async def total_spend(session: ReadScoped, since: Since = None, until: Until = None) -> Decimal:
    """Return what was spent, in US dollars, exactly."""
    return await repos.spend_ledger.total(session, since=since, until=until)


@router.get("/by/{key}")
async def spend_by(session: ReadScoped, key: Key) -> dict[str, Decimal]:
    """Return what was spent by source, model or day (UTC)."""
    totals = await repos.spend_ledger.totals_by(session, key)
    return {"-" if name is None else str(name): amount for name, amount in totals.items()}
