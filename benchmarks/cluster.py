"""`python -m benchmarks.cluster`: units of work on a Citus cluster, beside the same on one node.

DERWIN_TEST_CITUS_URL names the coordinator, as an administrator; the one node is another database on that very server.
"By hand" are the same statements by the driver alone, prepared, on a copy of the table without policies, triggers and foreign
keys: what Citus itself takes, and no unit of work can be without.
One caller, by turns: what counts is the best round of each, since what else a machine does only makes things slower. Beside the
elapsed time stands the processor's, of the caller and of all sessions of the database on this machine: other work changes it
less.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from derwin_db import Database, repos
from derwin_db.models import QATicket, QATicketUpdate
from derwin_db.query.builders import table_of
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
    database: str
    hand: Any
    """The driver's connection of the service's login."""
    row: dict[str, Any]
    """A ticket as it is stored."""


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


_COLUMNS = [column.name for column in table_of(QATicket).c]
_NAMES = ", ".join(_COLUMNS)
_PLAIN = """
CREATE SCHEMA plain;
CREATE TABLE plain.qa_tickets (LIKE public.qa_tickets INCLUDING INDEXES);
ALTER TABLE plain.qa_tickets DROP COLUMN words;
GRANT USAGE ON SCHEMA plain TO {login};
GRANT SELECT, INSERT ON plain.qa_tickets TO {login};
"""
_DISTRIBUTED = "SELECT create_distributed_table('plain.qa_tickets', 'project_id')"
_FILL = f"INSERT INTO plain.qa_tickets ({_NAMES}) SELECT {_NAMES} FROM public.qa_tickets WHERE project_id = $1"
_ONE = f"SELECT {_NAMES} FROM plain.qa_tickets WHERE project_id = $1 AND id = $2"
_PAGE = f"SELECT {_NAMES} FROM plain.qa_tickets WHERE project_id = $1 ORDER BY created_at DESC, id DESC LIMIT 51"
_NUMBERS = ", ".join(f"${number}" for number in range(1, len(_COLUMNS) + 1))
_ADD = f"INSERT INTO plain.qa_tickets ({_NAMES}) VALUES ({_NUMBERS}) RETURNING {_NAMES}"


async def _get_by_hand(place: Place, _round: str) -> None:
    await place.hand.fetch(_ONE, place.project, place.ticket)


async def _list_by_hand(place: Place, _round: str) -> None:
    await place.hand.fetch(_PAGE, place.project)


async def _insert_by_hand(place: Place, _round: str) -> None:
    await place.hand.execute("BEGIN")
    await place.hand.fetch(_ADD, *(uuid4() if name == "id" else value for name, value in place.row.items()))
    await place.hand.execute("COMMIT")


UNITS: dict[str, tuple[Unit, int]] = {
    "get": (_get, 40),
    "list 50": (_list, 20),
    "insert": (_insert, 20),
    "update": (_update, 20),
    "search": (_search, 20),
    "ingest 5,000": (_ingest, 1),
    "get by hand": (_get_by_hand, 40),
    "list 50 by hand": (_list_by_hand, 20),
    "insert by hand": (_insert_by_hand, 20),
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
        await _copy_to_plain(database, project)
        hand = await asyncpg.connect(**database.service.connect_arguments())
        try:
            row = dict(await hand.fetchrow(_ONE, project, ticket.id) or {})
            yield Place(db, project, ticket.id, run.id, embedding, database.owner.database, hand, row)
        finally:
            await hand.close()


async def _copy_to_plain(database: TestDatabase, project: UUID) -> None:
    owner = await asyncpg.connect(**database.owner.connect_arguments())
    try:
        await owner.execute(_PLAIN.format(login=database.service.user))
        if await owner.fetchval("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')"):
            await owner.execute(_DISTRIBUTED)
        await owner.execute(_FILL, project)
        await owner.execute("ANALYZE plain.qa_tickets")
    finally:
        await owner.close()


def _used(database: str) -> dict[str, int]:
    """Return the nanoseconds that each session of the database on this machine has had of a processor."""
    used = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            title = (folder / "cmdline").read_text()
            if title.startswith("postgres:") and f" {database} " in title:
                used[folder.name] = int((folder / "schedstat").read_text().split()[0])
    return used


async def _seconds(unit: Unit, place: Place, name: str, times: int) -> tuple[float, float]:
    """Return how long the fastest of so many units takes, and how much processor time one of them takes."""
    best, before, own = float("inf"), _used(place.database), time.process_time_ns()
    for number in range(times):
        began = time.perf_counter()
        await unit(place, f"{name}-{number}")
        best = min(best, time.perf_counter() - began)
    own = time.process_time_ns() - own
    servers = sum(used - before.get(process, 0) for process, used in _used(place.database).items())
    return best, (own + servers) / times / 1e9


async def measure(databases: dict[str, TestDatabase], rounds: int) -> dict[str, Any]:
    """Return milliseconds of each unit at each place, and the share of the one node's speed that the cluster has."""
    best: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in UNITS}
    async with AsyncExitStack() as stack:
        places = {name: await stack.enter_async_context(_placed(database)) for name, database in databases.items()}
        for number in range(rounds + 1):
            for name, (unit, times) in UNITS.items():
                for where, place in places.items():
                    taken = await _seconds(unit, place, f"{where}-{number}", times)
                    if number:  # in the first round statements are prepared and connections made
                        elapsed, used = best[name].get(where, taken)
                        best[name][where] = min(elapsed, taken[0]), min(used, taken[1])
    return {name: _figures(taken) for name, taken in best.items()}


def _figures(taken: dict[str, tuple[float, float]]) -> dict[str, float]:
    node, cluster = taken["one node"], taken["cluster"]
    return {
        **{where: round(elapsed * 1000, 2) for where, (elapsed, _) in taken.items()},
        "share": round(node[0] / cluster[0], 2),
        **{f"processor, {where}": round(used * 1000, 2) for where, (_, used) in taken.items()},
        "share of processor": round(node[1] / cluster[1], 2),
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
    heads = ("one node", "cluster", "share", "processor, one node", "processor, cluster", "share of processor")
    print(f"{'':18}" + "".join(f"{head:>{len(head) + 3}}" for head in (*heads, "goal")))
    for name, one in found.items():
        figures = "".join(f"{one[head]:>{len(head) + 3}.2f}" for head in heads)
        print(f"{name:18}{figures}{GOALS.get(name, ''):>7}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
