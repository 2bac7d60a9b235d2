"""The past of a project is written while the admin door says so, for a day at the most; elsewhere the database stamps."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.errors import InvalidInput
from derwin_db.models import Project, ProjectMode, ProjectModeLog
from derwin_db.repos.rules.history import close_history, open_history
from derwin_db.testing import TestDatabase
from derwin_db.testing.history import writing_history

EVIDENCE = """
INSERT INTO audit_artifacts
    (project_id, kind, storage_uri, mime_type, byte_size, content_hash, compliance_mode, retention_until, created_at)
SELECT id, 'LOG', 's3://b/k', 'text/plain', 1, repeat('a', 64), 'GDPR', '2000-01-31Z', '2000-01-01Z' FROM projects
RETURNING created_at = now()
"""


async def is_stamped(db: Database, project: Project) -> bool:
    """Write evidence of the past by hand, and say whether the database made it evidence of now."""
    async with db.project(project.id) as session:
        return bool((await session.sql.execute(sa.text(EVIDENCE))).scalar_one())


async def test_is_that_of_one_project_until_it_is_closed(db: Database, project: Project, other_project: Project) -> None:
    async with db.admin(reason="a test") as admin:
        await open_history(admin, project.id)
    assert [await is_stamped(db, one) for one in (project, other_project)] == [False, True]
    async with db.admin(reason="a test") as admin:
        await close_history(admin, project.id)
    assert await is_stamped(db, project)


async def test_ends_after_a_day_by_itself(db: Database, project: Project, migrated: TestDatabase) -> None:
    async with db.admin(reason="a test") as admin:
        await open_history(admin, project.id)
    owner = await asyncpg.connect(**migrated.owner.connect_arguments())
    later = "UPDATE derwin.restoring SET until = until - interval '1 day' WHERE id = $1 RETURNING until <= now()"
    assert await owner.fetchval(later, project.id)
    await owner.close()
    assert await is_stamped(db, project)


class TestLog:
    """An entry of a time to come keeps its place: the next one comes behind it."""

    @pytest.mark.parametrize(("hours", "is_taken"), [(23, True), (25, False)])
    async def test_takes_times_up_to_a_day_ahead(self, db: Database, project: Project, hours: int, is_taken: bool) -> None:
        entry = ProjectModeLog(
            project_id=project.id,
            created_at=datetime.now(UTC) + timedelta(hours=hours),
            to_mode=ProjectMode.OBSERVE,
            actor="a",
            reason="r",
        )
        with nullcontext() if is_taken else pytest.raises(InvalidInput):
            async with db.project(project.id) as session, writing_history(session):
                session.sql.add(entry)
                await session.sql.flush()
        async with db.project(project.id) as session:
            await repos.projects.set_mode(session, ProjectMode.TRIAGE, actor="a", reason="r")
            times = [one.created_at for one in (await repos.project_mode_logs.list(session, order="created_at")).items]
            assert len(times) == (3 if is_taken else 2)
            assert times == sorted({*times})
            assert (await repos.project_mode_logs.list(session)).items[0].to_mode is ProjectMode.TRIAGE


async def test_a_mode_is_set_also_behind_an_entry_to_come(db: Database, project: Project) -> None:
    """What a file brings may be up to a day ahead of the clock: it is no entry of this unit."""
    ahead = ProjectModeLog(project_id=project.id, created_at=datetime.now(UTC) + timedelta(hours=23), actor="a", reason="r")
    ahead.to_mode = ProjectMode.OBSERVE
    async with db.admin(reason="a test") as admin:
        await open_history(admin, project.id)
    async with db.project(project.id) as session:
        session.sql.add(ahead)
        await session.sql.flush()
        assert (await repos.projects.set_mode(session, ProjectMode.TRIAGE, actor="a", reason="r")).mode is ProjectMode.TRIAGE


LEDGER = """
INSERT INTO spend_ledger (project_id, project_slug, kind, source, amount_usd, idempotency_key, occurred_at, details, created_at)
SELECT id, slug, 'CHARGE', 'OTHER', 1, 'by-hand', now(), '{}', now() + make_interval(hours => :hours) FROM projects
"""


@pytest.mark.parametrize(("hours", "is_taken"), [(-9000, True), (23, True), (25, False)])
async def test_the_ledger_takes_no_time_to_come(db: Database, project: Project, hours: int, is_taken: bool) -> None:
    with nullcontext() if is_taken else pytest.raises(InvalidInput):
        async with db.project(project.id) as session, writing_history(session):
            await session.sql.execute(sa.text(LEDGER), {"hours": hours})
    async with db.project(project.id) as session:
        assert await repos.spend_ledger.count(session) == is_taken
