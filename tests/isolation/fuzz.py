"""Statements at random by SQLsmith, a generator that knows nothing of this package, as the service's login: `make fuzz`.

Two ways at a time: as the login itself, without a unit of work, and inside an open unit of a project, whose statements are made
before, since the scope belongs to the transaction that opened it. Another project holds canaries: none comes back, no row of
it changes, and the server does not crash. SQLsmith is a package of Debian (`apt-get install sqlsmith`).
"""

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg

from derwin_db import Database
from derwin_db.errors import DerwinError
from derwin_db.settings import ConnectionInfo
from derwin_db.testing import TestServer, choose_server
from tests.isolation.arena import Arena, new_arena

if TYPE_CHECKING:
    from derwin_db.testing.traces import Traces

BATCH = 400
"""Statements of one run of SQLsmith."""

IN_ONE_UNIT = 20
STATEMENT_SECONDS = 2
PATIENT = {"DERWIN_TRANSACTION_TIMEOUT": "900", "DERWIN_COMMAND_TIMEOUT": "300", "DERWIN_STATEMENT_TIMEOUT": "250",
           "DERWIN_POOL_TIMEOUT": "60", "DERWIN_CONNECT_TIMEOUT": "60"}  # fmt: skip
"""Limits of this process, which has the machine for itself after all others."""


@dataclass
class Found:
    """What the run has seen so far."""

    statements: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def target(connection: ConnectionInfo) -> str:
    """Return the connection string of libpq, under which statements can't run for long."""
    parts = {"host": connection.host, "port": connection.port, "user": connection.user, "dbname": connection.database,
             "password": connection.password}  # fmt: skip
    text = " ".join(f"{name}='{value}'" for name, value in parts.items() if value is not None)
    return f"{text} options='-c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout=1s'"


def run_sqlsmith(connection: ConnectionInfo, seed: int, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["sqlsmith", f"--target={target(connection)}", f"--seed={seed}", f"--max-queries={BATCH}", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=BATCH)


def sent_as_the_login(connection: ConnectionInfo, seed: int) -> int:
    """Have SQLsmith make statements from what the login sees, and run them. Returns how many."""
    told = re.search(r"queries: (\d+)", run_sqlsmith(connection, seed, "--verbose").stderr)
    return int(told[1]) if told else 0


def statements_of(owner: ConnectionInfo, seed: int) -> list[str]:
    """Have SQLsmith make statements from all that the owner sees, every table and function, and run none of them."""
    own_tables = ["--exclude-catalog"] if seed % 2 else []
    made = run_sqlsmith(owner, seed, "--dry-run", *own_tables).stdout
    return [part.strip() for part in made.split(";") if part.strip()]


async def in_a_unit(arena: Arena, database: Database, statements: list[str], found: Found) -> None:
    """Run the statements in units of A, each in a savepoint, and look at all that comes back."""
    traces: Traces = arena.of_b
    with contextlib.suppress(DerwinError):
        async with database.project(arena.a.project_id) as session:
            raw: Any = (await (await session.sql.connection()).get_raw_connection()).driver_connection
            await raw.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
            for statement in statements:
                found.statements["in a unit"] += 1
                try:
                    await raw.execute("SAVEPOINT fuzz")
                    rows = await raw.fetch(statement)
                    found.answered["in a unit"] += 1
                    told = traces.found_in([repr(tuple(row)) for row in rows])
                    if told:
                        found.failures.append(f"a canary came back: {told} by {statement[:500]}")
                except asyncpg.PostgresError as error:
                    found.errors[type(error).__name__] += 1
                    if traces.found_in([str(error), repr(error.as_dict())]):
                        found.failures.append(f"an error holds a canary: {statement[:500]}")
                    await raw.execute("ROLLBACK TO SAVEPOINT fuzz")
            raise DerwinError  # nothing of it stays


async def fuzz(server: TestServer, seconds: float, seed: int) -> Found:
    """Run for so long, and compare what B holds at the end with what it held."""
    found = Found()
    async with new_arena(server) as arena:
        world, service = arena.shared, arena.shared.database.service
        started = await world.owner.fetchval("SELECT pg_postmaster_start_time()")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            seed += 1
            found.statements["as the login"] += await asyncio.to_thread(sent_as_the_login, service, seed)
            made = await asyncio.to_thread(statements_of, world.database.owner, seed)
            for start in range(0, len(made), IN_ONE_UNIT):
                await in_a_unit(arena, world.wide, made[start : start + IN_ONE_UNIT], found)
            if await world.digest(arena.b.project_id) != arena.digest:
                found.failures.append(f"rows of B are not what they were, seed {seed}")
                break
        crashes = await world.owner.fetchval("SELECT pg_postmaster_start_time()") != started
        if crashes or not await alive(service):
            found.failures.append("the server crashed")
    return found


async def alive(service: ConnectionInfo) -> bool:
    connection = await asyncpg.connect(**service.connect_arguments())
    answer: int = await connection.fetchval("SELECT 1")
    await connection.close()
    return answer == 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.isolation.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if shutil.which("sqlsmith") is None:
        print("SQLsmith is not installed, so nothing was tried: apt-get install sqlsmith")
        return 0
    os.environ.update(PATIENT)
    with choose_server() as server:
        found = asyncio.run(fuzz(server, options.minutes * 60, options.seed))
    total = sum(found.statements.values())
    print(f"{total} statements in {options.minutes:g} min: {dict(found.statements)}; answered: {dict(found.answered)}")
    print(f"errors: {dict(found.errors.most_common(8))}")
    print("\n".join(found.failures) or "no canary, no crash, no row of others changed")
    if not total or not re.search(r"in a unit", str(found.answered)):
        print("nothing was tried: SQLsmith made no statements")
        return 1
    return 1 if found.failures else 0


if __name__ == "__main__":
    sys.exit(main())
