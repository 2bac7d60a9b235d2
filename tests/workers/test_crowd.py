"""Many workers, many projects, kills: nothing is lost, nothing is done twice, nobody waits for another's long queue."""

import asyncio
import random
from uuid import UUID

import asyncpg
import pytest

from derwin_db import Database
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase
from tests.workers import crowd
from tests.workers.conftest import Done, until


class TestCrowd:
    async def test_does_each_run_once_while_one_of_them_is_killed(
        self, own_database: TestDatabase, db: Database, owner: asyncpg.Connection
    ) -> None:
        await crowd.prepare(owner, projects=40, runs_each=3)
        killed = await crowd.start(own_database, "killed")
        settings = Settings(_env_file=None, pool_size=3, pool_timeout=30, lock_timeout=20)
        try:
            await crowd.until_left(owner, 110)
        finally:
            killed.kill()
            await killed.wait()
        databases = [Database(**own_database.urls, settings=settings) for _ in range(5)]
        serving = [
            asyncio.create_task(crowd.serve(databases[number % 5], f"worker-{number}")) for number in range(10)
        ]  # two workers of one process on each pool
        await crowd.until_left(owner, 0)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        for database in databases:
            await database.close()
        await crowd.check(owner, 120)

    async def test_lets_no_project_wait_for_anothers_queue(
        self, own_database: TestDatabase, db: Database, owner: asyncpg.Connection, done: Done
    ) -> None:
        """Of three workers each goes round: a project with 62 queued runs has at most one of each one's turns in a round."""
        await crowd.prepare(owner, projects=20, runs_each=2)
        await owner.execute(
            "INSERT INTO public.qa_runs (project_id, id, trigger, routes, mode, status) SELECT min(id::text)::uuid, "
            "gen_random_uuid(), 'MANUAL', '[\"E2E_CRAWL\"]', 'OBSERVE', 'QUEUED' FROM public.projects, generate_series(1, 60)"
            " GROUP BY generate_series"
        )
        greedy = await owner.fetchval("SELECT min(id::text)::uuid FROM public.projects")
        async with db.worker("a", done, at_once=1), db.worker("b", done, at_once=1), db.worker("c", done, at_once=1):
            await until(lambda: _others_begun(done, greedy, 38))
        others = [number for number, project in enumerate(done.projects) if project != greedy]
        ahead = done.projects[: others[-1]].count(greedy)
        assert ahead <= 3 * 3, "a turn of each worker, in each of the rounds that the others needed, and one begun"

    @pytest.mark.long
    @pytest.mark.timeout(900)
    async def test_thousand_projects_ten_processes_and_a_kill_every_second(
        self, own_database: TestDatabase, db: Database, owner: asyncpg.Connection
    ) -> None:
        await crowd.prepare(owner, projects=1000, runs_each=5)
        workers = [await crowd.start(own_database, f"worker-{number}") for number in range(10)]
        kills = 0
        try:
            while await crowd.left(owner) > 500:
                await asyncio.sleep(1)
                victim = random.randrange(10)
                workers[victim].kill()
                await workers[victim].wait()
                kills += 1
                workers[victim] = await crowd.start(own_database, f"worker-{victim}-{kills}")
            await crowd.until_left(owner, 0, seconds=300)
        finally:
            codes = await crowd.stop(workers)
        assert codes == [0] * 10
        assert kills > 3
        print(f"{kills} kills; taken from their claims: {await owner.fetchval('SELECT count(*) FROM derwin.taken')}")
        await crowd.check(owner, 5000)


async def _others_begun(done: Done, greedy: UUID, number: int) -> bool:
    return sum(project != greedy for project in done.projects) >= number
