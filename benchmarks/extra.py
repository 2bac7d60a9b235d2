"""Two more ratios of our own: filters chosen at run time against the fixed form, and policies on against off."""

import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.data import Workload
from benchmarks.peers.base import month_ago
from benchmarks.peers.driver import GET, LIST, SPEND, Reference, Wire
from derwin_db import repos
from derwin_db.models import Severity, TicketStatus
from derwin_db.testing import TestDatabase

_FILTERS: list[dict[str, Any]] = [
    {},
    {"status": TicketStatus.OPEN},
    {"severity": Severity.HIGH},
    {"classification": "ui_bug"},
    {"status": TicketStatus.OPEN, "severity": Severity.HIGH},
    {"classification": "ui_bug", "severity": Severity.LOW},
]
_CALLS = 20


async def filters(peer: Any, workload: Workload, rounds: int) -> dict[str, float]:
    """Return the throughput of lists whose filters change with every call, as a share of the same lists shape by shape."""
    project_id = workload.projects[0]

    async def call(which: dict[str, Any]) -> None:
        async with peer.database.project(project_id) as session:
            await repos.qa_tickets.list(session, **which)

    async def fixed() -> None:
        for which in _FILTERS:
            for _ in range(_CALLS):
                await call(which)

    async def chosen() -> None:
        for _ in range(_CALLS):
            for which in _FILTERS:
                await call(which)

    return {"throughput": round(await _ratio(fixed, chosen, rounds), 3), "rounds": rounds}


async def policies(database: TestDatabase, workload: Workload, rounds: int) -> dict[str, Any]:
    """Return the time with policies (sealed scope included) as a multiple of the time without, filter in both.

    Two ways: of the query alone, inside a transaction that is open, and of the whole unit, opening and commit included.
    """
    scoped, free = Reference(), Wire()
    await scoped.open(database, workload)
    await free.open(database, workload)
    project_id, ticket_id = workload.targets[0]
    queries: dict[str, tuple[Any, ...]] = {
        "get": (GET, project_id, ticket_id),
        "list": (LIST, project_id),
        "spend": (SPEND, project_id, month_ago()),
    }
    found: dict[str, Any] = {"rounds": rounds}
    try:
        for name, query in queries.items():
            found[name] = {
                "query": round(await _query_ratio(scoped, free, project_id, query, rounds), 3),
                "unit": round(await _unit_ratio(scoped, free, project_id, query, rounds), 3),
            }
    finally:
        await scoped.close()
        await free.close()
    return found


async def _query_ratio(scoped: Any, free: Any, project_id: Any, query: tuple[Any, ...], rounds: int) -> float:
    async with scoped.unit(project_id) as on, free._pool.acquire() as off, off.transaction():
        return await _by_turns(lambda: on.fetch(*query), lambda: off.fetch(*query), 100 * rounds)


async def _unit_ratio(scoped: Any, free: Any, project_id: Any, query: tuple[Any, ...], rounds: int) -> float:
    async def with_policies() -> None:
        async with scoped.unit(project_id) as connection:
            await connection.fetch(*query)

    async def without() -> None:
        async with free._pool.acquire() as connection:
            await connection.execute("BEGIN")
            await connection.fetch(*query)
            await connection.execute("COMMIT")

    return await _by_turns(with_policies, without, 100 * rounds)


async def _by_turns(one: Callable[[], Awaitable[Any]], other: Callable[[], Awaitable[Any]], calls: int) -> float:
    """Return the median time of `one` as a multiple of that of `other`, call by call in turn."""
    seconds: dict[Any, list[float]] = {one: [], other: []}
    for number in range(calls):
        for run in (one, other) if number % 2 else (other, one):
            began = time.perf_counter()
            await run()
            seconds[run].append(time.perf_counter() - began)
    return statistics.median(seconds[one]) / statistics.median(seconds[other])


async def _ratio(base: Callable[[], Awaitable[None]], other: Callable[[], Awaitable[None]], rounds: int) -> float:
    """Return how fast `other` is, as a share of `base`: the median over rounds, each first every second time."""
    shares = []
    for number in range(rounds + 1):
        seconds = {}
        for run in (base, other) if number % 2 else (other, base):
            began = time.perf_counter()
            await run()
            seconds[run] = time.perf_counter() - began
        if number:  # the first one warms
            shares.append(seconds[base] / seconds[other])
    return statistics.median(shares)
