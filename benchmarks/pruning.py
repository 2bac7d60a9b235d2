"""`python -m benchmarks.pruning`: expired artifacts of all projects are pruned while another process serves.

Prints the longest statement of the sweep, and the service's 99th percentile before and meanwhile. Goals: 1 s; twice as long.
"""

import argparse
import asyncio
import json
import logging
import random
import statistics
import sys
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

from benchmarks.churn import _ARTIFACTS, PROJECTS, Churn
from benchmarks.server import bench_database
from derwin_db import Database, repos
from derwin_db.observe.events import Call, Observer, UnitObserver
from derwin_db.testing import TestDatabase

_CALLERS = 4
_PAUSE_SECONDS = 0.004
_BEFORE_SECONDS = 10


class Longest(Observer, UnitObserver):
    """Remembers how long the longest statement took, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def entered(self, _project_id: UUID | None) -> UnitObserver:
        return self

    def ran(self, call: Call) -> None:
        self.seconds[call.name] = max(call.seconds, self.seconds.get(call.name, 0))


def main() -> int:
    """Run, print the result as JSON, and return 0 where both goals are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pruning", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with bench_database() as database, ProcessPoolExecutor(1) as elsewhere:
        result = asyncio.run(_measure(database, options.rows, elsewhere))
    print(json.dumps(result, indent=1))
    return 0 if result["is_met"] else 1


async def _measure(database: TestDatabase, rows: int, elsewhere: Executor) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    async with Database(**database.urls) as db:
        churn = Churn(database, db, rows)
        await churn.found()
        await churn.owner(_ARTIFACTS, churn.projects, rows // PROJECTS, timedelta(days=-1))
        await churn.owner("ANALYZE")
        before = await loop.run_in_executor(elsewhere, _live, database.urls, churn.projects, _BEFORE_SECONDS)
        longest = Longest()
        db.observers.append(longest)
        live = loop.run_in_executor(elsewhere, _live, database.urls, churn.projects, 2 + rows / 25_000)
        await asyncio.sleep(1)
        began = time.time()
        result = await db.prune()
        ended = time.time()
        meanwhile = [sample for sample in await live if began <= sample[0] <= ended]
    p99 = {"before": _p99(before), "meanwhile": _p99(meanwhile)}
    slowest = max(longest.seconds.items(), key=lambda item: item[1])
    return {
        "rows": result.pruned,
        "seconds": round(ended - began, 1),
        "longest_statement": {"name": slowest[0], "seconds": round(slowest[1], 3)},
        "live_units": {"before": len(before), "meanwhile": len(meanwhile)},
        "live_p99_milliseconds": {name: round(value * 1000, 2) for name, value in p99.items()},
        "is_met": slowest[1] <= 1 and p99["meanwhile"] <= 2 * p99["before"],
    }


def _p99(samples: list[tuple[float, float]]) -> float:
    return statistics.quantiles([seconds for _, seconds in samples], n=100)[98]


def _live(urls: dict[str, str], projects: list[UUID], seconds: float) -> list[tuple[float, float]]:
    """Read one ticket a unit of work, by a few callers with pauses. Return when each unit began, and how long it took."""
    return asyncio.run(_serve(urls, projects, seconds))


async def _serve(urls: dict[str, str], projects: list[UUID], seconds: float) -> list[tuple[float, float]]:
    taken: list[tuple[float, float]] = []
    until = time.perf_counter() + seconds

    async def caller(db: Database) -> None:
        while time.perf_counter() < until:
            project_id = random.choice(projects)
            at, began = time.time(), time.perf_counter()
            async with db.project(project_id) as session:
                await repos.qa_tickets.get(session, project_id)
            taken.append((at, time.perf_counter() - began))
            await asyncio.sleep(_PAUSE_SECONDS)

    async with Database(**urls) as db:
        await asyncio.gather(*(caller(db) for _ in range(_CALLERS)))
    return taken


if __name__ == "__main__":
    sys.exit(main())
