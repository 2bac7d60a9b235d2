"""Rotation: in every round each peer runs once, in another order, and is compared with the reference of the same round.

Machines are noisy: a peer that runs alone tells little, the median over rounds of ratios within a round does.
"""

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

from benchmarks.data import Workload
from benchmarks.peers.base import Peer, Unsupported

CALLERS = 16
_OWN = ("three_reads", "read_write")

Unit = Callable[[int], Awaitable[Any]]
"""One unit of work; its argument is a number that no other call has."""


@dataclass
class Samples:
    """What one peer did in one operation: per round, units a second of 16 callers and the median seconds of one caller."""

    rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failure: str | None = None


@dataclass(frozen=True)
class Effort:
    """How long each peer runs in each round, in seconds; `rounds` of it."""

    rounds: int
    throughput: float
    latency: float


def unit_of(peer: Peer, operation: str, workload: Workload) -> Unit:
    """Return the operation of the peer on the workload's tickets, one after the other."""
    targets, queries = workload.targets, workload.queries

    async def unit(number: int) -> Any:
        project_id, ticket_id = targets[number % len(targets)]
        if operation == "get":
            return await peer.get(project_id, ticket_id)
        if operation == "list":
            return await peer.list(project_id)
        if operation == "insert":
            return await peer.insert(project_id, number)
        if operation == "update":
            return await peer.update(project_id, ticket_id, number)
        if operation == "spend":
            return await peer.spend(project_id)
        if operation in _OWN:
            more = () if operation == "three_reads" else (number,)
            return await _of(peer, operation)(project_id, ticket_id, *more)
        return await peer.search(project_id, queries[number % len(queries)])

    return unit


def _of(peer: Any, operation: str) -> Callable[..., Awaitable[Any]]:
    """Return an operation that only those peers have which are compared unit by unit."""
    found: Callable[..., Awaitable[Any]] | None = getattr(peer, operation, None)
    if found is None:
        raise Unsupported("units of several statements are compared with asyncpg alone")
    return found


async def throughput(unit: Unit, seconds: float, start: int) -> float:
    """Return how many units 16 callers finish in a second."""
    numbers = iter(range(start, start + 10_000_000))
    finished = 0
    began = time.perf_counter()
    until = began + seconds

    async def caller() -> None:
        nonlocal finished
        while time.perf_counter() < until:
            await unit(next(numbers))
            finished += 1

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return finished / (time.perf_counter() - began)


async def latency(unit: Unit, seconds: float, start: int) -> float:
    """Return the median time of one caller's units."""
    taken = []
    until = time.perf_counter() + seconds
    number = start
    while (began := time.perf_counter()) < until or len(taken) < 3:
        await unit(number)
        taken.append(time.perf_counter() - began)
        number += 1
    return statistics.median(taken)


def rotated(peers: Sequence[Peer], rounds: int) -> Iterator[Sequence[Peer]]:
    """Yield the peers in another order each round."""
    for first in islice(cycle(range(len(peers))), rounds):
        yield [*peers[first:], *peers[:first]]


async def run(operation: str, peers: Sequence[Peer], workload: Workload, effort: Effort) -> dict[str, Samples]:
    """Measure one operation with all peers, which are open. One that can't do it is left out, with the reason."""
    samples = {peer.name: Samples() for peer in peers}
    number = 0
    for order in rotated(peers, effort.rounds):
        gc.collect()
        for peer in order:
            found = samples[peer.name]
            if found.failure is not None:
                continue
            unit = unit_of(peer, operation, workload)
            try:
                await throughput(unit, effort.throughput / 5, number)  # warm: connections, prepared statements, caches
                found.seconds.append(await latency(unit, effort.latency, number + 500_000))
                found.rates.append(await throughput(unit, effort.throughput, number + 1_000_000))
            except Unsupported as reason:
                found.failure = str(reason)
            except Exception as error:  # a peer's own failure is a result, reported as one
                found.failure = f"{type(error).__name__}: {error}"[:200]
            number += 20_000_000
    return samples


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def shares(samples: Samples, reference: Samples) -> tuple[float, float]:
    """Return throughput as a share, and latency as a multiple, of the reference: medians over rounds."""
    rates = [mine / its for mine, its in zip(samples.rates, reference.rates, strict=True)]
    seconds = [mine / its for mine, its in zip(samples.seconds, reference.seconds, strict=True)]
    return statistics.median(rates), statistics.median(seconds)
