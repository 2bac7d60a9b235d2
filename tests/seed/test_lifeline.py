"""Lifeline is there once, however many starters write it at once, and whatever of it was there."""

import asyncio
from typing import Any

import pytest

from derwin_db import Database, repos
from derwin_db.fields.scalars import project_id_of
from derwin_db.models import ProjectMode
from derwin_db.seed import LIFELINE, seed_lifeline
from derwin_db.seed.lifeline import POLICY, PROFILE
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase

STARTERS = 10


async def counts(db: Database) -> tuple[int, ...]:
    async with db.project(LIFELINE) as session:
        profile = await repos.project_profiles.current(session)
        return (
            profile.version,
            await repos.profile_evolution_logs.count(session),
            await repos.policies.count(session),
            await repos.project_mode_logs.count(session),
        )


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """All starters look whether the project is there before one of them makes it, and meet again in front of its row."""
    first, second = asyncio.Barrier(STARTERS), asyncio.Barrier(STARTERS)
    exists, set_mode = repos.projects.exists, repos.projects.set_mode

    async def looked(*arguments: Any) -> bool:
        found = await exists(*arguments)
        await first.wait()
        return found

    async def met(*arguments: Any, **named: Any) -> Any:
        await second.wait()
        return await set_mode(*arguments, **named)

    monkeypatch.setattr(repos.projects, "exists", looked)
    monkeypatch.setattr(repos.projects, "set_mode", met)


class TestSeedLifeline:
    async def test_ten_starters_at_once_leave_one_of_each(self, own_database: TestDatabase, together: None) -> None:
        """Each a service of its own, with a pool for the few connections that it needs."""
        settings = Settings(pool_size=2, pool_timeout=30)
        databases = [Database(**own_database.urls, settings=settings) for _ in range(STARTERS)]
        try:
            projects = await asyncio.gather(*(seed_lifeline(db) for db in databases))
            assert {(project.slug, project.mode) for project in projects} == {(LIFELINE, ProjectMode.AUTHOR)}
            assert await counts(databases[0]) == (1, 1, 1, 2)
        finally:
            await asyncio.gather(*(db.close() for db in databases))

    async def test_what_is_there_is_left(self, own_db: Database) -> None:
        await seed_lifeline(own_db)
        async with own_db.project(LIFELINE) as session:
            policy = await repos.policies.active(session)
            await repos.projects.set_mode(session, ProjectMode.OBSERVE, actor="a", reason="r")
        project = await seed_lifeline(own_db)
        assert (project.id, project.mode) == (project_id_of(LIFELINE), ProjectMode.AUTHOR)
        assert await counts(own_db) == (1, 1, 1, 4)
        async with own_db.project(LIFELINE) as session:
            assert (await repos.policies.active(session)).id == policy.id
            assert (await repos.project_profiles.current(session)).summary == PROFILE.summary
            assert (await repos.policies.active(session)).note == POLICY.note
