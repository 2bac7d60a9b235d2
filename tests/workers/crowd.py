"""Many workers over many projects, some of which are killed: `python -m tests.workers.crowd NAME` is one of them.

What is asked at the end is asked of the database: is every run done, once; and was any taken while its heartbeat lived?
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import asyncpg

from derwin_db import Database, repos
from derwin_db.models import RunStats
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase
from derwin_db.workers import Job
from tests.repos.rows import a_ticket

STALLED_SECONDS = 3.0

AUDIT = """
CREATE TABLE derwin.taken (run uuid, was text, age interval);
CREATE FUNCTION derwin.note_taken() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO derwin.taken VALUES (OLD.id, OLD.claimed_by || ' -> ' || NEW.status, now() - OLD.heartbeat_at);
    RETURN NULL;
END
$$;
CREATE TRIGGER note_taken AFTER UPDATE ON public.qa_runs FOR EACH ROW
    WHEN (OLD.status = 'RUNNING' AND NEW.status IN ('QUEUED', 'RUNNING') AND NEW.claimed_by IS DISTINCT FROM OLD.claimed_by)
    EXECUTE FUNCTION derwin.note_taken();
"""
"""Notes every run that is taken from its claim, and how old its heartbeat was."""

FILL = """
WITH made AS (
    INSERT INTO public.projects (id, slug, name, type)
    SELECT gen_random_uuid(), 'crowd-' || n, 'Crowd', 'ERP' FROM generate_series(1, $1) AS n RETURNING id
)
INSERT INTO public.qa_runs (project_id, id, trigger, routes, mode, status)
SELECT id, gen_random_uuid(), 'MANUAL', '["E2E_CRAWL"]', 'OBSERVE', 'QUEUED' FROM made, generate_series(1, $2)
"""


async def work(job: Job) -> None:
    """Write one ticket and end the run, in one transaction, after a moment."""
    await asyncio.sleep(random.uniform(0, 0.02))
    async with job.project() as session:
        await repos.qa_tickets.create(session, a_ticket(run_id=job.run_id))
        await job.complete(session, RunStats(tickets=1))


async def serve(db: Database, name: str) -> None:
    await db.worker(name, work, at_once=10, at_once_per_project=2, poll_seconds=0.5, stalled_seconds=STALLED_SECONDS).run()


async def prepare(owner: asyncpg.Connection, projects: int, runs_each: int) -> None:
    await owner.execute(AUDIT)
    await owner.execute(FILL.replace("$1", str(projects)).replace("$2", str(runs_each)))


async def left(owner: asyncpg.Connection) -> int:
    """Return how many runs are not done yet."""
    return await owner.fetchval("SELECT count(*) FROM public.qa_runs WHERE status <> 'COMPLETED'")


async def until_left(owner: asyncpg.Connection, at_most: int, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while await left(owner) > at_most:
            await asyncio.sleep(0.05)


async def check(owner: asyncpg.Connection, runs: int) -> None:
    """See that each run is done, and once, and that none was taken while its heartbeat lived."""
    assert await owner.fetchval("SELECT count(*) FROM public.qa_runs WHERE status = 'COMPLETED'") == runs
    twice = "SELECT run_id FROM public.qa_tickets GROUP BY run_id HAVING count(*) <> 1"
    assert await owner.fetch(twice) == []
    assert await owner.fetchval("SELECT count(DISTINCT run_id) FROM public.qa_tickets") == runs
    early = await owner.fetch("SELECT * FROM derwin.taken WHERE age < make_interval(secs => $1)", STALLED_SECONDS)
    assert early == []
    assert await owner.fetchval("SELECT count(*) FROM derwin.open_runs") == 0


async def start(database: TestDatabase, name: str) -> asyncio.subprocess.Process:
    """Start a worker in a process of its own."""
    urls = {"DATABASE_URL": database.urls["url"], "ADMIN_URL": database.urls["admin_url"]}
    root = str(Path(__file__).parents[2])
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.workers.crowd", name, env={**os.environ, **urls, "PYTHONPATH": root}, cwd=root
    )


async def stop(processes: Sequence[asyncio.subprocess.Process]) -> list[int]:
    """Have them end at SIGTERM, and return their exit codes."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    return [await process.wait() for process in processes]


async def main() -> None:
    async with Database(settings=Settings.load()) as db:
        await serve(db, sys.argv[1])


if __name__ == "__main__":
    asyncio.run(main())
