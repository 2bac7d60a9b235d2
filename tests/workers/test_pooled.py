"""Behind a pooler in transaction mode, where nobody can listen: a worker asks, or listens over the direct login."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase
from derwin_db.testing.server import url_of
from tests.pgbouncer import Pooler
from tests.workers.conftest import Done, Projects, enqueue


class TestPooler:
    @pytest.fixture
    def pooler(self, own_database: TestDatabase) -> Iterator[Pooler]:
        made = Pooler.of(own_database, size=2)
        made.start()
        yield made
        made.remove()

    async def test_serves_behind_one_by_asking(
        self, own_database: TestDatabase, pooler: Pooler, db: Database, projects: Projects, done: Done
    ) -> None:
        """Two server connections for ten jobs; nobody listens, since no login leads to the server itself."""
        ids = await projects(3)
        urls = {
            "url": url_of(pooler.declared(own_database.service)),
            "admin_url": url_of(pooler.declared(own_database.operator)),
        }
        async with Database(**urls, settings=Settings(_env_file=None, pool_timeout=20)) as pooled:
            assert await pooled.listening_login() is None
            async with pooled.worker("w", done, poll_seconds=0.1, at_once_per_project=2):
                for project in ids:
                    await enqueue(db, project, 3)
                await done.until(9)
        assert {project: done.projects.count(project) for project in ids} == dict.fromkeys(ids, 3)

    async def test_listens_over_the_direct_login_where_there_is_one(
        self, own_database: TestDatabase, pooler: Pooler, db: Database, projects: Projects, done: Done
    ) -> None:
        (project,) = await projects(1)
        led = TestDatabase(own_database.owner, pooler.declared(own_database.service), pooler.declared(own_database.operator))
        async with Database(**led.urls, settings=Settings(_env_file=None, pool_timeout=20)) as pooled:
            async with pooled.worker("w", done, poll_seconds=1000):
                for number in range(1, 3):
                    await enqueue(db, project)
                    await done.until(number)
            assert await _of(pooled) == 2


async def _of(db: Database) -> int:
    async with db.admin(reason="a test") as admin:
        (project,) = [row.id async for row in repos.projects.stream(admin)]
    async with db.project(project) as session:
        return (await session.sql.execute(sa.text("SELECT count(*) FROM public.qa_runs"))).scalar_one()
