"""spend_ledger: a cap is reached and not passed, over a window of the database's time."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from derwin_db import ProjectSession, repos
from derwin_db.errors import BudgetExceeded
from derwin_db.models import SpendCap
from derwin_db.testing.history import writing_history
from tests.repos.rows import NOW, a_charge, a_credit

DAY = timedelta(days=1)


def cap(usd: str, window: timedelta = DAY) -> SpendCap:
    return SpendCap(Decimal(usd), window)


class TestCap:
    async def test_is_reached_and_not_passed(self, session: ProjectSession) -> None:
        await repos.spend_ledger.append(session, a_charge("a", "60"), cap=cap("100"))
        with pytest.raises(BudgetExceeded):
            await repos.spend_ledger.append(session, a_charge("b", "40.000001"), cap=cap("100"))
        await repos.spend_ledger.append(session, a_charge("c", "40"), cap=cap("100"))
        with pytest.raises(BudgetExceeded):
            await repos.spend_ledger.append(session, a_charge("d", "0.000001"), cap=cap("100"))
        assert await repos.spend_ledger.total(session) == 100

    async def test_a_refusal_leaves_the_unit_usable(self, session: ProjectSession) -> None:
        with pytest.raises(BudgetExceeded):
            await repos.spend_ledger.append(session, a_charge("a", "2"), cap=cap("1"))
        assert await repos.spend_ledger.count(session) == 0

    async def test_counts_what_was_spent_without_one(self, session: ProjectSession) -> None:
        await repos.spend_ledger.append(session, a_charge("a", "99.5"))
        with pytest.raises(BudgetExceeded):
            await repos.spend_ledger.append(session, a_charge("b", "1"), cap=cap("100"))

    async def test_a_repetition_passes_a_cap_that_is_reached(self, session: ProjectSession) -> None:
        row = await repos.spend_ledger.append(session, a_charge("a", "100"), cap=cap("100"))
        assert await repos.spend_ledger.append(session, a_charge("a", "100"), cap=cap("1")) == row

    async def test_credits_pass_and_make_room(self, session: ProjectSession) -> None:
        await repos.spend_ledger.append(session, a_charge("a", "100"))
        for key, amount in (("b", "-30"), ("c", "-0.000001"), ("d", "-0.999999")):
            await repos.spend_ledger.append(session, a_credit(key, amount), cap=cap("10"))
        await repos.spend_ledger.append(session, a_charge("e", "31"), cap=cap("100"))
        assert await repos.spend_ledger.total(session) == 100

    async def test_rolls_over_the_time_of_the_write(self, session: ProjectSession) -> None:
        """`occurred_at` is the caller's word; the window goes by the database's."""
        await repos.spend_ledger.append(session, a_charge("a", "100", occurred_at=NOW - timedelta(days=900)))
        with pytest.raises(BudgetExceeded):
            await repos.spend_ledger.append(session, a_charge("b", "1"), cap=cap("100"))

    @pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Australia/Sydney"])
    @pytest.mark.parametrize("days", [1, 30, 100, 150, 200, 300])
    async def test_its_window_is_as_long_in_every_zone(self, session: ProjectSession, zone: str, days: int) -> None:
        await session.sql.execute(sa.text(f"SET LOCAL TimeZone = '{zone}'"))
        async with writing_history(session):
            for key, offset in (("in", "1 microsecond"), ("out", "0")):
                await session.sql.execute(
                    sa.text(
                        "INSERT INTO spend_ledger (project_id, project_slug, kind, source, amount_usd, idempotency_key,"
                        " occurred_at, created_at) SELECT id, slug, 'CHARGE', 'OTHER', 10, :key, now(),"
                        f" now() - interval '{24 * days} hours' + interval '{offset}' FROM public.projects"
                    ),
                    {"key": key},
                )
        limit = cap("15", timedelta(days=days))
        await repos.spend_ledger.append(session, a_charge("a", "5"), cap=limit)
        with pytest.raises(BudgetExceeded):
            await repos.spend_ledger.append(session, a_charge("b", "0.000001"), cap=limit)

    @pytest.mark.parametrize("usd", ["-1", "NaN", 5, 0.5, None])
    def test_what_is_no_amount_is_refused(self, usd: Any) -> None:
        with pytest.raises(ValidationError):
            SpendCap(usd, DAY)

    @pytest.mark.parametrize("window", [timedelta(0), -DAY, 60, None, timedelta.max])
    def test_what_is_no_window_is_refused(self, window: Any) -> None:
        with pytest.raises(ValidationError):
            SpendCap(Decimal(1), window)
