"""`python -m benchmarks.network`: units of work behind a line that takes a millisecond each way.

One caller, one unit after the other: hand-written asyncpg without a scope, the reference (a sealed transaction by hand), and
ours. The line counts the round trips itself, so they are exact on a machine that is busy, where milliseconds are not.
"""

import argparse
import asyncio
import json
import logging
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Self

from benchmarks.data import QUICK, Workload, load
from benchmarks.peers.derwin import Derwin
from benchmarks.peers.driver import Reference, Wire
from benchmarks.server import bench_database
from derwin_db.testing import TestDatabase

Unit = Callable[[Any, Any, Any], Awaitable[Any]]
_ROUNDS, _UNITS = 8, 12


class Line:
    """Hands on between TCP and a Unix socket, each piece a while later, in its order."""

    def __init__(self, target: str, seconds: float) -> None:
        self._target = target
        self._seconds = seconds
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._asks = False
        self.turns = 0
        """How often a client has said something after the server had."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def before(self, database: TestDatabase) -> TestDatabase:
        """Return the database as it is reached over the line."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        ways = (replace(way, host="127.0.0.1", port=port, sslmode="disable") for way in (database.owner, database.service))
        owner, service = ways
        return TestDatabase(owner, service, replace(database.operator, host="127.0.0.1", port=port, sslmode="disable"))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(self._target)
        for source, sink, asks in ((reader, up_writer, True), (up_reader, writer, False)):
            task = asyncio.ensure_future(self._pump(source, sink, asks=asks))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, asks: bool) -> None:
        loop = asyncio.get_running_loop()
        while piece := await source.read(65536):
            self.turns += asks and not self._asks
            self._asks = asks
            loop.call_later(self._seconds, sink.write, piece)
        loop.call_later(self._seconds, sink.close)


UNITS: dict[str, Unit] = {
    "a read": lambda peer, project, ticket: peer.get(project, ticket),
    "a list of 50": lambda peer, project, _: peer.list(project),
    "a sum": lambda peer, project, _: peer.spend(project),
    "three reads": lambda peer, project, ticket: peer.three_reads(project, ticket),
    "an update": lambda peer, project, ticket: peer.update(project, ticket, 1),
    "an insert": lambda peer, project, _: peer.insert(project, 1),
    "a read, then a write": lambda peer, project, ticket: peer.read_write(project, ticket, 1),
}


async def _milliseconds(unit: Unit, peer: Any, workload: Workload) -> float:
    taken = []
    for project, ticket in workload.targets[:_UNITS]:
        began = time.perf_counter()
        await unit(peer, project, ticket)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000


async def run(database: TestDatabase, one_way: float) -> dict[str, Any]:
    """Return for each unit and peer the milliseconds and the round trips that it takes behind the line."""
    workload = await load(database, QUICK)
    found: dict[str, Any] = {name: {} for name in UNITS}
    async with Line(f"{database.owner.host}/.s.PGSQL.{database.owner.port}", one_way) as line:
        peers: list[Any] = [Wire(), Reference(), Derwin()]
        for peer in peers:
            await peer.open(line.before(database), workload)
        for name, unit in UNITS.items():
            for peer in peers:
                await _milliseconds(unit, peer, workload)  # statements are prepared, and every project was seen
            taken: dict[str, list[float]] = {peer.name: [] for peer in peers}
            turns: dict[str, int] = dict.fromkeys(taken, 0)
            for _ in range(_ROUNDS):
                for peer in peers:
                    before = line.turns
                    taken[peer.name].append(await _milliseconds(unit, peer, workload))
                    turns[peer.name] += line.turns - before
            for peer in peers:
                trips = round(turns[peer.name] / (_ROUNDS * _UNITS), 2)
                found[name][peer.name] = {"milliseconds": round(statistics.median(taken[peer.name]), 2), "round_trips": trips}
        for peer in peers:
            await peer.close()
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.network", description=__doc__)
    parser.add_argument("--milliseconds", type=float, default=1.0, help="what the line takes each way (default 1)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON instead of a table")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with bench_database() as database:
        found = asyncio.run(run(database, options.milliseconds / 1000))
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"{'':24}" + "".join(f"{peer:>28}" for peer in next(iter(found.values()))))
    for name, peers in found.items():
        cells = (f"{one['milliseconds']:.2f} ms, {one['round_trips']:.1f} trips" for one in peers.values())
        print(f"{name:24}" + "".join(f"{cell:>28}" for cell in cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
