"""The trust score: computed in the database, from the attempts in the window, and kept beside them in the same transaction.

Shared by the repositories whose operations change what the score is computed from: attempts (concluded, reverted), tickets
(reclassified, deleted) and the scores themselves (the window slides).
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

import sqlalchemy as sa

from derwin_db.fields.scalars import new_id
from derwin_db.models.classification_trust import ClassificationTrust
from derwin_db.models.qa_fix_attempt import FixOutcome, QAFixAttempt
from derwin_db.models.qa_ticket import QATicket
from derwin_db.query.builders import ago, array_param, insert_many_of_project, scope_of, scoped, table_of
from derwin_db.query.statement import Statement, command, tuples
from derwin_db.session import ProjectSession

Z95 = 1.959963984540054
"""Quantile of the standard normal distribution at 97.5 %: a two-sided interval of 95 %. Source: scipy.stats.norm.ppf(0.975)."""

_TRUST = table_of(ClassificationTrust)
_ATTEMPTS = table_of(QAFixAttempt)
_TICKETS = table_of(QATicket)


async def bring_up_to_date(session: ProjectSession, classifications: Iterable[str]) -> int:
    """Recompute the scores of these classifications, making the rows that are missing. Returns how many.

    Locks:
        The score rows, in the order of their names, before the evidence is read: whoever concludes at the same time waits, and
        then sees what was concluded before.
    """
    names = sorted(set(classifications))
    if not names:
        return 0
    locked = await session.fetch(_lock_statement(), {"names": names, "ids": [new_id() for _ in names]})
    return await _compute(session, locked)


async def refresh_all(session: ProjectSession) -> int:
    """Recompute all scores of the project, as the window slides. Returns how many.

    Locks:
        As `bring_up_to_date`.
    """
    return await _compute(session, await session.fetch(_lock_all_statement(), {}))


async def _compute(session: ProjectSession, locked: Iterable[tuple[Any, ...]]) -> int:
    """Compute the scores whose rows are locked, given by name and window. Returns how many."""
    windows: dict[int, list[str]] = {}
    for name, days in locked:
        windows.setdefault(days, []).append(name)
    for days, same in windows.items():  # in practice one: no verb changes a window
        await session.execute(_compute_statement(), {"names": same, "days": days})
    return sum(map(len, windows.values()))


def wilson_lower_bound(successes: sa.ColumnElement[int], attempts: sa.ColumnElement[int]) -> sa.ColumnElement[float]:
    """Return the lower bound of the Wilson score interval at 95 %, 0 without attempts.

    Source:
        E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927) 209-212.
    """
    n = sa.cast(attempts, sa.Double)
    p = sa.cast(successes, sa.Double) / n
    z2 = Z95 * Z95
    margin = Z95 * sa.func.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    bound = (p + z2 / (2 * n) - margin) / (1 + z2 / n)
    return sa.case((attempts == 0, sa.literal(0.0, sa.Double)), else_=sa.func.greatest(bound, sa.literal(0.0, sa.Double)))


@cache
def _lock_all_statement() -> Statement[tuple[Any, ...]]:
    query = scoped(ClassificationTrust, _TRUST.c.classification, _TRUST.c.window_days).order_by(_TRUST.c.classification)
    return tuples("classification_trust.lock", query.with_for_update(key_share=True))


@cache
def _lock_statement() -> Statement[tuple[Any, ...]]:
    """Insert the missing rows and lock those that are there: an upsert that changes nothing does both."""
    wanted = (
        sa.func.unnest(array_param("names", _TRUST.c.classification), array_param("ids", _TRUST.c.id))
        .table_valued(sa.column("classification", sa.Text()), sa.column("id", sa.Uuid()))
        .render_derived(name="wanted")
    )
    values = {"id": wanted.c.id, "classification": wanted.c.classification}
    query = insert_many_of_project(ClassificationTrust, values, wanted, order_by=wanted.c.classification)
    query = query.on_conflict_do_update(
        index_elements=["project_id", "classification"], set_={"classification": query.excluded.classification}
    )
    return tuples("classification_trust.lock", query.returning(_TRUST.c.classification, _TRUST.c.window_days))


@cache
def _compute_statement() -> Statement[None]:
    """From the attempts in the window, each by its key, to their tickets: of these there may be very many.

    A join would let the planner read all tickets of the classification instead; the evidence is materialized, or it would
    be counted anew for each score.
    """
    of_ticket = scoped(QATicket, _TICKETS.c.classification).where(_TICKETS.c.id == _ATTEMPTS.c.ticket_id)
    days = sa.func.make_interval(0, 0, 0, sa.bindparam("days", type_=sa.Integer()))
    concluded = (
        scoped(QAFixAttempt, _ATTEMPTS.c.outcome, of_ticket.correlate(_ATTEMPTS).scalar_subquery().label("classification"))
        .where(_ATTEMPTS.c.concluded_at > ago(days))
        .where(_ATTEMPTS.c.outcome.is_not(None), _ATTEMPTS.c.outcome != FixOutcome.PR_OPENED)
        .subquery("concluded")
    )
    found = (
        sa.select(
            concluded.c.classification,
            sa.func.count().label("attempts"),
            sa.func.count().filter(concluded.c.outcome == FixOutcome.MERGED).label("successes"),
            sa.func.count().filter(concluded.c.outcome == FixOutcome.REVERTED).label("reverts"),
        )
        .group_by(concluded.c.classification)
        .cte("found")
        .prefix_with("MATERIALIZED")
    )
    score = _TRUST.alias("score")
    numbers = [sa.func.coalesce(found.c[name], 0).label(name) for name in ("attempts", "successes", "reverts")]
    evidence = (
        sa.select(score.c.id, *numbers)
        .select_from(score.outerjoin(found, found.c.classification == score.c.classification))
        .where(scope_of(score), score.c.classification == sa.any_(array_param("names", _TRUST.c.classification)))
        .subquery("evidence")
    )
    values: dict[str, Any] = {number.name: evidence.c[number.name] for number in numbers}
    values["score"] = wilson_lower_bound(evidence.c.successes, evidence.c.attempts)
    values.update(computed_at=sa.func.now(), updated_at=sa.func.now())
    query = sa.update(_TRUST).where(scope_of(_TRUST), _TRUST.c.id == evidence.c.id).values(values)
    return command("classification_trust.compute", query)
