"""The long versions of the fault tests, on a server of their own, with counts. `make faults` runs all of them.

python -m tests.faults [--only NAME ...] [--seed N]
"""

import argparse
import asyncio
import random
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from derwin_db import Database, sql
from derwin_db.settings import ConnectionInfo, Settings
from derwin_db.testing import TestDatabase, TestServer
from tests.contract.kinds import INPUTS
from tests.contract.round_trip import ANY_DECIMALS, decimals_are_exact_or_refused, inputs, write_and_compare
from tests.deploy.servers import HAS_15, debian_15, embedded_16
from tests.faults import migrating
from tests.faults.cancelling import Cancel, by_scope, cancel_units, once, three_times
from tests.faults.committing import lose_commits
from tests.faults.invariants import INVARIANTS, World
from tests.faults.killing import kill_servers
from tests.faults.load import new_project
from tests.faults.locking import deadlock
from tests.faults.proxy import Proxy
from tests.faults.test_connections import race
from tests.faults.test_invariants import PLANTED
from tests.faults.test_network import freeze
from tests.faults.victim import Victim, make_base
from tests.faults.watch import watching

Run = Callable[["Stage"], dict[str, Any]]
AsyncRun = Callable[["Stage"], Coroutine[Any, Any, dict[str, Any]]]


class Stage:
    """A server, its database, and how `Database`s are made on it."""

    def __init__(self, victim: Victim, database: TestDatabase, number: int) -> None:
        self.victim, self.database, self.seed = victim, database, number

    @property
    def user(self) -> str:
        """The service's login."""
        return self.database.service.user

    def db(self, database: TestDatabase | None = None, **changes: Any) -> Database:
        """Return a `Database` with settings that are near a service's own."""
        return Database(**(database or self.database).urls, settings=Settings(_env_file=None, **changes))


def _cancellations(cancel: Cancel, units: int) -> AsyncRun:
    async def run(stage: Stage) -> dict[str, Any]:
        async with stage.db(connection_life=100_000) as db:
            project = (await new_project(db)).id
            seen = await cancel_units(
                db, stage.victim, stage.user, project, units=units, cancel=cancel, seed=stage.seed, until_cancelled=True
            )
        left = await stage.victim.until_quiet(stage.user)
        assert (seen.lost, seen.stray, seen.dirty, seen.foreign, left) == (0, 0, 0, [], 0), seen
        assert seen.reconnects <= seen.cancelled / 100, seen
        return {**asdict(seen), "backends left": left}

    return run


async def _lost_commits(stage: Stage) -> dict[str, Any]:
    async with Proxy(stage.victim.socket) as proxy, stage.db(proxy.before_all(stage.database)) as db:
        project = (await new_project(db)).id
        seen = await lose_commits(db, proxy, project, acks=1000, requests=1000)
    assert seen.rows == seen.writes == seen.broken == seen.outcome_unknown == 2000, seen
    return asdict(seen)


async def _kills(stage: Stage) -> dict[str, Any]:
    async with stage.db() as db:
        seen = await kill_servers(db, stage.victim, (await new_project(db)).id, kills=20, writes=200)
    assert seen.lost == 0, seen
    assert seen.slowest_return <= 2, seen
    return asdict(seen)


async def _deadlocks(stage: Stage) -> dict[str, Any]:
    async with stage.db() as db:
        seen = await deadlock(db, stage.victim, (await new_project(db)).id, deadlocks=1000)
    assert seen.deadlocks >= 1000, seen
    assert seen.surfaced == 0, seen
    return asdict(seen)


async def _races(stage: Stage) -> dict[str, Any]:
    async with stage.db() as db:
        met = await race(db, stage.victim, stage.user, (await new_project(db)).id, rounds=2000)
    return {"rounds": 2000, "units that met it": met, "bad connections afterwards": 0}


async def _freeze(stage: Stage) -> dict[str, Any]:
    async with stage.db(command_timeout=3.0, connect_timeout=3.0) as db:
        told = await freeze(db, stage.victim, (await new_project(db)).id, seconds=10)
    return {"seconds": 10, "told": [kind.__name__ for kind in told]}


async def _invariants(stage: Stage, *, rounds: int = 20) -> dict[str, Any]:
    """Each scenario so many times, then each with its planted bug."""
    found = 0
    async with stage.db() as db:
        for scenario in INVARIANTS:
            for _ in range(rounds):
                await scenario(await World.make(db, stage.victim))
        for scenario, plant in PLANTED:
            world = await World.make(db, stage.victim)
            with pytest.MonkeyPatch.context() as patch:
                async with plant(world, patch):
                    try:
                        await scenario(world)
                    except AssertionError:
                        found += 1
    assert found == len(PLANTED)
    return {"invariants": len(INVARIANTS), "rounds of each": rounds, "broken": 0, "planted bugs": len(PLANTED), "found": found}


