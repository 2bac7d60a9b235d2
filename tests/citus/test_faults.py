"""Faults between the nodes of a cluster: answers that are lost, a worker that dies, shards that move while they are written.

Nothing here needs the machines of the nodes: a proxy stands before one worker (pg_dist_node leads to it for the database of
these tests alone), and SQL of an administrator kills a process of that worker: its server ends all sessions and recovers.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.connection.driver import DriverError, connect
from derwin_db.deploy.citus import unfenced_shards
from derwin_db.errors import DatabaseTimeout, DatabaseUnavailable, OutcomeUnknown
from derwin_db.isolation.preamble import ScopeForm
from derwin_db.settings import ConnectionInfo, Settings
from derwin_db.testing import TestDatabase
from tests.citus.conftest import apart, on_worker, place_of
from tests.faults.committing import lose_commits
from tests.faults.load import Traffic, keys_of, raised, spend, until_spent
from tests.faults.proxy import Proxy
from tests.repos.rows import a_ticket

LEAD = (
    "SELECT citus_update_node(nodeid, '{to[0]}', {to[1]}) FROM pg_dist_node WHERE (nodename, nodeport) = ('{at[0]}', {at[1]})"
)
KILL = "COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'"
"""Kills the process that runs it, on the server's machine: the whole server begins anew."""

MOVE = """
SELECT citus_move_shard_placement(
    get_shard_id_for_distribution_column('public.projects', $1::uuid), $2::text, $3::int, $4::text, $5::int,
    $6::text::citus.shard_transfer_mode
)::text
"""

SPREAD = """
SELECT array_agg(held.shards) FROM (
    SELECT count(*) AS shards FROM pg_dist_placement JOIN pg_dist_shard USING (shardid)
    WHERE logicalrelid = 'public.projects'::regclass GROUP BY groupid
) AS held
"""


@dataclass(frozen=True)
class Stage:
    """A database, and a proxy before one of its workers."""

    db: Database
    database: TestDatabase
    proxy: Proxy
    worker: ConnectionInfo
    """The administrator's login on that worker, past the proxy."""

    async def projects(self, name: str) -> tuple[UUID, UUID]:
        """Make two projects: one behind the proxy, one on another worker. Both can be written to."""
        one, other = await apart(self.db, self.database, name)
        is_behind = await place_of(self.database, one) == ("127.0.0.1", self.proxy.port)
        behind, beside = (one, other) if is_behind else (other, one)
        await self.serves(behind, beside)
        return behind, beside

    async def serves(self, *projects: UUID) -> None:
        """Wait until the projects can be read."""
        for project in projects:
            for _ in range(100):
                error = await raised(keys_of(self.db, project))
                if error is None:
                    break
                assert isinstance(error, DatabaseUnavailable | DatabaseTimeout)
                await asyncio.sleep(0.2)
            else:
                raise AssertionError("the cluster does not come back")


@pytest.fixture(scope="module")
async def stage(migrated: TestDatabase) -> AsyncIterator[Stage]:
    settings = Settings(pool_size=6, command_timeout=12, statement_timeout=10, pool_timeout=30)
    owner: Any = await connect(migrated.owner)
    place = (await nodes(owner))[0]
    async with Database(**migrated.urls, settings=settings) as db, Proxy(place) as proxy:
        before = ("127.0.0.1", proxy.port)
        await owner.execute(LEAD.format(at=place, to=before))
        yield Stage(db, migrated, proxy, on_worker(migrated, place))
        proxy.mode = "pass"
        await owner.execute(LEAD.format(at=before, to=place))
    await owner.close()


