"""`python -m benchmarks.client`: what the client alone costs, in microseconds: the best of several rounds.

Units of work run on a connection that answers at once, so that what is left is this package's own time. Statements go to a
server of their own, and what counts is the processor time of this process: the event loop, the driver, and what is around it.
"""

import asyncio
import json
import sys
import time
import timeit
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from benchmarks.peers.base import COLUMNS, new_ticket
from benchmarks.server import bench_database
from derwin_db import Database, repos
from derwin_db.connection.pool import DataSource
from derwin_db.isolation.keys import KeyRing, ServerSeal
from derwin_db.isolation.preamble import Preamble
from derwin_db.isolation.seal import Seal
from derwin_db.models import QATicketCreate, QATicketUpdate
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase

_CALLS = 2000


def _record(row_id: UUID) -> dict[str, Any]:
    """Return a ticket as the driver hands it out."""
    now = datetime.now(UTC)
    ticket = {name: json.dumps(value) if isinstance(value, list) else value for name, value in new_ticket(1).items()}
    known = {"project_id": row_id, "id": row_id, "created_at": now, "updated_at": now, "status": "OPEN", "version": 1}
    return {**dict.fromkeys(COLUMNS), **ticket, **known}


class _Connection:
    """Answers at once, always the same."""

    activity_query_size = 1024
    is_read_committed = True
    server_clock = 0.0

    def __init__(self, record: tuple[Any, ...]) -> None:
        self._record = record

    def get_server_pid(self) -> int:
        return 4711

    def is_closed(self) -> bool:
        return False

    async def execute(self, *_: Any, **__: Any) -> str:
        return "COMMIT"

    async def fetch(self, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        return [self._record]


class _Pool:
    """Has one connection, and it is free."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def acquire(self) -> _Connection:
        return self._connection

    async def release(self, *_: Any, **__: Any) -> None:
        """Take it back."""


class _Offline(Database):
    """A database that has started, without a server."""

    def __init__(self, pool: Any) -> None:
        super().__init__("postgresql://nobody@/nothing?host=/", settings=Settings())
        self._loop = asyncio.get_running_loop()
        self._app = DataSource(pool, Preamble(ServerSeal(KeyRing([Seal(b"1" * 64, b"2" * 64)]))))


async def run() -> dict[str, float]:
    """Measure; the names say what."""
    row_id = uuid4()
    by_name = _record(row_id)
    record = tuple(by_name[column.name] for column in repos.qa_tickets.table.c)
    db = _Offline(_Pool(_Connection(record)))
    rows = repos.qa_tickets._find_statement.rows
    values = {**QATicketCreate(**new_ticket(1)).__dict__, "id": row_id}
    insert = repos.qa_tickets._insert_statement(tuple(values))

    async def get() -> None:
        async with db.project(row_id) as session:
            await repos.qa_tickets.get(session, row_id)

    async def create() -> None:
        async with db.project(row_id) as session:
            await repos.qa_tickets.create(session, QATicketCreate(**new_ticket(1)))

    async def update() -> None:
        async with db.project(row_id) as session:
            await repos.qa_tickets.update(session, row_id, QATicketUpdate(title="another"))

    return {
        "unit of get": await _unit(get),
        "unit of insert": await _unit(create),
        "unit of update": await _unit(update),
        "hydrate 50 tickets": _call(lambda: rows([record] * 50)),
        "dict and json.loads, 50 tickets": _call(lambda: [_decoded(by_name) for _ in range(50)]),
        "check the input of an insert": _call(lambda: QATicketCreate(**new_ticket(1))),
        "bind the arguments of an insert": _call(lambda: insert.arguments({**values, "project_id": row_id})),
    }


def _decoded(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "steps_to_reproduce": json.loads(record["steps_to_reproduce"])}


def _call(work: Callable[[], Any]) -> float:
    return round(min(timeit.repeat(work, number=_CALLS // 4, repeat=5)) / (_CALLS // 4) * 1e6, 1)


async def statements(database: TestDatabase) -> dict[str, float]:
    """Measure one prepared statement, by a connection of this package's pool and by the driver's own, in turns."""
    settings = Settings()
    arguments = database.owner.connect_arguments()
    async with Database(**database.urls, settings=settings) as db:
        await db.start()
        pool = db.pools()[0]
        connections: dict[str, asyncpg.Connection] = {
            "statement on our connection": await pool.acquire(),
            "the driver's, with its time limit": await asyncpg.connect(**arguments, command_timeout=settings.command_timeout),
            "the driver's, without one": await asyncpg.connect(**arguments),
        }
        best = dict.fromkeys(connections, float("inf"))
        for _ in range(10):
            for name, connection in connections.items():
                best[name] = min(best[name], await _unit(lambda one=connection: one.fetch("SELECT 1"), 1, time.process_time))
        ours, *others = connections.values()
        for other in others:
            await other.close()
        await pool.release(ours)
    return best


async def _unit(work: Callable[[], Awaitable[Any]], times: int = 5, clock: Callable[[], float] = time.perf_counter) -> float:
    best = float("inf")
    for _ in range(times):
        began = clock()
        for _ in range(_CALLS):
            await work()
        best = min(best, (clock() - began) / _CALLS)
    return round(best * 1e6, 1)


def main() -> int:
    """Print the table."""
    with bench_database() as database:
        for name, microseconds in {**asyncio.run(run()), **asyncio.run(statements(database))}.items():
            print(f"{name:34} {microseconds:8.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