async def _rows(stage: Stage, *, wanted: int = 100_000) -> dict[str, Any]:
    """Random rows of all inputs, as many of each."""
    counts = {}
    async with stage.db() as db:
        project = (await new_project(db)).id
        for model in INPUTS:
            each, made = -(-wanted // len(INPUTS)), 0
            while made < each:
                rows = await asyncio.to_thread(_collect, inputs(model), min(500, each - made), stage.seed + made)
                await asyncio.gather(*(write_and_compare(db, project, rows[start::8]) for start in range(8)))
                made += len(rows)
            counts[model.__name__] = made
    return {"rows": sum(counts.values()), "read back equal": sum(counts.values())}


async def _decimals(stage: Stage, *, wanted: int = 100_000) -> dict[str, Any]:
    stored = refused = 0
    async with stage.db() as db:
        project = (await new_project(db)).id
        while stored + refused < wanted:
            values = await asyncio.to_thread(_collect, ANY_DECIMALS, 2000, stage.seed + stored + refused)
            kept, rest = await decimals_are_exact_or_refused(db, project, values)
            stored, refused = stored + kept, refused + rest
    return {"amounts": stored + refused, "stored exactly": stored, "refused": refused}


def _collect(strategy: st.SearchStrategy[Any], number: int, start: int) -> list[Any]:
    """Return that many random values."""
    made: list[Any] = []

    @seed(start)
    @settings(
        max_examples=number, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(strategy)
    def collect(value: Any) -> None:
        made.append(value)

    collect()
    return made[:number]


def _migrations(work: Callable[[migrating.Target], dict[str, Any]]) -> Run:
    """The promise on each PostgreSQL at hand; the one without pgvector goes up to the fences."""

    def run(stage: Stage) -> dict[str, Any]:
        servers: dict[str, AbstractContextManager[ConnectionInfo]] = {
            "18": nullcontext(stage.victim.owner),
            "16": embedded_16(),
            **({"15": debian_15()} if HAS_15 else {}),
        }
        seen = {}
        for version, server in servers.items():
            with server as owner:
                target = migrating.Target(TestServer(owner), migrating.FENCED if version == "15" else sql.HEAD_REVISION)
                seen[f"PostgreSQL {version}"] = work(target)
        return seen

    return run


def _rows_survive(stage: Stage) -> dict[str, Any]:
    seen = {"PostgreSQL 18": migrating.rows_survive(TestServer(stage.victim.owner))}
    with embedded_16() as owner:
        seen["PostgreSQL 16"] = migrating.rows_survive(TestServer(owner))
    return seen


async def _traffic(stage: Stage) -> dict[str, Any]:
    async with stage.db() as db:
        return await migrating.under_traffic(db, stage.database, (await new_project(db)).id, rounds=10)


def _many(target: migrating.Target) -> dict[str, Any]:
    return migrating.start_many(target, starters=16, rounds=5)


RUNS: dict[str, tuple[str, Run | AsyncRun]] = {
    "cancel": ("4,000 tasks cancelled once, anywhere in a unit of work", _cancellations(once, 4000)),
    "cancel3": ("3,000 tasks cancelled three times in a row", _cancellations(three_times, 3000)),
    "scope": ("3,000 units in anyio scopes that end", _cancellations(by_scope, 3000)),
    "commits": ("1,000 lost acknowledgements and 1,000 lost requests of COMMIT", _lost_commits),
    "kills": ("20 kills of the server under load", _kills),
    "deadlocks": ("1,000 deadlocks through db.run", _deadlocks),
    "races": ("2,000 rounds of terminated backends while statements run", _races),
    "freeze": ("the whole server frozen for 10 seconds", _freeze),
    "rows": ("100,000 random rows", _rows),
    "decimals": ("100,000 random amounts", _decimals),
    "invariants": ("15 invariants under concurrency, 20 rounds of each, and their planted bugs", _invariants),
    "starters": ("16 processes that migrate one database at once, 5 rounds", _migrations(_many)),
    "killed": ("a migration killed at each of its statements", _migrations(migrating.kill_at_each_statement)),
    "identity": ("each revision down and up again", _migrations(migrating.down_and_up)),
    "survival": ("rows, down to before pgvector and up again", _rows_survive),
    "traffic": ("a revision that rewrites a column under live traffic, 10 times down and up", _traffic),
}


def _run(name: str, stage: Stage) -> bool:
    """Run one, print what it counted, and tell whether it held."""
    title, run = RUNS[name]
    began, holds = time.monotonic(), True
    with watching(keep=2000) as watch:
        assert stage.database.service.password
        watch.secrets.add(stage.database.service.password)
        try:
            made = run(stage)
            counts = made if isinstance(made, dict) else asyncio.run(made)
            counts["never retrieved"], counts["secrets shown"] = len(watch.lost()), len(watch.leaks())
            assert not counts["never retrieved"], watch.lost()[:3]
            assert not counts["secrets shown"]
        except Exception as error:
            holds = False
            counts = {"FAILED": "".join(traceback.format_exception(error))}
    print(f"{name:10} {title} ({time.monotonic() - began:.0f} s)")
    for what, count in counts.items():
        print(f"{'':12}{what.replace('_', ' ')}: {count}")
    sys.stdout.flush()
    return holds


def main() -> int:
    """Run what is asked for. Returns how many runs failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    random.seed(options.seed)
    print(f"seed {options.seed}", flush=True)
    victim, database = make_base()
    try:
        victim.start()
        return sum(not _run(name, Stage(victim, database, options.seed)) for name in options.only)
    finally:
        victim.remove()


if __name__ == "__main__":
    sys.exit(main())
