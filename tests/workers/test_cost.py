"""What a look over all projects costs: that of the projects that it returns, however many there are, and whatever has ended."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from derwin_db import Database
from derwin_db.isolation.seal import Kind
from derwin_db.testing import TestDatabase
from tests.isolation.keys_of_old import server_time
from tests.workers.conftest import Projects, enqueue

NOBODY = UUID(int=0)
IDLE = """
INSERT INTO public.projects (id, slug, name, type)
SELECT gen_random_uuid(), 'idle-' || n, 'Idle', 'ERP' FROM generate_series(1, 10000) AS n
"""
ENDED = """
INSERT INTO public.qa_runs (project_id, id, trigger, routes, mode, status, finished_at)
SELECT id, gen_random_uuid(), 'MANUAL', '["E2E_CRAWL"]', 'OBSERVE', 'COMPLETED', now() FROM public.projects
"""
MANY = """
INSERT INTO public.qa_runs (project_id, id, trigger, routes, mode, status)
SELECT $1, gen_random_uuid(), 'MANUAL', '["E2E_CRAWL"]', 'OBSERVE', 'QUEUED' FROM generate_series(1, 5000)
"""
LOOK = "SELECT * FROM public.derwin_waiting($1, $2, $3, $4)"
STALLED = "SELECT * FROM public.derwin_stalled($1, interval '1 minute')"


class Asking:
    """A login of the service, with tokens."""

    def __init__(self, connection: asyncpg.Connection, seal: Any) -> None:
        self._connection = connection
        self._seal = seal

    async def pages(self, query: str, *arguments: Any) -> int:
        """Return how many pages the query looked at, once its plans are made."""
        counts = []
        for _ in range(8):
            token = self._seal.token(Kind.ASKS, NOBODY, await server_time(self._connection), self._connection.get_server_pid())
            explained = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {query}"
            (plan,) = json.loads(await self._connection.fetchval(explained, token, *arguments))
            counts.append(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])
        return min(counts)


@pytest.fixture
async def asking(own_database: TestDatabase, db: Database) -> AsyncIterator[Asking]:
    connection = await asyncpg.connect(**own_database.service.connect_arguments())
    await connection.execute("SET ROLE derwin_app")
    yield Asking(connection, (await db.app_pool(read_only=False)).preamble.seal)
    await connection.close()


class TestCost:
    async def test_does_not_grow_with_idle_projects_ended_runs_or_a_long_queue(
        self, db: Database, projects: Projects, owner: asyncpg.Connection, asking: Asking
    ) -> None:
        ids = await projects(3)
        for project in ids:
            await enqueue(db, project)
        before = [await asking.pages(LOOK, NOBODY, 10, None), await asking.pages(STALLED)]
        await owner.execute(IDLE)
        await owner.execute(ENDED)
        await owner.execute(MANY, ids[0])
        await owner.execute("VACUUM ANALYZE public.qa_runs, derwin.open_runs, public.projects")
        after = [await asking.pages(LOOK, NOBODY, 10, None), await asking.pages(STALLED)]
        assert await owner.fetchval("SELECT count(*) FROM public.projects") == 10_003
        assert await owner.fetchval("SELECT count(*) FROM public.qa_runs") > 15_000
        assert after[0] <= before[0] + 12, (before, after)  # the index has one level more, on the way to each project
        assert after[1] <= before[1] + 3, (before, after)

    async def test_is_that_of_the_projects_that_are_returned(
        self, db: Database, projects: Projects, owner: asyncpg.Connection, asking: Asking
    ) -> None:
        await owner.execute(IDLE)
        await owner.execute(ENDED.replace("'COMPLETED', now()", "'QUEUED', NULL"))
        await owner.execute("VACUUM ANALYZE derwin.open_runs")
        few, more = await asking.pages(LOOK, NOBODY, 10, None), await asking.pages(LOOK, NOBODY, 100, None)
        assert few < 60
        assert more < 12 * few
        assert await asking.pages(LOOK, NOBODY, 10, 2) < 3 * few

    async def test_goes_by_the_index_of_what_is_queued(self, projects: Projects, owner: asyncpg.Connection) -> None:
        await owner.execute(IDLE)
        await owner.execute(ENDED.replace("'COMPLETED', now()", "'QUEUED', NULL"))
        await owner.execute("ANALYZE derwin.open_runs")
        source = await owner.fetchval("SELECT prosrc FROM pg_proc WHERE proname = 'derwin_waiting'")
        step = "FROM derwin.open_runs\n        WHERE NOT is_running AND project > place ORDER BY project LIMIT 1"
        assert step in source
        query = f"EXPLAIN (FORMAT JSON) SELECT project {step.replace('place', '$1')}"
        plan = await owner.fetchval(query, NOBODY)
        assert "ix_open_runs_queued" in plan
        assert "Seq Scan" not in plan
        assert "Sort" not in plan
