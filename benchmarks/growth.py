"""`python -m benchmarks.growth`: 10 projects and 10,000 signals against 10,000 projects and 10,000,000. Some fifteen minutes.

Two databases on one server; a project has the same rows in both, so that what differs is what the others have. Each operation
runs in both by turns, as a unit of work: the ratio of its median times, and whether the plan is the same. Then page 1,000 of
a list against page 1.
"""

import argparse
import asyncio
import json
import logging
import re
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.data import Size, Workload, load
from benchmarks.peers.base import new_signals, new_ticket
from benchmarks.server import bench_server, connect
from derwin_db import Database, ProjectSession, repos
from derwin_db.fields.scalars import project_id_of
from derwin_db.models import QATicketCreate, QATicketUpdate, RawSignalCreate, SpendLedgerCreate, TicketStatus
from derwin_db.testing import TestDatabase

OUT = Path(__file__).resolve().parent / "out"
TICKETS = 100
"""Tickets, and ledger entries, of each project in both databases."""

PROJECTS_ASKED, CALLS = 200, 60
"""How many tickets, each of another project where there are that many, are asked for in turn; calls in each round."""

Operation = Callable[[ProjectSession, UUID, UUID, int], Awaitable[Any]]
"""Takes the session, a ticket and a run of its project, and a number that no other call has."""


async def _ingest(session: ProjectSession, _ticket: UUID, run: UUID, number: int) -> Any:
    rows = [{**row, "fingerprint": f"{number}-{row['fingerprint']}"} for row in new_signals(20)]
    return await repos.raw_signals.ingest(session, run, [RawSignalCreate(**row) for row in rows])


async def _append(session: ProjectSession, _ticket: UUID, _run: UUID, number: int) -> Any:
    entry = SpendLedgerCreate(
        kind="CHARGE", source="OTHER", amount_usd="0.01", idempotency_key=f"growth-{number}", occurred_at=datetime.now(UTC)
    )
    return await repos.spend_ledger.append(session, entry)


OPERATIONS: dict[str, Operation] = {
    "qa_tickets.get": lambda s, ticket, _run, _n: repos.qa_tickets.get(s, ticket),
    "qa_tickets.list": lambda s, _ticket, _run, _n: repos.qa_tickets.list(s),
    "qa_tickets.list(status)": lambda s, _ticket, _run, _n: repos.qa_tickets.list(s, status=TicketStatus.OPEN),
    "qa_tickets.list(classification)": lambda s, _ticket, _run, _n: repos.qa_tickets.list(s, classification="ui_bug"),
    "qa_tickets.count": lambda s, _ticket, _run, _n: repos.qa_tickets.count(s),
    "qa_tickets.counts_by_status": lambda s, _ticket, _run, _n: repos.qa_tickets.counts_by_status(s),
    "qa_tickets.find_by_fingerprint": lambda s, _ticket, _run, n: repos.qa_tickets.find_by_fingerprint(s, f"{n:032x}"),
    "qa_tickets.create": lambda s, _ticket, _run, n: repos.qa_tickets.create(s, QATicketCreate(**new_ticket(n))),
    "qa_tickets.update": lambda s, ticket, _run, n: repos.qa_tickets.update(s, ticket, QATicketUpdate(title=f"title {n}")),
    "raw_signals.list": lambda s, _ticket, _run, _n: repos.raw_signals.list(s),
    "raw_signals.list(run, status)": lambda s, _ticket, run, _n: repos.raw_signals.list(s, run_id=run, status="NEW"),
    "raw_signals.pending": lambda s, _ticket, run, _n: repos.raw_signals.pending(s, run, limit=50),
    "raw_signals.count": lambda s, _ticket, _run, _n: repos.raw_signals.count(s),
    "raw_signals.ingest(20)": _ingest,
    "spend_ledger.total": lambda s, _ticket, _run, _n: repos.spend_ledger.total(
        s, since=datetime.now(UTC) - timedelta(days=30)
    ),
    "spend_ledger.append": _append,
    "projects.current": lambda s, _ticket, _run, _n: repos.projects.current(s),
}


class Side:
    """One of the two databases, opened."""

    def __init__(self, database: TestDatabase, workload: Workload, db: Database) -> None:
        self.database, self.workload, self.db = database, workload, db

    async def call(self, operation: Operation, number: int) -> float:
        """Run the operation in another project each time. Return its seconds."""
        project_id, ticket_id = self.workload.targets[number % PROJECTS_ASKED]
        began = time.perf_counter()
        async with self.db.project(project_id) as session:
            await operation(session, ticket_id, self.workload.runs[project_id], number)
        return time.perf_counter() - began

    async def plans(self, operation: Operation, number: int) -> list[str]:
        """Return the shape of the plan of every statement that the operation sends."""
        project_id, ticket_id = self.workload.targets[0]
        sent: list[Any] = []
        async with self.db.project(project_id) as session:
            connection = await session._connected()
            with connection.query_logger(sent.append):
                await operation(session, ticket_id, self.workload.runs[project_id], number)
            explained = [
                await connection.fetch(f"EXPLAIN (COSTS OFF) {one.query}", *one.args)
                for one in sent
                if one.query.startswith(("SELECT", "INSERT", "UPDATE", "WITH")) and "public." in one.query
            ]
        return [re.sub(r"'[^']*'|\d+", "?", "\n".join(line[0] for line in lines)) for lines in explained]


