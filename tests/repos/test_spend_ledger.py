"""spend_ledger: entries once by their key, exact to the last digit. Caps: test_spend_cap.py."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from derwin_db import AdminSession, Database, ProjectSession, repos
from derwin_db.errors import AppendOnlyViolation, Conflict, InvalidInput, ScopeError
from derwin_db.fields.scalars import new_id
from derwin_db.models import (
    Project,
    ProjectCreate,
    ProjectType,
    ProjectUpdate,
    SpendCap,
    SpendKind,
    SpendLedger,
    SpendLedgerCreate,
    SpendSource,
)
from tests.repos.rows import NOW, a_charge, a_credit, a_ticket

DAY = timedelta(days=1)
CAP = SpendCap(Decimal(100), DAY)
EVERY_FIELD = {
    "source": SpendSource.COMPUTE,
    "model": "claude",
    "input_tokens": 1,
    "output_tokens": 2,
    "run_id": new_id(),
    "ticket_id": new_id(),
    "fix_attempt_id": new_id(),
    "details": {"gpu": [1, None, {"hours": 0.25}]},
}
OTHER_CONTENT = {
    **dict.fromkeys(("model", "input_tokens", "output_tokens", "run_id", "ticket_id", "fix_attempt_id")),
    "source": SpendSource.OTHER,
    "amount_usd": "1.500001",
    "details": {"gpu": [1, None, {"hours": 0.5}]},
}


async def stored(session: ProjectSession) -> list[SpendLedger]:
    return [row async for row in repos.spend_ledger.stream(session)]


class TestAppend:
    async def test_writes_the_entry(self, session: ProjectSession, project: Project) -> None:
        data = a_charge(**EVERY_FIELD)
        row = await repos.spend_ledger.append(session, data)
        assert row.model_dump(include=set(SpendLedgerCreate.model_fields)) == data.model_dump()
        assert row.project_slug == project.slug
        assert await repos.spend_ledger.get(session, row.id) == row

    @pytest.mark.parametrize("amount", ["0.000001", "99999999.999999", "0.1", "12345678.000001", "1E+7", "1"])
    async def test_keeps_every_digit(self, session: ProjectSession, amount: str) -> None:
        row = await repos.spend_ledger.append(session, a_charge(amount=amount))
        assert type(row.amount_usd) is Decimal
        assert (await repos.spend_ledger.get(session, row.id)).amount_usd == Decimal(amount)

    async def test_a_repetition_is_the_entry_that_is_there(self, session: ProjectSession) -> None:
        row = await repos.spend_ledger.append(session, a_charge(**EVERY_FIELD))
        assert await repos.spend_ledger.append(session, a_charge(**EVERY_FIELD)) == row
        same = a_charge(**{**EVERY_FIELD, "amount_usd": "1.500000", "occurred_at": NOW.astimezone(None)})
        assert await repos.spend_ledger.append(session, same) == row
        assert len(await stored(session)) == 1

    async def test_a_retry_that_takes_the_time_anew_is_a_repetition(self, session: ProjectSession) -> None:
        row = await repos.spend_ledger.append(session, a_charge(**EVERY_FIELD))
        later = a_charge(**{**EVERY_FIELD, "occurred_at": NOW + timedelta(seconds=3)})
        assert await repos.spend_ledger.append(session, later) == row  # the first time stays
        assert await repos.spend_ledger.append_many(session, [later, a_charge(**EVERY_FIELD)]) == 0
        assert await stored(session) == [row]

    @pytest.mark.parametrize("field", OTHER_CONTENT)
    async def test_other_content_under_the_same_key_conflicts(self, session: ProjectSession, field: str) -> None:
        row = await repos.spend_ledger.append(session, a_charge(**EVERY_FIELD))
        for limit in (None, CAP):
            with pytest.raises(Conflict) as refused:
                await repos.spend_ledger.append(session, a_charge(**{**EVERY_FIELD, field: OTHER_CONTENT[field]}), cap=limit)
            assert type(refused.value) is Conflict
        assert await stored(session) == [row]

    @pytest.mark.parametrize(
        ("one", "other", "are_same"),
        [
            ({"a": 1}, {"a": 1.0}, True),
            ({"a": 1e15}, {"a": 1e15}, True),
            ({"a": 0.1}, {"a": 0.1}, True),
            ({"a": [], "b": {}}, {"b": {}, "a": []}, True),
            ({"a": True}, {"a": 1}, False),
            ({"a": [{"b": 0}]}, {"a": [{"b": False}]}, False),
            ({"a": None}, {}, False),
            ({"a": "1"}, {"a": 1}, False),
            ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ],
    )
    async def test_details_are_compared_as_json(
        self, session: ProjectSession, one: dict[str, Any], other: dict[str, Any], are_same: bool
    ) -> None:
        row = await repos.spend_ledger.append(session, a_charge(details=one))
        if are_same:
            assert await repos.spend_ledger.append(session, a_charge(details=other)) == row
        else:
            with pytest.raises(Conflict):
                await repos.spend_ledger.append(session, a_charge(details=other))

    async def test_a_key_is_of_one_project(self, db: Database, session: ProjectSession, other_project: Project) -> None:
        await repos.spend_ledger.append(session, a_charge())
        async with db.project(other_project.id) as other:
            assert (await repos.spend_ledger.append(other, a_charge(amount="7"))).amount_usd == 7

    async def test_other_input_is_refused(self, session: ProjectSession) -> None:
        with pytest.raises(InvalidInput):
            await repos.spend_ledger.append(session, a_ticket())  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="cap"):
            await repos.spend_ledger.append(session, a_charge(), cap=Decimal(5))  # type: ignore[arg-type]

    @pytest.mark.parametrize(("kind", "amount"), [("CHARGE", "0"), ("CHARGE", "-1"), ("CREDIT", "0"), ("CREDIT", "1")])
    def test_the_sign_follows_the_kind(self, kind: str, amount: str) -> None:
        with pytest.raises(ValidationError):
            a_charge(amount=amount, kind=SpendKind(kind))


class TestAppendMany:
    async def test_writes_each_key_once(self, session: ProjectSession) -> None:
        rows = [a_charge("a", "0.1"), a_charge("b", "0.2"), a_charge("a", "0.1")]
        assert await repos.spend_ledger.append_many(session, rows) == 2
        assert await repos.spend_ledger.append_many(session, [*rows, a_charge("c", "0.3")]) == 1
        assert await repos.spend_ledger.total(session) == Decimal("0.6")

    async def test_in_batches(self, session: ProjectSession) -> None:
        assert await repos.spend_ledger.append_many(session, (a_charge(f"{n % 5500}", "0.01") for n in range(6000))) == 5500
        assert await repos.spend_ledger.total(session) == 55

    @pytest.mark.parametrize("where", ["batch", "books", "later batch"])
    async def test_other_content_conflicts_and_nothing_is_written(self, session: ProjectSession, where: str) -> None:
        rows = [a_charge("a", "1"), a_charge("b", "2")]
        if where == "books":
            await repos.spend_ledger.append(session, a_charge("b", "3"))
        elif where == "batch":
            rows.append(a_charge("a", "9"))
        else:
            rows += [a_charge(f"{n}") for n in range(5000)] + [a_charge("a", "9")]
        before = await stored(session)
        with pytest.raises(Conflict):
            await repos.spend_ledger.append_many(session, rows)
        assert await stored(session) == before

    async def test_nothing_is_nothing(self, session: ProjectSession) -> None:
        assert await repos.spend_ledger.append_many(session, []) == 0

    @pytest.mark.parametrize("rows", [None, "ab", 7, [None], [a_ticket()]])
    async def test_other_input_is_refused(self, session: ProjectSession, rows: Any) -> None:
        with pytest.raises(InvalidInput):
            await repos.spend_ledger.append_many(session, rows)


class TestLocks:
    @pytest.mark.parametrize("verb", ["append", "append_many"])
    async def test_an_entry_holds_up_no_change_of_its_project(
        self, db: Database, session: ProjectSession, project: Project, verb: str
    ) -> None:
        await getattr(repos.spend_ledger, verb)(session, a_charge() if verb == "append" else [a_charge()])
        async with asyncio.timeout(10), db.admin(reason="a test") as admin:
            await repos.projects.update(admin, project.id, ProjectUpdate(name="Renamed meanwhile"))


class TestTotal:
    async def test_is_exact(self, session: ProjectSession) -> None:
        await repos.spend_ledger.append_many(session, [a_charge(f"{n}", "0.1") for n in range(1000)])
        await repos.spend_ledger.append(session, a_credit("back", "-0.000001"))
        assert await repos.spend_ledger.total(session) == Decimal("99.999999")

    async def test_of_nothing_is_0(self, session: ProjectSession) -> None:
        total = await repos.spend_ledger.total(session)
        assert (type(total), total) == (Decimal, 0)

    async def test_from_since_on_and_before_until(self, session: ProjectSession) -> None:
        for n in range(4):
            await repos.spend_ledger.append(session, a_charge(f"{n}", str(10**n), occurred_at=NOW + n * DAY))
        total = repos.spend_ledger.total
        assert await total(session, since=NOW + DAY) == 1110
        assert await total(session, until=NOW + DAY) == 1
        assert await total(session, since=NOW + DAY, until=NOW + 3 * DAY) == 110

    @pytest.mark.parametrize("moment", [datetime(2026, 1, 1), date(2026, 1, 1), 0, "2026-01-01"])  # noqa: DTZ001  # naive
    async def test_a_bad_time_is_refused(self, session: ProjectSession, admin: AdminSession, moment: Any) -> None:
        for name in ("since", "until"):
            with pytest.raises(InvalidInput, match=name):
                await repos.spend_ledger.total(session, **{name: moment})
            with pytest.raises(InvalidInput, match=name):
                await repos.spend_ledger.totals_by(session, "day", **{name: moment})
            with pytest.raises(InvalidInput, match=name):
                await repos.spend_ledger.totals_by_project(admin, **{name: moment})


class TestTotalsBy:
    async def _fill(self, session: ProjectSession) -> None:
        evening = datetime(2026, 11, 20, 23, 59, 59, 999999, tzinfo=UTC)
        await repos.spend_ledger.append(session, a_charge("a", "1", model="m", occurred_at=evening))
        await repos.spend_ledger.append(session, a_charge("b", "2", model="n", occurred_at=evening + timedelta(microseconds=1)))
        await repos.spend_ledger.append(session, a_charge("c", "4", source=SpendSource.OTHER, occurred_at=NOW))
        await repos.spend_ledger.append(session, a_credit("d", "-0.5", model="m", occurred_at=NOW))

    @pytest.mark.parametrize(
        ("key", "expected"),
        [
            ("source", {SpendSource.ANTHROPIC: Decimal("2.5"), SpendSource.OTHER: Decimal(4)}),
            ("model", {"m": Decimal("0.5"), "n": Decimal(2), None: Decimal(4)}),
            ("day", {date(2026, 11, 20): Decimal("4.5"), date(2026, 11, 21): Decimal(2)}),
        ],
    )
    @pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Kiritimati"])
    async def test_sums_by_key_days_in_utc(self, session: ProjectSession, key: Any, expected: Any, zone: str) -> None:
        await self._fill(session)
        await session.sql.execute(sa.text(f"SET LOCAL TimeZone = '{zone}'"))
        totals = await repos.spend_ledger.totals_by(session, key)
        assert totals == expected
        assert [type(name) for name in totals] == [type(name) for name in expected]

    async def test_within_bounds(self, session: ProjectSession) -> None:
        await self._fill(session)
        assert await repos.spend_ledger.totals_by(session, "model", since=NOW + timedelta(seconds=1)) == {"m": 1, "n": 2}
        assert await repos.spend_ledger.totals_by(session, "model", until=NOW) == {}

    async def test_another_key_is_refused(self, session: ProjectSession) -> None:
        for key in ("amount_usd", "project_id", "", None):
            with pytest.raises(InvalidInput, match="key"):
                await repos.spend_ledger.totals_by(session, key)  # type: ignore[arg-type]


class TestTotalsByProject:
    async def test_has_deleted_projects_too(self, db: Database, project: Project, other_project: Project) -> None:
        for row, amount in ((project, "1.25"), (other_project, "2.5")):
            async with db.project(row.id) as session:
                await repos.spend_ledger.append(session, a_charge(amount=amount))
        async with db.admin(reason="a test") as admin:
            await repos.projects.delete(admin, project.id)
            totals = await repos.spend_ledger.totals_by_project(admin)
            later = await repos.spend_ledger.totals_by_project(admin, since=NOW + DAY)
        assert (totals[project.slug], totals[other_project.slug]) == (Decimal("1.25"), Decimal("2.5"))
        assert project.slug not in later

    async def test_entries_under_the_slug_of_another_are_not_its_own(self, own_db: Database, owner: asyncpg.Connection) -> None:
        """The owner's SQL can turn off the trigger that refuses them."""
        ids = {}
        async with own_db.admin(reason="a test") as admin:
            for slug in ("ours", "theirs"):
                data = ProjectCreate(slug=slug, name="Any", type=ProjectType.OTHER)
                ids[slug] = (await repos.projects.create(admin, data)).id
        for slug, id in ids.items():
            async with own_db.project(id) as session:
                await repos.spend_ledger.append(session, a_charge(amount="1.5" if slug == "ours" else "7"))
        await owner.execute("ALTER TABLE public.spend_ledger DISABLE TRIGGER USER")
        await owner.execute(
            "INSERT INTO public.spend_ledger "
            "(project_id, id, project_slug, kind, source, amount_usd, idempotency_key, occurred_at) "
            "SELECT project_id, gen_random_uuid(), 'theirs', kind, source, 2, 'moved', occurred_at FROM public.spend_ledger "
            "WHERE project_slug = 'ours'"
        )
        async with own_db.admin(reason="a test") as admin:
            totals = await repos.spend_ledger.totals_by_project(admin)
        assert totals == {"ours": Decimal("3.5"), "theirs": Decimal(7)}

    async def test_is_exact_whatever_the_process_has_set_for_its_own_numbers(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            await repos.spend_ledger.append(session, a_charge(amount="12345678.123456"))
        with localcontext(prec=3):
            async with db.admin(reason="a test") as admin:
                totals = await repos.spend_ledger.totals_by_project(admin)
        assert totals[project.slug] == Decimal("12345678.123456")

    async def test_takes_no_session_of_a_project(self, session: ProjectSession) -> None:
        with pytest.raises(ScopeError):
            await repos.spend_ledger.totals_by_project(session)  # type: ignore[arg-type]


class TestAppendOnly:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE spend_ledger SET amount_usd = 1",
            "DELETE FROM spend_ledger",
            "TRUNCATE spend_ledger",
            "INSERT INTO spend_ledger SELECT * FROM spend_ledger ON CONFLICT (project_id, id) DO UPDATE SET model = 'x'",
        ],
    )
    async def test_raw_sql_is_refused(self, session: ProjectSession, statement: str) -> None:
        row = await repos.spend_ledger.append(session, a_charge())
        with pytest.raises(AppendOnlyViolation):
            async with session.savepoint():
                await session.sql.execute(sa.text(statement))
        assert await stored(session) == [row]
