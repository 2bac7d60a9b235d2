"""Workers over a server that is killed: no run is lost, and none is done twice."""

import asyncio

import asyncpg
import pytest

from derwin_db.testing import TestDatabase
from tests.faults.conftest import MakeDatabase
from tests.faults.victim import Victim
from tests.workers import crowd


class TestKilledServer:
    @pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.long)])
    async def test_loses_no_run(self, victim: Victim, database: TestDatabase, make_db: MakeDatabase, kills: int) -> None:
        async def on_server(query: str) -> int:
            owner = await asyncpg.connect(**database.owner.connect_arguments())
            try:
                return await owner.fetchval(query)
            finally:
                await owner.close()

        owner = await asyncpg.connect(**database.owner.connect_arguments())
        await owner.execute("DELETE FROM public.projects WHERE slug LIKE 'crowd-%'")
        await owner.execute(crowd.FILL.replace("$1", "20").replace("$2", str(6 * kills)))
        await owner.close()
        ours = "project_id IN (SELECT id FROM public.projects WHERE slug LIKE 'crowd-%')"
        left = f"SELECT count(*) FROM public.qa_runs WHERE status <> 'COMPLETED' AND {ours}"
        databases = [make_db() for _ in range(3)]
        serving = [asyncio.create_task(crowd.serve(db, f"w{number}")) for number, db in enumerate(databases)]
        total = 120 * kills
        for number in range(kills):
            async with asyncio.timeout(60):
                while await on_server(left) > total - (number * 2 + 1) * 40:
                    await asyncio.sleep(0.02)
            await asyncio.to_thread(victim.kill)
            await asyncio.to_thread(victim.start)
        async with asyncio.timeout(90):
            while await on_server(left):
                await asyncio.sleep(0.05)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        tickets = (
            f"SELECT count(*) FROM (SELECT FROM public.qa_tickets WHERE {ours} GROUP BY run_id HAVING count(*) = 1) AS once"
        )
        assert await on_server(tickets) == total
        assert await on_server(f"SELECT count(*) FROM public.qa_tickets WHERE {ours}") == total
