"""A worker for all projects: looks whether the address of each queued run answers, and notes a signal where it does not.

    python examples/worker.py                                    # serves until SIGTERM or Ctrl-C
    python examples/worker.py --at-once 20 --at-once-per-project 2

The database is that of any service: DATABASE_URL, or the embedded server where none is set; it must be migrated
(`derwin-db migrate`). Start as many as you like: each run is done by one of them, and the projects have their turns.
"""

import argparse
import asyncio
import hashlib
import logging
import os
import socket
import urllib.error
import urllib.request
from datetime import UTC, datetime

from derwin_db import Database, repos
from derwin_db.models import DiscoveryRoute, RawSignalCreate, RunStats, Severity
from derwin_db.workers import Job

ROUTE = DiscoveryRoute.E2E_CRAWL


def look(address: str) -> str | None:
    """Return what is wrong at the address, None where it answers."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310  # http or https: the column takes no other
            answer.read(1)
    except urllib.error.HTTPError as error:
        return f"HTTP status {error.code}"
    except OSError as error:
        return type(error).__name__
    return None


def signal_of(address: str, wrong: str) -> RawSignalCreate:
    return RawSignalCreate(
        route=ROUTE,
        title=f"{address} does not answer: {wrong}",
        fingerprint=hashlib.sha256(f"{address} {wrong}".encode()).hexdigest(),
        severity_hint=Severity.HIGH,
        confidence=1.0,
        payload={"address": address, "wrong": wrong},
        observed_at=datetime.now(UTC),
    )


async def crawl(job: Job) -> RunStats | None:
    """Do one run: look first, with no connection held, then write the findings and the run's end in one transaction."""
    address = job.run.target_url
    if address is None:
        return RunStats()
    wrong = await asyncio.to_thread(look, address)
    async with job.project() as session:  # the run's own project: no other one can be reached
        found = await repos.raw_signals.ingest(session, job.run_id, [signal_of(address, wrong)] if wrong else [])
        stats = RunStats(signals=found.inserted, duplicates=found.duplicates, by_route={ROUTE: found.inserted})
        await job.complete(session, stats)  # findings and end are stored together, and once
    return None


async def serve(name: str, at_once: int, at_once_per_project: int | None) -> None:
    async with Database() as db:
        worker = db.worker(name, crawl, at_once=at_once, at_once_per_project=at_once_per_project)
        await worker.run()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the queued runs of all projects.")
    parser.add_argument("--name", default=f"{socket.gethostname()}-{os.getpid()}", help="whose claims these are")
    parser.add_argument("--at-once", type=int, default=5, help="runs at a time in this process (default: 5)")
    parser.add_argument("--at-once-per-project", type=int, help="runs at a time of one project, in all workers")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    asyncio.run(serve(given.name, given.at_once, given.at_once_per_project))


if __name__ == "__main__":
    main()
