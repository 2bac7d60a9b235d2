"""How long evidence is kept: calendar intervals in UTC, by the database's clock, only ever raised."""

import calendar
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from derwin_db import Database, ProjectSession, repos
from derwin_db.models import ComplianceMode, Project, ProjectUpdate
from derwin_db.repos.rules.retention import retention_end
from tests.repos.evidence import evidence
from tests.repos.rows import an_artifact

M = ComplianceMode
ZONES = ["UTC", "America/New_York", "Australia/Lord_Howe", "Pacific/Kiritimati"]

STARTS = [
    datetime(2024, 2, 29, 12, tzinfo=UTC),
    datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2023, 1, 31, tzinfo=UTC),
    datetime(2023, 12, 31, 23, 30, tzinfo=UTC),
    datetime(2024, 1, 29, tzinfo=UTC),
    datetime(2024, 1, 31, 0, 30, tzinfo=UTC),
    datetime(2026, 3, 8, 6, 59, tzinfo=UTC),
    datetime(2026, 11, 1, 5, 30, tzinfo=UTC),
    datetime(2096, 2, 29, tzinfo=UTC),
]
"""The ends of months, leap years (2100 is none), and the hours at which New York sets its clocks."""


def add_months(start: datetime, months: int) -> datetime:
    """The same day of the month, or its last one."""
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    return start.replace(year=year, month=month + 1, day=min(start.day, calendar.monthrange(year, month + 1)[1]))


def end_of(start: datetime, mode: ComplianceMode) -> datetime:
    """The end of retention, in Python's calendar."""
    if mode in (M.STANDARD, M.GDPR):
        return start + timedelta(days=90 if mode is M.STANDARD else 30)
    return add_months(start, {M.SOC2: 13, M.PCI_DSS: 13, M.HIPAA: 72, M.SOX: 84}[mode])


async def set_zone(session: ProjectSession, zone: str) -> None:
    await session.sql.execute(sa.text(f"SET LOCAL TimeZone = '{zone}'"))


class TestRetentionEnd:
    @pytest.mark.parametrize("zone", ZONES)
    @pytest.mark.parametrize("mode", M)
    async def test_is_calendar_arithmetic_in_utc(self, session: ProjectSession, mode: ComplianceMode, zone: str) -> None:
        await set_zone(session, zone)
        for start in STARTS:
            query = sa.select(retention_end(sa.literal(start, sa.DateTime(timezone=True)), sa.literal(mode.value)))
            assert (await session.sql.execute(query)).scalar() == end_of(start, mode)

    @pytest.mark.parametrize(
        ("start", "mode", "end"),
        [
            ("2024-02-29T12:00Z", M.SOC2, "2025-03-29T12:00Z"),
            ("2024-02-29T12:00Z", M.HIPAA, "2030-02-28T12:00Z"),
            ("2024-02-29T12:00Z", M.SOX, "2031-02-28T12:00Z"),
            ("2023-01-29T12:00Z", M.PCI_DSS, "2024-02-29T12:00Z"),
            ("2023-01-31T12:00Z", M.PCI_DSS, "2024-02-29T12:00Z"),
            ("2024-02-29T12:00Z", M.GDPR, "2024-03-30T12:00Z"),
        ],
    )
    def test_the_calendar_that_it_is_held_against(self, start: str, mode: ComplianceMode, end: str) -> None:
        assert end_of(datetime.fromisoformat(start), mode) == datetime.fromisoformat(end)


class TestRecord:
    @pytest.mark.parametrize("zone", ZONES)
    @pytest.mark.parametrize("mode", M)
    async def test_computes_it_from_now_and_the_mode(
        self, db: Database, new_project: object, mode: ComplianceMode, zone: str
    ) -> None:
        project = await new_project(compliance_mode=mode)  # type: ignore[operator]  # a fixture that makes projects
        async with db.project(project.id) as session:
            await set_zone(session, zone)
            row = await repos.audit_artifacts.record(session, an_artifact())
            assert row.compliance_mode is mode
            assert row.created_at == (await session.sql.execute(sa.select(sa.func.now()))).scalar()
            assert row.retention_until == end_of(row.created_at, mode)


class TestChangeOfMode:
    @pytest.mark.parametrize("to", M)
    @pytest.mark.parametrize("mode", M)
    async def test_raises_and_never_lowers(
        self, db: Database, new_project: object, mode: ComplianceMode, to: ComplianceMode
    ) -> None:
        project = await new_project(compliance_mode=mode)  # type: ignore[operator]  # a fixture that makes projects
        async with db.project(project.id) as session:
            before = await repos.audit_artifacts.record(session, an_artifact())
        async with db.admin(reason="a test") as admin:
            await repos.projects.update(admin, project.id, ProjectUpdate(compliance_mode=to))
        async with db.project(project.id) as session:
            after = await repos.audit_artifacts.get(session, before.id)
            until = max(end_of(before.created_at, mode), end_of(before.created_at, to))
            assert after == before.model_copy(update={"retention_until": until, "updated_at": after.updated_at})
            assert (after.updated_at > before.updated_at) == (until > before.retention_until)
            newer = await repos.audit_artifacts.record(session, an_artifact())
            assert (newer.compliance_mode, newer.retention_until) == (to, end_of(newer.created_at, to))

    async def test_counts_from_when_each_was_written(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            ids = [await evidence(session, created_at=f"'{start.isoformat()}'", until="now()") for start in STARTS]
            held = await evidence(session, created_at="now() - interval '1 year'", until="now()")
            await repos.audit_artifacts.hold(session, held)
        async with db.admin(reason="a test") as admin:
            await repos.projects.update(admin, project.id, ProjectUpdate(compliance_mode=M.SOX))
        async with db.project(project.id) as session:
            rows = [await repos.audit_artifacts.get(session, id) for id in [*ids, held]]
            assert [row.retention_until for row in rows] == [end_of(row.created_at, M.SOX) for row in rows]
            assert {row.compliance_mode for row in rows} == {M.STANDARD}

    async def test_there_and_back_leaves_it_raised(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            row = await repos.audit_artifacts.record(session, an_artifact())
        for mode in (M.HIPAA, M.GDPR, M.STANDARD):
            async with db.admin(reason="a test") as admin:
                await repos.projects.update(admin, project.id, ProjectUpdate(compliance_mode=mode))
        async with db.project(project.id) as session:
            assert (await repos.audit_artifacts.get(session, row.id)).retention_until == end_of(row.created_at, M.HIPAA)

    async def test_leaves_other_projects(self, db: Database, project: Project, other_project: Project) -> None:
        async with db.project(other_project.id) as other:
            row = await repos.audit_artifacts.record(other, an_artifact())
        async with db.admin(reason="a test") as admin:
            await repos.projects.update(admin, project.id, ProjectUpdate(compliance_mode=M.SOX))
        async with db.project(other_project.id) as other:
            assert await repos.audit_artifacts.get(other, row.id) == row
