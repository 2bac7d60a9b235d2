"""What the charts show, added up in the database: no repository has these sums, so they go through `session.sql`.

No statement names a project: the database scopes them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from derwin_db.models import FixOutcome, QAFixAttempt, QARun, QATicket, RawSignal, SpendLedger
from derwin_db.query.builders import param, table_of
from derwin_db.repos.rules.trust import wilson_lower_bound
from derwin_db.session import ProjectSession

_ATTEMPTS = table_of(QAFixAttempt)
_LEDGER = table_of(SpendLedger)
_RUNS = table_of(QARun)
_SIGNALS = table_of(RawSignal)
_TICKETS = table_of(QATicket)

TRUST_DAYS = 30
"""The window of a trust score."""


@dataclass(frozen=True)
class Period:
    """Whole days in UTC, today the last of them."""

    days: int
    until: datetime

    @classmethod
    def of(cls, days: int) -> "Period":
        """Return the last days until the end of today."""
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return cls(days, today + timedelta(days=1))

    @property
    def since(self) -> datetime:
        """When the first day begins."""
        return self.until - timedelta(days=self.days)


async def spend(session: ProjectSession, period: Period) -> list[Any]:
    """Return (day, model, amount); what no model was paid for goes by its source.

    Order:
        By day.
    """
    return await _rows(session, _spend_statement(), period)


async def tickets(session: ProjectSession) -> list[Any]:
    """Return (bucket or None, status, tickets) of all tickets."""
    return await _rows(session, _tickets_statement())


async def signals(session: ProjectSession, period: Period) -> list[Any]:
    """Return (route, status, signals) of the signals that were written in the period."""
    return await _rows(session, _signals_statement(), period)


async def runs(session: ProjectSession, period: Period) -> list[Any]:
    """Return (status, runs, median length in seconds or None) of the runs that were enqueued in the period."""
    return await _rows(session, _runs_statement(), period)


async def trust(session: ProjectSession, period: Period) -> list[Any]:
    """Return (classification, days ago, score, attempts) for this moment and the same time of the days before.

    Each is what the score was then: the lower bound over the attempts that were concluded in the 30 days before.

    Order:
        Oldest first.
    """
    return await _rows(session, _trust_statement(), period)


async def _rows(session: ProjectSession, query: sa.Select[Any], period: Period | None = None) -> list[Any]:
    values: dict[str, Any] = {"project": session.project_id}
    if period is not None:
        values |= {"since": period.since, "until": period.until, "days": period.days}
    return list((await session.sql.execute(query, values)).all())


def _own(table: sa.Table) -> sa.ColumnElement[bool]:
    """Name the project, which the policies do anyway: so a distributed server asks the one worker that has it."""
    return table.c.project_id == param("project", table.c.project_id)


def _within(at: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    return sa.and_(at >= param("since", at), at < param("until", at))


# Statements are built once: to build one anew costs several milliseconds.


@cache
def _spend_statement() -> Any:
    day = sa.cast(sa.func.timezone("UTC", _LEDGER.c.occurred_at), sa.Date)
    payee = sa.func.coalesce(_LEDGER.c.model, _LEDGER.c.source)
    query = sa.select(day, payee, sa.func.sum(_LEDGER.c.amount_usd)).where(_own(_LEDGER), _within(_LEDGER.c.occurred_at))
    return query.group_by(day, payee).order_by(day, payee)


@cache
def _tickets_statement() -> Any:
    columns = _TICKETS.c.final_bucket, _TICKETS.c.status
    return sa.select(*columns, sa.func.count()).where(_own(_TICKETS)).group_by(*columns)


@cache
def _signals_statement() -> Any:
    columns = _SIGNALS.c.route, _SIGNALS.c.status
    return sa.select(*columns, sa.func.count()).where(_own(_SIGNALS), _within(_SIGNALS.c.created_at)).group_by(*columns)


@cache
def _runs_statement() -> Any:
    seconds = sa.func.date_part("epoch", _RUNS.c.finished_at - _RUNS.c.started_at)
    median = sa.func.percentile_cont(0.5).within_group(seconds)
    query = sa.select(_RUNS.c.status, sa.func.count(), median).where(_own(_RUNS), _within(_RUNS.c.created_at))
    return query.group_by(_RUNS.c.status)


@cache
def _trust_statement() -> Any:
    """Attempts are first counted by their age in days, so that a window is 30 counts."""
    days = sa.bindparam("days", type_=sa.Integer())
    concluded_at, outcome = _ATTEMPTS.c.concluded_at, _ATTEMPTS.c.outcome
    age = sa.cast(sa.func.floor(sa.func.date_part("epoch", sa.func.now() - concluded_at) / 86_400), sa.Integer).label("age")
    oldest = sa.func.now() - sa.func.make_interval(0, 0, 0, days + TRUST_DAYS + 1)
    counted = (
        sa.select(
            _TICKETS.c.classification,
            age,
            sa.func.count().label("attempts"),
            sa.func.count().filter(outcome == FixOutcome.MERGED).label("successes"),
        )
        .join_from(_ATTEMPTS, _TICKETS, _ATTEMPTS.c.ticket_id == _TICKETS.c.id)
        .where(_own(_ATTEMPTS), _own(_TICKETS))
        .where(concluded_at > oldest, concluded_at <= sa.func.now())
        .where(outcome.is_not(None), outcome != FixOutcome.PR_OPENED)
        .group_by(_TICKETS.c.classification, age)
        .cte("counted")
    )
    names = sa.select(counted.c.classification).distinct().subquery("names")
    ages = sa.func.generate_series(0, days + TRUST_DAYS - 1).table_valued("age").render_derived(name="ages")
    is_counted = sa.and_(counted.c.classification == names.c.classification, counted.c.age == ages.c.age)
    source = names.join(ages, sa.true()).outerjoin(counted, is_counted)
    window: dict[str, Any] = {"partition_by": names.c.classification, "order_by": ages.c.age, "rows": (0, TRUST_DAYS - 1)}
    sums = [
        sa.cast(sa.func.coalesce(sa.func.sum(counted.c[name]).over(**window), 0), sa.BigInteger).label(name)
        for name in ("attempts", "successes")
    ]
    rolling = sa.select(names.c.classification, ages.c.age, *sums).select_from(source).subquery("rolling")
    score = wilson_lower_bound(rolling.c.successes, rolling.c.attempts)
    query = sa.select(rolling.c.classification, rolling.c.age, score, rolling.c.attempts).where(rolling.c.age < days)
    return query.order_by(rolling.c.age.desc(), rolling.c.classification)
