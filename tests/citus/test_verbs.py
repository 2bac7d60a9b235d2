"""Every verb on a cluster, for projects on different workers: the same outcome as on one node, and counts that are true."""

from typing import Any

import pytest

from derwin_db import Database, repos
from derwin_db.errors import DerwinError
from derwin_db.testing import TestDatabase
from tests.citus.conftest import Neighbours, apart
from tests.contract.verbs import ADMIN_CALLS, PROJECT_CALLS, Call
from tests.repos.filling import REPOSITORIES
from tests.repos.rows import a_charge, a_fix, a_run, a_signal, a_ticket

OVER_ALL = "audit_artifacts.prune_expired of all projects"


class TestVerbs:
    @pytest.mark.parametrize("call", PROJECT_CALLS, ids=str)
    async def test_of_a_project(self, db: Database, migrated: TestDatabase, call: Call, request: Any) -> None:
        prefix = f"v{PROJECT_CALLS.index(call)}"
        for project in await apart(db, migrated, prefix):
            async with db.project(project) as session:
                made = await call.prepare(session)
            async with db.project(project) as session:
                await call.run(session, made)

    @pytest.mark.parametrize("call", [call for call in ADMIN_CALLS if str(call) != OVER_ALL], ids=str)
    async def test_of_the_admin_door(self, db: Database, migrated: TestDatabase, call: Call) -> None:
        one, _ = await apart(db, migrated, f"a{ADMIN_CALLS.index(call)}")
        async with db.admin(reason="a test") as admin:
            await call.run(admin, one)

    async def test_one_sweep_over_all_projects_is_refused_and_project_by_project_works(self, db: Database) -> None:
        """Rows of several shards can't be locked in one statement: `Database.prune` takes them project by project."""
        call = next(call for call in ADMIN_CALLS if str(call) == OVER_ALL)
        with pytest.raises(DerwinError):
            async with db.admin(reason="a test") as admin:
                await call.run(admin, None)
        assert (await db.prune()).remaining == 0

    @pytest.mark.parametrize("table", REPOSITORIES)
    async def test_reads_with_every_filter(self, neighbours: Neighbours, table: str) -> None:
        repo = REPOSITORIES[table]
        for project in (neighbours.one, neighbours.other):
            async with neighbours.db.project(project, read_only=True) as session:
                row = (await repo.list(session, limit=1)).items[0]
                names = [name for name in repo.filters.__annotations__ if getattr(row, name, None) is not None]
                for filters in ({}, *({name: getattr(row, name)} for name in names)):
                    total = await repo.count(session, **filters)
                    assert total >= 1
                    assert len([item async for item in repo.stream(session, **filters)]) == total


class TestCounts:
    async def test_of_ingest_and_bulk_writes(self, db: Database, migrated: TestDatabase) -> None:
        for project in await apart(db, migrated, "counts"):
            async with db.project(project) as session:
                run = await repos.qa_runs.enqueue(session, a_run())
                signals = [a_signal(f"f{number % 900}") for number in range(1000)]
                result = await repos.raw_signals.ingest(session, run.id, signals)
                assert (result.inserted, result.duplicates) == (900, 100)
                again = await repos.raw_signals.ingest(session, run.id, signals)
                assert (again.inserted, again.duplicates) == (0, 1000)
                assert await repos.qa_tickets.create_many(session, [a_ticket() for _ in range(300)]) == 300
                charges = [a_charge(f"k{number}") for number in range(200)]
                assert await repos.spend_ledger.append_many(session, charges) == 200
                assert await repos.spend_ledger.append_many(session, charges) == 0
                assert await repos.rag_corpus.add_many(session, [a_fix() for _ in range(20)]) == 20
            async with db.project(project, read_only=True) as session:
                assert await repos.raw_signals.count(session) == 900
                assert await repos.qa_tickets.count(session) == 300
                assert await repos.spend_ledger.count(session) == 200

    async def test_bulk_writes_stay_on_one_worker(self, db: Database, migrated: TestDatabase, owner: Any) -> None:
        """No two-phase commit, and no way over the coordinator: each transaction touches one node."""
        one, _ = await apart(db, migrated, "one-node")
        before = await owner.fetchval("SELECT count(*) FROM pg_dist_transaction")
        async with db.project(one) as session:
            run = await repos.qa_runs.enqueue(session, a_run())
        async with db.project(one) as session:
            await repos.raw_signals.ingest(session, run.id, [a_signal(f"g{number}") for number in range(500)])
        async with db.project(one) as session:
            await repos.qa_tickets.create_many(session, [a_ticket() for _ in range(100)])
        assert await owner.fetchval("SELECT count(*) FROM pg_dist_transaction") == before