async def run(small: TestDatabase, large: TestDatabase, signals: int, projects: int, rounds: int) -> dict[str, Any]:
    """Load both, measure every operation, then the pages."""
    each = signals // projects
    sides = []
    for database, count in ((small, 10), (large, projects)):
        began = time.perf_counter()
        size = Size(projects=count, tickets=count * TICKETS, signals=count * each, entries=count * TICKETS, vectors=0, runs=1)
        workload = await load(database, size, is_even=True)
        _say(f"{count} projects with {each} signals each: loaded in {time.perf_counter() - began:.0f} s")
        sides.append((database, workload))
    results: dict[str, Any] = {"projects": [10, projects], "signals": [10 * each, projects * each], "operations": {}}
    async with Database(**small.urls) as db_small, Database(**large.urls) as db_large:
        left, right = Side(*sides[0], db_small), Side(*sides[1], db_large)
        for name, operation in OPERATIONS.items():
            results["operations"][name] = await _compare(left, right, operation, rounds)
            _say(f"{name:36} {results['operations'][name]}")
        results["pages"] = await _pages(right, rounds)
        _say(f"pages: {results['pages']}")
    return results


async def _compare(left: Side, right: Side, operation: Operation, rounds: int) -> dict[str, Any]:
    ratios, number = [], 0
    for turn in range(rounds + 1):
        seconds: dict[Side, list[float]] = {left: [], right: []}
        for _ in range(CALLS if turn else PROJECTS_ASKED):  # the first turn warms: every project that is asked, once
            number += 1
            for side in (left, right) if number % 2 else (right, left):
                seconds[side].append(await side.call(operation, number))
        if turn:
            ratios.append(statistics.median(seconds[right]) / statistics.median(seconds[left]))
    is_same = await left.plans(operation, 10**7) == await right.plans(operation, 10**7)
    ratio = round(statistics.median(ratios), 2)
    return {"ratio": ratio, "same_plan": is_same, "is_met": ratio <= 1.5 and is_same}


async def _pages(side: Side, rounds: int, pages: int = 1000) -> dict[str, Any]:
    """Compare page 1,000 with page 1 of a project of 55,000 tickets."""
    project_id = await _add_long_project(side.database, 55 * pages)
    cursor = None
    for _ in range(pages - 1):
        async with side.db.project(project_id) as session:
            cursor = (await repos.qa_tickets.list(session, cursor=cursor)).next_cursor
    ratios = []
    for _ in range(rounds):
        medians = []
        for place in (None, cursor):
            taken = []
            for _ in range(40):
                began = time.perf_counter()
                async with side.db.project(project_id) as session:
                    page = await repos.qa_tickets.list(session, cursor=place)
                taken.append(time.perf_counter() - began)
                assert len(page.items) == 50
            medians.append(statistics.median(taken))
        ratios.append(medians[1] / medians[0])
    ratio = round(statistics.median(ratios), 2)
    return {"page": pages, "ratio": ratio, "is_met": ratio <= 1.2}


async def _add_long_project(database: TestDatabase, tickets: int) -> UUID:
    project_id, connection = project_id_of("growth-long"), await connect(database.owner)
    try:
        insert = "INSERT INTO public.projects (id, slug, name, type) VALUES ($1, 'growth-long', 'Long', 'ERP')"
        await connection.execute(insert, project_id)
        await connection.execute(
            "INSERT INTO public.qa_tickets (project_id, created_at, title, description, steps_to_reproduce, severity, "
            "classification, confidence, risk_score) SELECT $1, now() - n * interval '1 second', 'Totals drift ' || n, "
            "repeat('The total differs from its lines. ', 9), '[]', 'HIGH', 'ui_bug', 0.5, 0.5 "
            "FROM generate_series(1, $2) AS n",
            project_id,
            tickets,
        )
        await connection.execute("VACUUM (ANALYZE) public.qa_tickets")
    finally:
        await connection.close()
    return project_id


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run and write benchmarks/out/growth.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--signals", type=int, default=10_000_000)
    parser.add_argument("--projects", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with bench_server() as server:
        results = asyncio.run(run(server.migrated(), server.migrated(), options.signals, options.projects, options.rounds))
    OUT.mkdir(exist_ok=True)
    (OUT / "growth.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
