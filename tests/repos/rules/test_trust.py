"""The trust score: the Wilson bound itself, what counts, the edges of the window, and what keeps it up to date."""

from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from derwin_db import ProjectSession, repos
from derwin_db.fields.scalars import new_id
from derwin_db.models import ClassificationTrust, FixOutcome, QATicketUpdate
from derwin_db.repos.rules.trust import wilson_lower_bound
from tests.repos.rows import a_ticket

Out = FixOutcome
COUNTED = [outcome for outcome in FixOutcome if outcome is not Out.PR_OPENED]


async def attempt(session: ProjectSession, classification: str = "ui_bug") -> Any:
    ticket = await repos.qa_tickets.create(session, a_ticket(classification=classification))
    row = await repos.qa_fix_attempts.dispatch(session, ticket.id, model="m")
    return await repos.qa_fix_attempts.start(session, row.id)


async def concluded(session: ProjectSession, outcome: FixOutcome, classification: str = "ui_bug") -> Any:
    row = await attempt(session, classification)
    return await repos.qa_fix_attempts.conclude(session, row.id, outcome)


async def trust(session: ProjectSession, name: str = "ui_bug") -> ClassificationTrust:
    return await repos.classification_trust.for_classification(session, name)


async def numbers(session: ProjectSession, name: str = "ui_bug") -> tuple[int, int, int]:
    row = await trust(session, name)
    return row.attempts, row.successes, row.reverts


@pytest.fixture(scope="module", autouse=True)
def statsmodels() -> None:
    """It is there before a unit of work is open: importing it takes a second or two, and on a busy machine half a minute."""
    import statsmodels.stats.proportion  # noqa: F401


def wilson(successes: int, attempts: int) -> float:
    from statsmodels.stats.proportion import proportion_confint

    return float(proportion_confint(successes, attempts, alpha=0.05, method="wilson")[0]) if attempts else 0.0


async def move(session: ProjectSession, id: UUID, to: str) -> None:
    """Move the conclusion in time: raw SQL does, a verb can't."""
    await session.sql.execute(sa.text(f"UPDATE qa_fix_attempts SET concluded_at = {to} WHERE id = :id"), {"id": id})


