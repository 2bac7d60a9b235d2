"""`python -m benchmarks.memory`: memory of a service that ingests 1,000,000 signals from a generator, then streams over them.

Prints the highest resident memory of this process above what it has when idle, in megabytes, and the time of each.
"""

import argparse
import asyncio
import gc
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from benchmarks.server import bench_database
from derwin_db import Database, repos
from derwin_db.models import ProjectCreate, QARunCreate, RawSignalCreate
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase

OUT = Path(__file__).resolve().parent / "out"
GOAL_MEGABYTES = 100
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> float:
    """Return the resident memory of this process in megabytes. Source: Linux, proc(5)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE / 1e6


class Watch:
    """Looks at the resident memory every 10 ms, from a thread of its own."""

    def __enter__(self) -> Self:
        gc.collect()
        self.idle = self.highest = resident()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(0.01):
            self.highest = max(self.highest, resident())


def signals(count: int) -> Iterator[RawSignalCreate]:
    """Yield signals as a crawler finds them, one by one."""
    now = datetime.now(UTC)
    for number in range(count):
        yield RawSignalCreate(
            route="E2E_CRAWL",
            title=f"Console error {number}",
            fingerprint=f"{number * 2654435761 % 2**32:032x}",
            confidence=0.5,
            payload={"url": f"https://app.example.com/invoices/{number}", "status": 500},
            observed_at=now,
        )


async def run(database: TestDatabase, rows: int) -> dict[str, Any]:
    """Ingest, then stream; each is done in small first, so that what it needs once counts as idle."""
    # The whole of it is one unit of work, which may be longer than a service's.
    async with Database(**database.urls, settings=Settings(transaction_timeout=1800)) as db:
        async with db.admin(reason="a measurement") as admin:
            project = await repos.projects.create(admin, ProjectCreate(slug="memory", name="Memory", type="ERP"))

        async def ingest(count: int) -> int:
            async with db.project(project.id) as session:
                made = await repos.qa_runs.enqueue(session, QARunCreate(trigger="MANUAL", routes=["E2E_CRAWL"]))
                return (await repos.raw_signals.ingest(session, made.id, signals(count))).inserted

        async def stream(count: int) -> int:
            seen = 0
            async with db.project(project.id) as session:
                async for _ in repos.raw_signals.stream(session):
                    seen += 1
                    if seen == count:
                        break
            return seen

        return {"ingest": await _watched(ingest, rows), "stream": await _watched(stream, rows)}


async def _watched(work: Callable[[int], Awaitable[int]], rows: int) -> dict[str, Any]:
    await work(10_000)
    with Watch() as watch:
        began = time.perf_counter()
        assert await work(rows) == rows
        seconds = time.perf_counter() - began
    megabytes = round(watch.highest - watch.idle, 1)
    return {
        "rows": rows,
        "megabytes_above_idle": megabytes,
        "idle_megabytes": round(watch.idle, 1),
        "seconds": round(seconds, 1),
        "is_met": megabytes < GOAL_MEGABYTES,
    }


def main() -> int:
    """Run and write benchmarks/out/memory.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with bench_database() as database:
        results = asyncio.run(run(database, options.rows))
    OUT.mkdir(exist_ok=True)
    (OUT / "memory.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
