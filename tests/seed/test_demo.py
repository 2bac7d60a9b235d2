"""The demo's data: written once, however often it is asked for, and by however many at once."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from derwin_db import Database, repos, sql
from derwin_db.fields.scalars import project_id_of
from derwin_db.repos.rules.history import close_history, open_history
from derwin_db.seed import LIFELINE, demo, seed_demo, seed_lifeline
from derwin_db.seed.demo.learning import learn
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase, TestServer
from tests.repos.rows import a_run

STARTERS = 4
NOW = datetime.now(UTC)
"""One day for all of them, also around midnight."""
OF_THE_PRESENT = {
    "ingested_docs",
    "project_profiles",
    "profile_evolution_logs",
    "policies",
    "project_mode_logs",
    "classification_trust",
}


async def counts(db: Database) -> dict[str, int]:
    async with db.project(LIFELINE, read_only=True) as session:
        return {table: await getattr(repos, table).count(session) for table in sql.PROJECT_TABLES}


@pytest.fixture(scope="module")
async def alone(server: TestServer) -> TestDatabase:
    """A database with the history that one starter writes, to be read or copied."""
    database = await asyncio.to_thread(server.migrated)
    async with Database(**database.urls) as db:
        await seed_lifeline(db)
        await seed_demo(db, now=NOW)
    return database


async def test_again_adds_nothing_and_learns_nothing(server: TestServer, alone: TestDatabase) -> None:
    async with Database(**(await asyncio.to_thread(server.clone, alone)).urls) as db:
        first = await counts(db)
        async with db.project(LIFELINE) as session:
            profile = await repos.project_profiles.current(session)
        await seed_demo(db, now=NOW)
        assert await counts(db) == first
        assert first["profile_evolution_logs"] > 1
        async with db.project(LIFELINE) as session:
            assert await repos.project_profiles.current(session) == profile


async def test_a_history_of_an_older_version_stays_as_it_is(own_db: Database) -> None:
    await seed_lifeline(own_db)
    async with own_db.project(LIFELINE) as session:
        await repos.qa_runs.enqueue(session, a_run(target_url=demo.FORMER_URL))
    before = await counts(own_db)
    assert await seed_demo(own_db, scale=3) == demo.DemoCounts.at(1)
    assert await counts(own_db) == before


async def test_what_was_spent_says_on_what(alone: TestDatabase) -> None:
    """A model that writes has tokens of both kinds, one that embeds none that it wrote, a machine none at all."""
    async with Database(**alone.urls) as db, db.project(LIFELINE, read_only=True) as session:
        shapes = {
            (row.source.value, row.input_tokens is not None, row.output_tokens is not None, *sorted(row.details))
            async for row in repos.spend_ledger.stream(session)
            if row.amount_usd > 0
        }
    assert shapes == {
        ("ANTHROPIC", True, True),
        ("ANTHROPIC", True, True, "purpose"),
        ("EMBEDDING", True, False),
        ("COMPUTE", False, False, "machine", "minutes"),
        ("STORAGE", False, False, "gigabytes"),
    }


class Course:
    """All have opened the past before one row is written. Then all but the first write a batch, and wait until it is closed."""

    def __init__(self) -> None:
        self.opened, self.learning, self.evolving = (asyncio.Barrier(STARTERS) for _ in range(3))
        self.closed = asyncio.Event()


class Starter(Database):
    """A service of its own that is led along the course, between its units of work."""

    course: Course
    is_first = False
    batches = 0

    async def run(self, project: Any, fn: Any, *args: Any, **named: Any) -> Any:
        if fn is demo._write:
            self.batches += 1
            if self.batches == 1:
                await self.course.opened.wait()
            elif not self.is_first:
                await self.course.closed.wait()
        elif fn is learn:
            await self.course.learning.wait()
        elif self.is_first:
            self.course.closed.set()
        return await super().run(project, fn, *args, **named)


@pytest.fixture
def course(monkeypatch: pytest.MonkeyPatch) -> Course:
    """Where starters meet: the last time in front of the profile, which each of them finds as `seed_lifeline` left it."""
    course, evolve = Course(), repos.project_profiles.evolve

    async def met(session: Any, data: Any, **named: Any) -> Any:
        if named["expected_version"] == 1:
            await course.evolving.wait()
        return await evolve(session, data, **named)

    monkeypatch.setattr(repos.project_profiles, "evolve", met)
    return course


async def everything(owner: asyncpg.Connection, table: str) -> list[asyncpg.Record]:
    """Rows of a table as they are stored, without what is of the present or by chance."""
    if table in OF_THE_PRESENT:
        return await owner.fetch(f"SELECT count(*) FROM {table}")
    return await owner.fetch(f"SELECT * FROM {table} ORDER BY id")


class TestStartersAtOnce:
    async def test_write_the_history_that_one_writes(
        self, own_database: TestDatabase, alone: TestDatabase, course: Course
    ) -> None:
        settings = Settings(pool_size=2, pool_timeout=60)
        starters = [Starter(**own_database.urls, settings=settings) for _ in range(STARTERS)]
        starters[0].is_first = True
        for starter in starters:
            starter.course = course
        try:
            await seed_lifeline(starters[0])
            counted = await asyncio.gather(*(seed_demo(db, now=NOW) for db in starters))
        finally:
            await asyncio.gather(*(db.close() for db in starters))
        assert counted == counted[:1] * STARTERS
        one = await asyncpg.connect(**alone.owner.connect_arguments())
        many = await asyncpg.connect(**own_database.owner.connect_arguments())
        for table in sql.PROJECT_TABLES:
            assert await everything(many, table) == await everything(one, table), table
        assert await many.fetchval("SELECT count(*) FROM derwin.restoring") == 0
        await asyncio.gather(one.close(), many.close())


class TestHistory:
    async def test_two_may_open_it_at_once(self, own_database: TestDatabase, own_db: Database) -> None:
        """The second waits for the first, and finds it open."""
        await seed_lifeline(own_db)
        lifeline = project_id_of(LIFELINE)
        owner = await asyncpg.connect(**own_database.owner.connect_arguments())

        async def second() -> None:
            async with own_db.admin(reason="a test") as admin:
                await open_history(admin, lifeline)

        async with own_db.admin(reason="a test") as admin:
            await open_history(admin, lifeline)
            task = asyncio.create_task(second())
            blocked = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0)"
            async with asyncio.timeout(10):
                while not await owner.fetchval(blocked):
                    assert not task.done(), "it was to wait, and did not"
                    await asyncio.sleep(0.002)
        await task
        assert await owner.fetchval("SELECT count(*) FROM derwin.restoring WHERE until > now()") == 1
        async with own_db.admin(reason="a test") as admin:
            await close_history(admin, lifeline)
        assert await owner.fetchval("SELECT count(*) FROM derwin.restoring") == 0
        await owner.close()
