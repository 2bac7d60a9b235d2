"""The trust score: computed in the database, from the attempts in the window, and kept beside them in the same transaction.

Shared by the repositories whose operations change what the score is computed from: attempts (concluded, reverted), tickets
(reclassified, deleted) and the scores themselves (the window slides).
"""

from collections.abc import Iterable
from functools import cache

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from derwin_db.guard import PROJECT
from derwin_db.models.classification_trust import ClassificationTrust
from derwin_db.models.qa_fix_attempt import FixOutcome, QAFixAttempt
from derwin_db.models.qa_ticket import QATicket
from derwin_db.repository import ago, array_param, scope_of, table_of
from derwin_db.session import ProjectSession
from derwin_db.statement import Statement, command, scalars
from derwin_db.types import new_id

Z95 = 1.959963984540054
"""Quantile of the standard normal distribution at 97.5 %: a two-sided interval of 95 %. Source: scipy.stats.norm.ppf(0.975)."""

_TRUST = table_of(ClassificationTrust)
_ATTEMPTS = table_of(QAFixAttempt)
_TICKETS = table_of(QATicket)


async def bring_up_to_date(session: ProjectSession, classifications: Iterable[str]) -> int:
    """Recompute the scores of these classifications, making the rows that are missing. Returns how many.

    Locks: the score rows, in the order of their names, before the evidence is read: whoever concludes at the same time
    waits, and then sees what was concluded before.
    """
    names = sorted(set(classifications))
    if not names:
        return 0
    await session.execute(_lock_statement(), {"names": names, "ids": [new_id() for _ in names]})
    return await session.execute(_compute_statement(), {"names": names})


async def refresh_all(session: ProjectSession) -> int:
    """Recompute all scores of the project, as the window slides. Returns how many."""
    return await bring_up_to_date(session, await session.fetch(_names_statement(), {}))


def wilson_lower_bound(successes: sa.ColumnElement[int], attempts: sa.ColumnElement[int]) -> sa.ColumnElement[float]:
    """Return the lower bound of the Wilson score interval at 95 %, 0 without attempts.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927) 209-212.
    """
    n = sa.cast(attempts, sa.Double)
    p = sa.cast(successes, sa.Double) / n
    z2 = Z95 * Z95
    margin = Z95 * sa.func.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    bound = (p + z2 / (2 * n) - margin) / (1 + z2 / n)
    return sa.case((attempts == 0, sa.literal(0.0, sa.Double)), else_=sa.func.greatest(bound, sa.literal(0.0, sa.Double)))


@cache
def _names_statement() -> Statement[str]:
    query = sa.select(_TRUST.c.classification).where(scope_of(_TRUST)).order_by(_TRUST.c.classification)
    return scalars("classification_trust.refresh", query)


@cache
def _lock_statement() -> Statement[None]:
    """Insert the missing rows and lock those that are there: an upsert that changes nothing does both."""
    wanted = (
        sa.func.unnest(array_param("names", _TRUST.c.classification), array_param("ids", _TRUST.c.id))
        .table_valued(sa.column("classification", sa.Text()), sa.column("id", sa.Uuid()))
        .render_derived(name="wanted")
    )
    source = sa.select(PROJECT, wanted.c.id, wanted.c.classification).order_by(wanted.c.classification)
    query = insert(_TRUST).from_select(["project_id", "id", "classification"], source)
    query = query.on_conflict_do_update(
        index_elements=["project_id", "classification"], set_={"classification": query.excluded.classification}
    )
    return command("classification_trust.lock", query)


@cache
def _compute_statement() -> Statement[None]:
    """From the attempts in the window to their tickets: a classification may have had many tickets before it."""
    counted = sa.and_(
        _ATTEMPTS.c.outcome.is_not(None),
        _ATTEMPTS.c.outcome != FixOutcome.PR_OPENED,
        _ATTEMPTS.c.concluded_at > ago(sa.func.make_interval(0, 0, 0, _TRUST.c.window_days)),
    )
    evidence = (
        sa.select(
            _TRUST.c.id.label("id"),
            sa.func.count(_ATTEMPTS.c.id).label("attempts"),
            sa.func.count(_ATTEMPTS.c.id).filter(_ATTEMPTS.c.outcome == FixOutcome.MERGED).label("successes"),
            sa.func.count(_ATTEMPTS.c.id).filter(_ATTEMPTS.c.outcome == FixOutcome.REVERTED).label("reverts"),
        )
        .select_from(
            _TRUST.outerjoin(
                _ATTEMPTS.join(_TICKETS, sa.and_(scope_of(_TICKETS), _TICKETS.c.id == _ATTEMPTS.c.ticket_id)),
                sa.and_(scope_of(_ATTEMPTS), counted, _TICKETS.c.classification == _TRUST.c.classification),
            )
        )
        .where(scope_of(_TRUST), _TRUST.c.classification == sa.any_(array_param("names", _TRUST.c.classification)))
        .group_by(_TRUST.c.id)
        .subquery("evidence")
    )
    query = (
        sa.update(_TRUST)
        .where(scope_of(_TRUST), _TRUST.c.id == evidence.c.id)
        .values(
            attempts=evidence.c.attempts,
            successes=evidence.c.successes,
            reverts=evidence.c.reverts,
            score=wilson_lower_bound(evidence.c.successes, evidence.c.attempts),
            computed_at=sa.func.now(),
            updated_at=sa.func.now(),
        )
    )
    return command("classification_trust.compute", query)
