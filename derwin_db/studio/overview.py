"""The first page of a project: its numbers and its charts."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from derwin_db import repos
from derwin_db.errors import InvalidInput
from derwin_db.models import Bucket, DiscoveryRoute, QARun, RunStatus, SignalStatus, TicketStatus
from derwin_db.models.qa_ticket import OPEN_STATUSES
from derwin_db.session import ProjectSession
from derwin_db.studio import aggregates, charts
from derwin_db.studio.aggregates import Period
from derwin_db.studio.charts import Chart, Data
from derwin_db.studio.rendering import day, money, number, render, url, words
from derwin_db.studio.request_params import current, query, unit, whole

PERIODS = (14, 30, 60, 90)
_DEFAULT = 60
_RUNS = 60
_TONES = 8
_NARROW, _BROAD = 6, 9
"""How many labels stand below a chart."""

_NO_BUCKET = "No bucket"


async def show(request: Request) -> Response:
    """Show a project over some days.

    Cost:
        Seven statements, in two units of work at the same time.
    """
    days = whole(query(request, "days").get("days"), "days", _DEFAULT)
    if days not in PERIODS:
        raise InvalidInput(f"days: one of {', '.join(map(str, PERIODS))}.")
    period = Period.of(days)
    (project, page, spent, tickets), (scores, signals, outcomes) = await asyncio.gather(
        _ask(
            request,
            lambda session: current(request, session),
            lambda session: repos.qa_runs.list(session, limit=_RUNS),
            lambda session: aggregates.spend(session, period),
            aggregates.tickets,
        ),
        _ask(
            request,
            lambda session: aggregates.trust(session, period),
            lambda session: aggregates.signals(session, period),
            lambda session: aggregates.runs(session, period),
        ),
    )
    links = {str(run.id): url(request, f"p/{project.slug}/tables/qa_runs/{run.id}") for run in page.items}
    drawn = [
        spend_picture(spent, period),
        trust_picture(scores, period),
        ticket_picture(tickets),
        signal_picture(signals, period),
        run_picture(page.items, links),
    ]
    return render(
        request,
        "overview.html",
        project=project,
        section="overview",
        days=days,
        periods=PERIODS,
        charts=drawn,
        spent=sum((amount for _, _, amount in spent), Decimal(0)),
        ticket_count=sum(count for _, _, count in tickets),
        open_count=sum(count for _, status, count in tickets if status in OPEN_STATUSES),
        open_tickets=[("status", status.value) for status in OPEN_STATUSES],
        signal_count=sum(count for _, _, count in signals),
        run_count=sum(count for _, count, _ in outcomes),
        outcomes=sorted(outcomes),
    )


async def _ask(request: Request, *questions: Callable[[ProjectSession], Awaitable[Any]]) -> list[Any]:
    """Return the answers to questions of one unit of work."""
    async with unit(request) as session:
        return [await question(session) for question in questions]


def spend_picture(found: Iterable[Any], period: Period) -> Chart:
    """Draw what was spent a day, by model."""
    values: dict[tuple[str, str], Decimal] = {}
    totals: dict[str, Decimal] = {}
    for at, payee, amount in found:
        values[day(at), payee] = amount
        totals[payee] = totals.get(payee, Decimal(0)) + amount
    labels = [day(period.since.date() + timedelta(days=count)) for count in range(period.days)]
    payees = sorted(totals, key=lambda payee: (-totals[payee], payee))
    spent = money(sum(totals.values(), Decimal(0)), 2)
    chart = Chart("spend", "Spend by day and model", f"{spent} in {period.days} days, in US dollars.", "Day (UTC)")
    data = Data(labels, _toned(payees), values, money, dollars)
    return charts.columns(chart, data, every=_every(period.days, _NARROW)) if values else chart


def trust_picture(found: Iterable[Any], period: Period) -> Chart:
    """Draw the trust score of each classification as it was on each day."""
    until = period.until.date() - timedelta(days=1)
    scores = {(day(until - timedelta(days=age)), name): score for name, age, score, _ in found}
    names = sorted({name for _, name in scores})
    labels = [day(until - timedelta(days=age)) for age in reversed(range(period.days))]
    chart = Chart(
        "trust",
        "Trust over time by classification",
        "Lower bound of what share of fixes is merged, over the 30 days before.",
        "Day (UTC)",
    )
    data = Data(labels, _toned(names), scores, lambda score: f"{score:.3f}", lambda ticks: [f"{tick:.1f}" for tick in ticks])
    return charts.lines(chart, data, every=_every(period.days, _NARROW - 1), top=1.0) if scores else chart


def ticket_picture(found: Iterable[Any]) -> Chart:
    """Draw all tickets by the bucket that they ended in, and their status."""
    values = {(bucket or _NO_BUCKET, status): count for bucket, status, count in found}
    chart = Chart("tickets", "Tickets by bucket and status", f"{number(sum(values.values()))} tickets.", "Bucket")
    return _rows(chart, [*Bucket, _NO_BUCKET], TicketStatus, values)


def signal_picture(found: Iterable[Any], period: Period) -> Chart:
    """Draw the signals by the route that found them, and what triage made of them."""
    values = {(route, status): count for route, status, count in found}
    description = f"{number(sum(values.values()))} signals in {period.days} days."
    chart = Chart("signals", "Signals by route", description, "Route")
    return _rows(chart, list(DiscoveryRoute), SignalStatus, values)


def run_picture(found: list[QARun], links: Mapping[str, str]) -> Chart:
    """Draw the latest runs, oldest first: how long each took, and how it ended."""
    names, days, values = {}, {}, {}
    for run in reversed(found):
        if run.started_at is not None and run.finished_at is not None:
            names[str(run.id)] = f"{day(run.started_at)} {run.started_at:%H:%M}"
            days[str(run.id)] = day(run.started_at)
            values[str(run.id), str(run.status)] = (run.finished_at - run.started_at).total_seconds() / 60
    tones = {str(status): f"run-{status.lower()}" for status in RunStatus if any(status == seen for _, seen in values)}
    chart = Chart("runs", "Runs: length and outcome", f"The latest {len(names)} that ended, in minutes.", "Started (UTC)")
    chart.is_broad = True
    text = "{:.1f} min".format
    data = Data(list(names), tones, values, text, lambda ticks: [f"{number(tick)} min" for tick in ticks], links, names, days)
    return charts.columns(chart, data, every=_every(len(names), _BROAD)) if values else chart


def _rows(chart: Chart, labels: list[Any], statuses: type[StrEnum], values: Mapping[tuple[str, str], int]) -> Chart:
    """Draw what is there: labels and statuses without a row are left out."""
    kept = [str(label) for label in labels if any(label == seen for seen, _ in values)]
    seen = [str(status) for status in statuses if any(status == name for _, name in values)]
    names = {label: words(label) for label in kept}
    data = Data(
        kept, _toned(seen), values, number, lambda ticks: [number(round(tick)) for tick in ticks], names=names, counts=True
    )
    return charts.rows(chart, data) if values else chart


def _every(count: int, most: int) -> int:
    """Return which of so many labels are written: every second, every third, ..."""
    return -(-count // most)


def dollars(ticks: Sequence[float]) -> list[str]:
    """Return amounts of an axis, all with as many digits behind the point: none where they are whole."""
    exact = [Decimal(str(round(tick, 6))) for tick in ticks]
    digits = max(-int(amount.normalize().as_tuple().exponent) for amount in exact)
    return [money(amount, 0 if digits <= 0 else max(digits, 2)) for amount in exact]


def _toned(names: Iterable[str]) -> dict[str, str]:
    """Give each series a colour, in their order."""
    return {name: f"tone-{count % _TONES}" for count, name in enumerate(names)}
