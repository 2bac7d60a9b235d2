"""`python -m benchmarks.capacity`: what one unit of work takes of a core, on both sides of the wire. Two minutes.

Processor time is counted, not only passed: it says how many units a core carries even where others use the machine. Then the
same through PgBouncer in transaction mode (if the program is there), and what a connection keeps of the server's memory.
"""

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.data import Size, Workload, load
from benchmarks.peers.base import new_signals, new_ticket
from benchmarks.server import bench_server, connect
from derwin_db import Database, repos
from derwin_db.models import QATicketCreate, RawSignalCreate
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase
from tests.pgbouncer import PROGRAM, Pooler

OUT = Path(__file__).resolve().parent / "out"
SIZE = Size(projects=100, tickets=100_000, signals=100_000, entries=10_000, vectors=0)
BULK = 1000

Unit = Callable[[int], Awaitable[Any]]


def units(db: Database, workload: Workload) -> dict[str, Unit]:
    """Return the operations; each call is of another project."""
    rows = [RawSignalCreate(**row) for row in new_signals(BULK)]

    async def get(number: int) -> None:
        project_id, ticket_id = workload.targets[number % len(workload.targets)]
        async with db.project(project_id, read_only=True) as session:
            await repos.qa_tickets.get(session, ticket_id)

    async def page(number: int) -> None:
        async with db.project(workload.projects[number % len(workload.projects)], read_only=True) as session:
            await repos.qa_tickets.list(session, limit=50)

    async def insert(number: int) -> None:
        async with db.project(workload.projects[number % len(workload.projects)]) as session:
            await repos.qa_tickets.create(session, QATicketCreate(**new_ticket(number)))

    async def ingest(number: int) -> None:
        project_id = workload.projects[number % len(workload.projects)]
        fresh = [row.model_copy(update={"fingerprint": f"{number}-{n}"}) for n, row in enumerate(rows)]
        async with db.project(project_id) as session:
            await repos.raw_signals.ingest(session, workload.runs[project_id], fresh)

    return {"get": get, "list 50": page, "insert": insert, f"ingest {BULK}": ingest}


async def backends(database: TestDatabase) -> list[psutil.Process]:
    """Return the server's processes of the service's login."""
    owner = await connect(database.owner)
    try:
        rows = await owner.fetch("SELECT pid FROM pg_stat_activity WHERE usename = $1", database.service.user)
    finally:
        await owner.close()
    return [psutil.Process(row["pid"]) for row in rows]


def spent(processes: list[psutil.Process]) -> float:
    """Return the processor seconds of these processes."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


async def measure(database: TestDatabase, unit: Unit, callers: int, seconds: float) -> dict[str, float]:
    """Run with this many callers. Return units a second, and microseconds of each side's processor for one unit."""
    number = 0

    async def caller(until: float) -> None:
        nonlocal number
        while time.perf_counter() < until:
            number += 1
            await unit(number)

    async def run(length: float) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(caller(began + length) for _ in range(callers)))
        return time.perf_counter() - began

    await run(seconds / 4)  # connections are made, statements prepared
    processes = await backends(database)
    server, client, first = spent(processes), time.process_time(), number
    passed = await run(seconds)
    count = number - first
    return {
        "units_per_second": round(count / passed),
        "server_us": round((spent(processes) - server) / count * 1e6),
        "client_us": round((time.process_time() - client) / count * 1e6),
    }


async def run(database: TestDatabase, callers: list[int], seconds: float) -> dict[str, Any]:
    """Load, then measure directly and through the pooler."""
    workload = await load(database, SIZE, is_even=True)
    settings = Settings(_env_file=None, pool_size=max(callers), pool_timeout=60)  # type: ignore[call-arg]
    results: dict[str, Any] = {"direct": {}, "pooled": {}}
    async with Database(**database.urls, settings=settings) as db:
        for name, unit in units(db, workload).items():
            for many in callers:
                results["direct"][f"{name}, {many} callers"] = await measure(database, unit, many, seconds)
                print(name, many, results["direct"][f"{name}, {many} callers"], file=sys.stderr)
        kept = [process.memory_full_info().uss for process in await backends(database)]
        results["bytes_of_a_connection"] = round(sum(kept) / len(kept))
    if PROGRAM is not None:
        pooler = Pooler.of(database, size=4)
        pooler.start()
        try:
            led = replace(database, service=pooler.declared(database.service))
            async with Database(**led.urls, settings=settings) as db:
                for name, unit in units(db, workload).items():
                    results["pooled"][name] = await measure(database, unit, 16, seconds)
                    print(name, "pooled", results["pooled"][name], file=sys.stderr)
        finally:
            pooler.remove()
    return results


def main() -> int:
    """Run, and write benchmarks/out/capacity.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with bench_server() as server:
        results = asyncio.run(run(server.migrated(), options.callers, options.seconds))
    OUT.mkdir(exist_ok=True)
    (OUT / "capacity.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
