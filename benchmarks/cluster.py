"""`python -m benchmarks.cluster`: units of work on a Citus cluster, beside the same on one node.

DERWIN_TEST_CITUS_URL names the coordinator, as an administrator; the one node is another database on that very server.
One caller, by turns: what counts is the best round of each, since what else a machine does only makes things slower.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from derwin_db import Database, repos
from derwin_db.models import QATicketUpdate
from derwin_db.settings import ConnectionInfo, Settings
from derwin_db.testing import TestDatabase, TestServer, factories
from derwin_db.testing.server import TestCluster

SIGNALS = 5_000
GOALS = {"get": 0.7, "list 50": 0.8, "insert": 0.85, "ingest 5,000": 0.6}


@dataclass(frozen=True)
class Place:
    """A project of 200 tickets and 200 entries, on the cluster or on the one node."""

    db: Database
    project: UUID
    ticket: UUID
    run: UUID
    embedding: list[float]


Unit = Callable[[Place, str], Awaitable[Any]]


async def _get(place: Place, _round: str) -> None:
    async with place.db.project(place.project) as session:
        await repos.qa_tickets.get(session, place.ticket)


async def _list(place: Place, _round: str) -> None:
    async with place.db.project(place.project) as session:
        await repos.qa_tickets.list(session, limit=50)


async def _insert(place: Place, _round: str) -> None:
    async with place.db.project(place.project) as session:
        await repos.qa_tickets.create(session, factories.ticket())


async def _update(place: Place, _round: str) -> None:
    async with place.db.project(place.project) as session:
        await repos.qa_tickets.update(session, place.ticket, QATicketUpdate(title="changed"))


async def _search(place: Place, _round: str) -> None:
    async with place.db.project(place.project) as session:
        await repos.rag_corpus.search(session, place.embedding, limit=10)


async def _ingest(place: Place, name: str) -> None:
    signals = [factories.signal(fingerprint=f"{name}-{number}") for number in range(SIGNALS)]
    async with place.db.project(place.project) as session:
        await repos.raw_signals.ingest(session, place.run, signals)


UNITS: dict[str, tuple[Unit, int]] = {
    "get": (_get, 40),
    "list 50": (_list, 20),
    "insert": (_insert, 20),
    "update": (_update, 20),
    "search": (_search, 20),
    "ingest 5,000": (_ingest, 1),
}
"""Each with how often it runs in a round."""


@asynccontextmanager
async def _placed(database: TestDatabase) -> AsyncIterator[Place]:
    async with Database(**database.urls, settings=Settings(pool_size=2)) as db:
        async with db.admin(reason="a benchmark") as admin:
            project = (await repos.projects.create(admin, factories.project())).id
        async with db.project(project) as session:
            await repos.qa_tickets.create_many(session, [factories.ticket() for _ in range(200)])
            fixes = [factories.past_fix() for _ in range(200)]
            await repos.rag_corpus.add_many(session, fixes)
            run = await repos.qa_runs.enqueue(session, factories.run())
            ticket = (await repos.qa_tickets.list(session, limit=1)).items[0]
        embedding = [float(number) for number in fixes[0].embedding or []]
        yield Place(db, project, ticket.id, run.id, embedding)


async def _seconds(unit: Unit, place: Place, name: str, times: int) -> float:
    """Return how long the fastest of so many units takes."""
    best = float("inf")
    for number in range(times):
        began = time.perf_counter()
        await unit(place, f"{name}-{number}")
        best = min(best, time.perf_counter() - began)
    return best


async def measure(databases: dict[str, TestDatabase], rounds: int) -> dict[str, Any]:
    """Return milliseconds of each unit at each place, and the share of the one node's speed that the cluster has."""
    best: dict[str, dict[str, float]] = {name: {} for name in UNITS}
    async with AsyncExitStack() as stack:
        places = {name: await stack.enter_async_context(_placed(database)) for name, database in databases.items()}
        for number in range(rounds + 1):
            for name, (unit, times) in UNITS.items():
                for where, place in places.items():
                    taken = await _seconds(unit, place, f"{where}-{number}", times)
                    if number:  # in the first round statements are prepared and connections made
                        best[name][where] = min(best[name].get(where, taken), taken)
    return {
        name: {
            **{where: round(seconds * 1000, 2) for where, seconds in taken.items()},
            "share": round(taken["one node"] / taken["cluster"], 2),
        }
        for name, taken in best.items()
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="how often each is measured (default 8)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON instead of a table")
    options = parser.parse_args()
    url = os.environ.get("DERWIN_TEST_CITUS_URL")
    if url is None:
        print("DERWIN_TEST_CITUS_URL has to name the coordinator of a cluster, as an administrator.", file=sys.stderr)
        return 2
    logging.disable(logging.WARNING)
    owner = ConnectionInfo.parse(url, name="DERWIN_TEST_CITUS_URL")
    cluster, node = TestCluster(owner), TestServer(owner)
    try:
        found = asyncio.run(measure({"one node": node.migrated(), "cluster": cluster.migrated()}, options.rounds))
    finally:
        cluster.close()
        node.close()
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"{'':16}{'one node':>12}{'cluster':>12}{'share':>9}{'goal':>9}")
    for name, one in found.items():
        print(f"{name:16}{one['one node']:>9.2f} ms{one['cluster']:>9.2f} ms{one['share']:>9.2f}{GOALS.get(name, ''):>9}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