class TestLostAnswers:
    async def test_a_commit_that_a_worker_did_not_acknowledge_is_unknown_and_repeated_once(self, stage: Stage) -> None:
        behind, _ = await stage.projects("lost")
        seen = await lose_commits(stage.db, stage.proxy, behind, acks=8, requests=8, at_once=4)
        assert (seen.writes, seen.outcome_unknown, seen.rows, seen.stored_before_the_repetition) == (16, 16, 16, 8)

    async def test_the_unit_says_so_and_the_row_is_there(self, stage: Stage) -> None:
        behind, _ = await stage.projects("unknown")
        stage.proxy.mode, stage.proxy.armed = "lost_ack", 1
        unit = stage.db.project(behind)
        with pytest.raises(OutcomeUnknown):
            async with unit as session:
                row = await repos.qa_tickets.create(session, a_ticket())
        stage.proxy.mode, stage.proxy.armed = "pass", 1_000_000_000
        assert unit.outcome == "outcome unknown"
        async with stage.db.project(behind) as session:
            assert (await repos.qa_tickets.get(session, row.id)).id == row.id

    async def test_connections_that_break_between_units_are_replaced(self, stage: Stage) -> None:
        behind, _ = await stage.projects("broken")
        for _ in range(5):
            stage.proxy.break_all()
            await until_spent(stage.db, behind, "one")
            stage.proxy.break_all()
            await stage.serves(behind)
        assert await keys_of(stage.db, behind) == ["one"]

    async def test_a_worker_that_says_nothing_holds_up_nobody_else(self, stage: Stage, migrated: TestDatabase) -> None:
        behind, beside = await stage.projects("silent")
        settings = Settings(pool_size=4, command_timeout=10, statement_timeout=6)
        async with Database(**migrated.urls, settings=settings) as db:
            for project in (behind, beside):
                await spend(db, project, "first")
            stage.proxy.mode = "blackhole"
            assert isinstance(await raised(spend(db, behind, "lost")), DatabaseTimeout | DatabaseUnavailable)
            await spend(db, beside, "second")
            stage.proxy.mode = "pass"
            stage.proxy.break_all()
            await stage.serves(behind)
            await until_spent(db, behind, "lost")
        assert sorted(await keys_of(stage.db, behind)) == ["first", "lost"]


class TestKilledWorker:
    async def test_nothing_acknowledged_is_lost_and_nothing_is_half(self, stage: Stage) -> None:
        behind, beside = await stage.projects("killed")
        async with Traffic(stage.db, behind, writers=3) as hit, Traffic(stage.db, beside, writers=1) as spared:
            for _ in range(2):
                await hit.until_more(5, seconds=60)
                administrator: Any = await connect(stage.worker)
                with pytest.raises((*DriverError, OSError)):
                    await administrator.execute(KILL)
                administrator.terminate()
                await spared.until_more(2, seconds=60)
            await hit.until_more(5, seconds=60)
        await stage.serves(behind, beside)
        await hit.check()
        await spared.check()
        assert hit.refused + len(hit.unknown) > 0
        assert spared.refused + len(spared.unknown) == 0


class TestMovedShards:
    @pytest.mark.parametrize("mode", ["block_writes", "force_logical"])
    async def test_a_project_moves_to_another_worker_while_it_is_written(self, stage: Stage, owner: Any, mode: str) -> None:
        behind, beside = await stage.projects(f"moved-{mode[:5]}")
        begin, end = await place_of(stage.database, behind), await place_of(stage.database, beside)
        async with Traffic(stage.db, behind, writers=3) as traffic:
            await traffic.until_more(5, seconds=60)
            await owner.fetchval(MOVE, behind, *begin, *end, mode, timeout=300)
            await traffic.until_more(5, seconds=60)
        assert await place_of(stage.database, behind) == end
        await traffic.check()
        assert traffic.unknown == set()
        assert await unfenced_shards(owner, ScopeForm.SHARDED) == []
        async with stage.db.project(beside) as session:
            found = await session.sql.execute(sa.text("SELECT DISTINCT id FROM public.projects"))
            assert found.scalars().all() == [beside]

    async def test_the_rebalancer_evens_the_shards_out_while_their_projects_are_written(self, stage: Stage, owner: Any) -> None:
        behind, beside = await stage.projects("rebalanced")
        begin, end = await place_of(stage.database, behind), await place_of(stage.database, beside)
        await owner.fetchval(MOVE, behind, *begin, *end, "block_writes", timeout=300)
        assert len(set(await owner.fetchval(SPREAD))) > 1
        async with Traffic(stage.db, behind, writers=2) as one, Traffic(stage.db, beside, writers=2) as other:
            await one.until_more(3, seconds=60)
            await owner.execute("SELECT citus_rebalance_start(shard_transfer_mode => 'block_writes')")
            await owner.execute("SELECT citus_rebalance_wait()", timeout=300)
            for traffic in (one, other):
                await traffic.until_more(3, seconds=60)
        assert len(set(await owner.fetchval(SPREAD))) == 1
        for traffic in (one, other):
            await traffic.check()
            assert traffic.unknown == set()
        assert await unfenced_shards(owner, ScopeForm.SHARDED) == []


async def nodes(owner: Any) -> list[tuple[str, int]]:
    """The workers, as the coordinator knows them."""
    rows = await owner.fetch("SELECT nodename, nodeport FROM pg_dist_node WHERE shouldhaveshards ORDER BY groupid")
    return [(row["nodename"], row["nodeport"]) for row in rows]
