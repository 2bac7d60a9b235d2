"""`python -m benchmarks`: every operation by every peer, in rotation, and whether the goals are met.

Prints tables (or, with --json, what is written), and writes benchmarks/out/latest.json and docs/images/benchmark.svg.
"""

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import bulk, extra, measure, report
from benchmarks.data import FULL, QUICK, Size, Workload, load
from benchmarks.peers import NAMES, REFERENCE, open_peers
from benchmarks.server import bench_database, connect, set_server
from derwin_db.testing import TestDatabase

OPERATIONS = ("get", "three_reads", "list", "insert", "update", "read_write", "spend", "search")
DURABLE = ("insert", "update")
_ROOT = Path(__file__).resolve().parent
OUT = _ROOT / "out"
PLOT = _ROOT.parent / "docs" / "images" / "benchmark.svg"


def main(arguments: list[str] | None = None) -> int:
    """Run, report, and return the exit code: 0 whatever the numbers are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less data, 5 rounds: about two minutes")
    parser.add_argument("--json", action="store_true", help="print the results as JSON instead of tables")
    parser.add_argument("--rounds", type=int, help="rounds of the rotation (default 8, quick 5)")
    parser.add_argument("--ops", nargs="+", choices=[*OPERATIONS, "bulk"], default=[*OPERATIONS, "bulk"])
    parser.add_argument("--peers", nargs="+", choices=NAMES, default=list(NAMES))
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    with bench_database() as database:
        results = asyncio.run(_run(database, options))
    name = "quick" if options.quick else "full"
    if set(options.ops) == {*OPERATIONS, "bulk"} and len(options.peers) == len(NAMES):
        _write(results, name)
    print(json.dumps(results, indent=1) if options.json else report.text(results))
    return 0


async def _run(database: TestDatabase, options: argparse.Namespace) -> dict[str, Any]:
    size = QUICK if options.quick else FULL
    rounds = options.rounds or (5 if options.quick else 8)
    began = time.perf_counter()
    workload = await load(database, size)
    _say(f"data is loaded: {size}")
    chosen = await open_peers(options.peers, database, workload)
    results: dict[str, Any] = {"run": await _circumstances(database, size, rounds), "missing": chosen.missing, "ops": {}}
    try:
        effort = measure.Effort(rounds, *((0.15, 0.08) if options.quick else (0.45, 0.3)))
        for operation in OPERATIONS:
            if operation in options.ops:
                samples = await measure.run(operation, chosen.peers, workload, effort)
                results["ops"][operation] = _summary(samples)
                _say(f"{operation}: {time.perf_counter() - began:.0f} s")
        if "bulk" in options.ops:
            await _bulk(database, workload, chosen.peers, rounds, results, quick=options.quick)
            _say(f"bulk: {time.perf_counter() - began:.0f} s")
        ours = {peer.name: peer for peer in chosen.peers}
        if "derwin" in ours:
            results["filters"] = await extra.filters(ours["derwin"], workload, rounds)
            results["policies"] = await extra.policies(database, workload, rounds)
            await _durable(database, workload, [ours[REFERENCE], ours["derwin"]], effort, results, options)
    finally:
        for peer in chosen.peers:
            await peer.close()
    results["run"]["seconds"] = round(time.perf_counter() - began)
    results["run"]["load_at_end"] = [round(value, 1) for value in os.getloadavg()]
    return results


async def _bulk(
    database: TestDatabase, workload: Workload, peers: list[Any], rounds: int, results: dict[str, Any], *, quick: bool
) -> None:
    results["ops"]["bulk"] = _summary(await bulk.run(database, peers, workload, rounds=rounds, count=1000 if quick else 5000))
    if not quick:
        fast = [peer for peer in peers if peer.name in (REFERENCE, "asyncpg_naive", "derwin")]
        samples = await bulk.run(database, fast, workload, rounds=4, count=100_000)
        results["bulk_100000"] = _summary(samples)


async def _durable(
    database: TestDatabase,
    workload: Workload,
    peers: list[Any],
    effort: measure.Effort,
    results: dict[str, Any],
    options: argparse.Namespace,
) -> None:
    """Repeat the writes with synchronous_commit on: what a service has, where the disk counts too."""
    await set_server(database.owner, {"synchronous_commit": "on"})
    await asyncio.sleep(0.5)
    found = {
        operation: _summary(await measure.run(operation, peers, workload, effort))
        for operation in DURABLE
        if operation in options.ops
    }
    results["synchronous_commit_on"] = found
    await set_server(database.owner, {"synchronous_commit": "off"})


def _summary(samples: dict[str, measure.Samples]) -> dict[str, Any]:
    reference = samples[REFERENCE]
    found: dict[str, Any] = {}
    for name, mine in samples.items():
        if mine.failure is not None or not mine.seconds:
            found[name] = {"failure": mine.failure}
            continue
        share, multiple = measure.shares(mine, reference)
        found[name] = {
            "throughput": round(share, 3),
            "latency": round(multiple, 3),
            "rounds": len(mine.seconds),
            "per_second": round(measure.median(mine.rates)),
            "milliseconds": round(measure.median(mine.seconds) * 1000, 3),
        }
    return found


async def _circumstances(database: TestDatabase, size: Size, rounds: int) -> dict[str, Any]:
    connection = await connect(database.owner)
    try:
        version = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    return {
        "python": platform.python_version(),
        "postgresql": version,
        "cores": os.cpu_count(),
        "load_at_start": [round(value, 1) for value in os.getloadavg()],
        "size": size.__dict__,
        "rounds": rounds,
    }


def _write(results: dict[str, Any], name: str) -> None:
    OUT.mkdir(exist_ok=True)
    text = json.dumps(results, indent=1)
    (OUT / "latest.json").write_text(text, encoding="utf-8")
    (OUT / f"{name}.json").write_text(text, encoding="utf-8")
    try:
        report.plot(results, PLOT)
    except ImportError:
        _say("no plot: matplotlib is not installed (dependency group `bench`)")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