class TestWilsonLowerBound:
    async def test_agrees_with_statsmodels(self, session: ProjectSession) -> None:
        pairs = [
            (s, n) for n in [*range(1, 41), 100, 999, 10_000, 1_000_000] for s in range(n + 1) if n <= 40 or s % (n // 9) < 2
        ]
        given = (
            sa.func.unnest(*(sa.literal(list(numbers), ARRAY(sa.Integer)) for numbers in zip(*pairs, strict=True)))
            .table_valued(sa.column("s", sa.Integer), sa.column("n", sa.Integer))
            .render_derived()
        )
        query = sa.select(given.c.s, given.c.n, wilson_lower_bound(given.c.s, given.c.n))
        rows = (await session.sql.execute(query)).all()
        assert len(rows) == len(pairs) > 900
        for s, n, score in rows:
            assert score == pytest.approx(wilson(s, n), abs=1e-12)
            assert 0 <= score <= 1

    async def test_without_attempts_is_0(self, session: ProjectSession) -> None:
        query = sa.select(wilson_lower_bound(sa.literal(0), sa.literal(0)))
        assert (await session.sql.execute(query)).scalar() == 0

    @pytest.mark.parametrize(("successes", "attempts"), [(0, 1), (1, 1), (2, 3), (5, 5), (1, 6)])
    async def test_is_what_is_stored(self, session: ProjectSession, successes: int, attempts: int) -> None:
        for n in range(attempts):
            await concluded(session, Out.MERGED if n < successes else Out.ERROR)
        row = await trust(session)
        assert (row.attempts, row.successes, row.reverts) == (attempts, successes, 0)
        assert row.score == pytest.approx(wilson(successes, attempts), abs=1e-12)
        assert row.window_days == 30


class TestWhatCounts:
    @pytest.mark.parametrize("outcome", COUNTED)
    async def test_a_conclusion_counts(self, session: ProjectSession, outcome: FixOutcome) -> None:
        await concluded(session, outcome)
        assert await numbers(session) == (1, int(outcome is Out.MERGED), int(outcome is Out.REVERTED))

    async def test_what_is_not_concluded_does_not(self, session: ProjectSession) -> None:
        await attempt(session)
        cancelled = await attempt(session)
        await repos.qa_fix_attempts.cancel(session, cancelled.id)
        assert await repos.classification_trust.count(session) == 0
        await repos.classification_trust.refresh(session, ["ui_bug"])
        assert await numbers(session) == (0, 0, 0)

    @pytest.mark.parametrize("again", [Out.MERGED, Out.REJECTED])
    async def test_an_open_pr_counts_once_it_is_concluded_again(self, session: ProjectSession, again: FixOutcome) -> None:
        row = await concluded(session, Out.PR_OPENED)
        assert await numbers(session) == (0, 0, 0)
        await repos.qa_fix_attempts.conclude(session, row.id, again)
        assert await numbers(session) == (1, int(again is Out.MERGED), 0)

    async def test_a_revert_turns_a_success_into_a_failure(self, session: ProjectSession) -> None:
        rows = [await concluded(session, Out.MERGED) for _ in range(3)]
        assert (await trust(session)).score == pytest.approx(wilson(3, 3), abs=1e-12)
        await repos.qa_fix_attempts.mark_reverted(session, rows[0].id)
        assert await numbers(session) == (3, 2, 1)
        assert (await trust(session)).score == pytest.approx(wilson(2, 3), abs=1e-12)

    async def test_classifications_are_apart(self, session: ProjectSession) -> None:
        await concluded(session, Out.MERGED, "one")
        await concluded(session, Out.ERROR, "other")
        assert await numbers(session, "one") == (1, 1, 0)
        assert await numbers(session, "other") == (1, 0, 0)

    async def test_several_attempts_at_one_ticket_count_each(self, session: ProjectSession) -> None:
        ticket = await repos.qa_tickets.create(session, a_ticket())
        for outcome in (Out.ERROR, Out.TESTS_FAILED, Out.MERGED):
            row = await repos.qa_fix_attempts.dispatch(session, ticket.id, model="m")
            await repos.qa_fix_attempts.start(session, row.id)
            await repos.qa_fix_attempts.conclude(session, row.id, outcome)
        assert await numbers(session) == (3, 1, 0)


class TestWindow:
    @pytest.mark.parametrize(
        ("to", "counts"),
        [
            ("now()", 1),
            ("now() - interval '720 hours' + interval '1 microsecond'", 1),
            ("now() - interval '720 hours'", 0),
            ("now() - interval '720 hours' - interval '1 microsecond'", 0),
            ("now() - interval '10 years'", 0),
        ],
    )
    async def test_edges(self, session: ProjectSession, to: str, counts: int) -> None:
        row = await concluded(session, Out.MERGED)
        await move(session, row.id, to)
        assert await repos.classification_trust.refresh(session) == 1
        assert await numbers(session) == (counts, counts, 0)
        assert (await trust(session)).score == pytest.approx(wilson(counts, counts), abs=1e-12)

    @pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Australia/Sydney", "Asia/Kathmandu"])
    async def test_is_as_long_in_every_zone(self, session: ProjectSession, zone: str) -> None:
        """Over some of these lengths the clocks were set: with days of the zone, an hour would be missing or too many."""
        row = await concluded(session, Out.MERGED)
        await session.sql.execute(sa.text(f"SET LOCAL TimeZone = '{zone}'"))
        for days in (30, 100, 150, 200, 300):
            await session.sql.execute(sa.text(f"UPDATE classification_trust SET window_days = {days}"))
            for offset, counts in (("1 microsecond", 1), ("0", 0)):
                await move(session, row.id, f"now() - interval '{24 * days} hours' + interval '{offset}'")
                await repos.classification_trust.refresh(session)
                assert await numbers(session) == (counts, counts, 0)

    async def test_a_revert_stays_in_the_window_of_its_merge(self, session: ProjectSession) -> None:
        row = await concluded(session, Out.MERGED)
        await move(session, row.id, "now() - interval '721 hours'")
        await repos.qa_fix_attempts.mark_reverted(session, row.id)
        assert await numbers(session) == (0, 0, 0)

    async def test_a_pr_that_is_merged_late_counts_from_its_merge(self, session: ProjectSession) -> None:
        row = await concluded(session, Out.PR_OPENED)
        await move(session, row.id, "now() - interval '100 days'")
        await repos.qa_fix_attempts.conclude(session, row.id, Out.MERGED)
        assert await numbers(session) == (1, 1, 0)


class TestTickets:
    async def test_a_reclassification_moves_the_evidence(self, session: ProjectSession) -> None:
        row = await concluded(session, Out.MERGED, "old")
        await concluded(session, Out.ERROR, "old")
        await repos.qa_tickets.update(session, row.ticket_id, QATicketUpdate(classification="new"))
        assert await numbers(session, "old") == (1, 0, 0)
        assert await numbers(session, "new") == (1, 1, 0)

    async def test_one_without_attempts_makes_no_scores(self, session: ProjectSession) -> None:
        ticket = await repos.qa_tickets.create(session, a_ticket(classification="old"))
        await repos.qa_tickets.update(session, ticket.id, QATicketUpdate(classification="new"))
        assert await repos.classification_trust.count(session) == 0

    async def test_a_deletion_takes_the_evidence(self, session: ProjectSession) -> None:
        rows = [await concluded(session, outcome) for outcome in (Out.MERGED, Out.ERROR)]
        await repos.qa_tickets.delete(session, rows[0].ticket_id)
        assert await numbers(session) == (1, 0, 0)
        await repos.qa_tickets.delete(session, rows[1].ticket_id)
        assert await numbers(session) == (0, 0, 0)
        assert (await trust(session)).score == 0

    async def test_anything_else_leaves_the_scores(self, session: ProjectSession) -> None:
        row = await concluded(session, Out.MERGED)
        before = await trust(session)
        await repos.qa_tickets.update(session, row.ticket_id, QATicketUpdate(title="new", classification="ui_bug"))
        other = await repos.qa_tickets.create(session, a_ticket())
        await repos.qa_tickets.mark_duplicate(session, row.ticket_id, other.id)
        assert await trust(session) == before


class TestProjects:
    async def test_evidence_of_another_project_does_not_count(
        self, db: Any, session: ProjectSession, other_project: Any
    ) -> None:
        async with db.project(other_project.id) as other:
            await concluded(other, Out.ERROR)
        await concluded(session, Out.MERGED)
        assert await numbers(session) == (1, 1, 0)
        async with db.project(other_project.id) as other:
            assert await numbers(other) == (1, 0, 0)

    async def test_an_unknown_attempt_makes_no_score(self, session: ProjectSession) -> None:
        assert not await repos.qa_fix_attempts.exists(session, new_id())
        assert await repos.classification_trust.count(session) == 0
