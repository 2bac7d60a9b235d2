"""Many tasks over the pool at once, each in a unit of work of its own: what must hold in every interleaving."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import BudgetExceeded, Conflict
from derwin_db.models import (
    Project,
    ProjectMode,
    RunStatus,
    SpendCap,
)
from tests.repos.conftest import AtOnce, kinds
from tests.repos.rows import a_charge, a_doc, a_policy, a_run, a_ticket, signals
from tests.repos.test_projects import a_project


class TestProjects:
    async def test_writers_of_one_slug_make_one_project(self, db: Database) -> None:
        data = a_project()

        async def create() -> Any:
            try:
                async with db.admin(reason="a race") as admin:
                    return await repos.projects.create(admin, data)
            except Conflict as error:
                return error

        results = await asyncio.gather(*(create() for _ in range(20)))
        assert kinds(results) == {"Project": 1, "Conflict": 19}

    async def test_changes_of_the_mode_are_logged_as_a_chain(self, db: Database, project: Project, at_once: AtOnce) -> None:
        async def change(session: ProjectSession, mode: ProjectMode) -> None:
            await repos.projects.set_mode(session, mode, actor="ada", reason="a race")

        await at_once(change, *((mode,) for mode in list(ProjectMode) * 6))
        async with db.project(project.id) as session:
            entries = [row async for row in repos.project_mode_logs.stream(session)]
            assert (await repos.projects.current(session)).mode is entries[0].to_mode
        assert [row.from_mode for row in entries] == [*(row.to_mode for row in entries[1:]), None]
        assert len({row.created_at for row in entries}) == len(entries)


class TestDocuments:
    async def test_writers_of_one_content_get_one_row(self, db: Database, project: Project, at_once: AtOnce) -> None:
        results = await at_once(repos.ingested_docs.ingest, *((a_doc(),) for _ in range(20)))
        assert len({row.id for row in results}) == 1
        async with db.project(project.id) as session:
            assert await repos.ingested_docs.count(session) == 1

    async def test_writers_and_a_deleter_get_rows_or_say_so(self, db: Database, project: Project, at_once: AtOnce) -> None:
        async def write_and_delete(session: ProjectSession) -> None:
            row = await repos.ingested_docs.ingest(session, a_doc())
            await repos.ingested_docs.delete(session, row.id)

        results = await at_once(write_and_delete, *(() for _ in range(20)))
        assert set(kinds(results)) <= {"NoneType", "NotFound", "Conflict"}
        assert kinds(results)["NoneType"] > 0


class TestRuns:
    async def test_each_has_one_owner(self, db: Database, project: Project, at_once: AtOnce) -> None:
        async with db.project(project.id) as session:
            ids = {(await repos.qa_runs.enqueue(session, a_run())).id for _ in range(10)}
        results = await at_once(repos.qa_runs.claim, *((f"w{n}",) for n in range(20)))
        claimed = [row for row in results if row is not None]
        assert {row.id for row in claimed} == ids
        assert len(claimed) == len({row.claimed_by for row in claimed}) == 10
        async with db.project(project.id) as session:
            rows = (await repos.qa_runs.list(session)).items
        assert {(row.id, row.claimed_by) for row in rows} == {(row.id, row.claimed_by) for row in claimed}

    async def test_a_run_ends_once(self, db: Database, project: Project, at_once: AtOnce) -> None:
        async with db.project(project.id) as session:
            run = await repos.qa_runs.enqueue(session, a_run())
            await repos.qa_runs.claim(session, "w")

        async def end(session: ProjectSession, n: int) -> Any:
            if n % 2:
                return await repos.qa_runs.cancel(session, run.id)
            return await repos.qa_runs.fail(session, run.id, "no", worker="w")

        assert kinds(await at_once(end, *((n,) for n in range(20)))) == {"QARun": 1, "IllegalTransition": 19}

    async def test_a_stalled_run_is_claimed_by_one_after_all(self, db: Database, project: Project, at_once: AtOnce) -> None:
        async with db.project(project.id) as session:
            run = await repos.qa_runs.enqueue(session, a_run())
            await repos.qa_runs.claim(session, "dead")

        async def sweep_and_claim(session: ProjectSession, worker: str) -> Any:
            await repos.qa_runs.requeue_stalled(session, older_than=timedelta(microseconds=1))
            row = await repos.qa_runs.claim(session, worker)
            await asyncio.sleep(0.001)
            return row if row is None else await repos.qa_runs.heartbeat(session, row.id, worker=worker)

        results = await at_once(sweep_and_claim, *((f"w{n}",) for n in range(10)))
        assert any(row is not None for row in results)
        async with db.project(project.id) as session:
            row = await repos.qa_runs.get(session, run.id)
        assert row.status is RunStatus.RUNNING
        assert row.claimed_by != "dead"


class TestSignals:
    async def test_bulk_in_opposite_orders_does_not_deadlock(self, db: Database, project: Project, at_once: AtOnce) -> None:
        async with db.project(project.id) as session:
            run = await repos.qa_runs.enqueue(session, a_run())
        rows = signals(*(f"{n}" for n in range(3000)))
        orders = [rows, rows[::-1], rows[1500:] + rows[:1500], rows[::-1]]
        results = await at_once(repos.raw_signals.ingest, *((run.id, iter(order)) for order in orders))
        assert sum(result.inserted for result in results) == 3000
        assert sum(result.duplicates for result in results) == 9000
        async with db.project(project.id) as session:
            assert await repos.raw_signals.count(session) == 3000

    async def test_triage_in_opposite_orders_does_not_deadlock(self, db: Database, project: Project, at_once: AtOnce) -> None:
        async with db.project(project.id) as session:
            run = await repos.qa_runs.enqueue(session, a_run())
            await repos.raw_signals.ingest(session, run.id, signals(*(f"{n}" for n in range(300))))
            ids = [row.id async for row in repos.raw_signals.stream(session)]
            tickets = [(await repos.qa_tickets.create(session, a_ticket())).id for _ in range(10)]
        calls = [(ids[:: -1 if n % 2 else 1], ticket) for n, ticket in enumerate(tickets)]
        assert await at_once(repos.raw_signals.attach, *calls) == [300] * 10
        async with db.project(project.id) as session:
            assert len({row.ticket_id async for row in repos.raw_signals.stream(session)}) == 1


class TestPolicies:
    async def test_exactly_one_is_active(self, db: Database, project: Project, at_once: AtOnce) -> None:
        results = await at_once(repos.policies.activate, *((a_policy(note=f"{n}"),) for n in range(32)))
        assert sorted(row.version for row in results) == list(range(1, 33))
        async with db.project(project.id) as session:
            active = [row async for row in repos.policies.stream(session) if row.is_active]
            assert active == [await repos.policies.active(session)]
        assert active[0].version == 32


class TestLedger:
    async def test_a_cap_is_never_passed(self, db: Database, project: Project, at_once: AtOnce) -> None:
        cap = SpendCap(Decimal(100), timedelta(days=1))

        async def append(session: ProjectSession, key: str) -> Any:
            return await repos.spend_ledger.append(session, a_charge(key, "7"), cap=cap)

        async def watch() -> Decimal:
            most = Decimal(0)
            while not writing.done():
                async with db.project(project.id, read_only=True) as session:
                    most = max(most, await repos.spend_ledger.total(session))
            return most

        writing = asyncio.ensure_future(at_once(append, *((f"{n}",) for n in range(100))))
        most, results = await asyncio.gather(watch(), writing)
        assert kinds(results) == {"SpendLedger": 14, "BudgetExceeded": 86}
        assert most <= 98
        async with db.project(project.id) as session:
            assert await repos.spend_ledger.total(session) == 98
        assert any(isinstance(result, BudgetExceeded) for result in results)

    @pytest.mark.parametrize("cap", [None, SpendCap(Decimal(2), timedelta(days=1))], ids=["uncapped", "capped"])
    async def test_one_key_is_one_entry(self, db: Database, project: Project, at_once: AtOnce, cap: SpendCap | None) -> None:
        async def append(session: ProjectSession, amount: str) -> Any:
            return await repos.spend_ledger.append(session, a_charge("key", amount), cap=cap)

        results = await at_once(append, *(("1.5" if n % 4 else "1.25",) for n in range(20)))
        async with db.project(project.id) as session:
            (stored,) = [row async for row in repos.spend_ledger.stream(session)]
        same = [row for row in results if row == stored]
        assert len(same) in {5, 15}
        assert kinds(results) == {"SpendLedger": len(same), "Conflict": 20 - len(same)}

    async def test_bulk_in_opposite_orders_does_not_deadlock(self, db: Database, project: Project, at_once: AtOnce) -> None:
        rows = [a_charge(f"{n}", "0.01") for n in range(400)]
        results = await at_once(repos.spend_ledger.append_many, *((rows[:: -1 if n % 2 else 1],) for n in range(8)))
        assert sum(results) == 400
        async with db.project(project.id) as session:
            assert await repos.spend_ledger.total(session) == 4


class TestConnections:
    async def test_none_is_left_behind(self, db: Database, at_once: AtOnce) -> None:
        await at_once(repos.qa_tickets.count, *(() for _ in range(40)))
        assert db.connections_in_use() == 0
