"""What docs/decisions says of what was not taken: other pools, commits that are cancelled, drivers, parsers of URLs.

    python -m benchmarks.decisions [pool] [commits] [drivers] [urls] [studio]

Times are of this process' processor, in microseconds: other work on the machine does not count.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy.engine import make_url

from derwin_db import Database, repos
from derwin_db.connection.pool import Pool
from derwin_db.errors import ConfigurationError
from derwin_db.models import ProjectCreate, ProjectType
from derwin_db.settings import ConnectionInfo, Settings
from derwin_db.testing import TestDatabase, choose_server

ROUNDS, CALLS = 5, 2000
COMMITS = 400
URLS = (
    "postgresql://ada:p%40ss@db.example.com/shop",
    "postgres://ada:secret@db.example.com:6543/shop?pgbouncer=true&connection_limit=5",
    "postgresql://ada:secret@db.example.com/shop?schema=public&sslmode=require",
    "postgresql+asyncpg://ada:secret@db.example.com/shop",
    "postgresql://ada:secret@[2001:db8::1]:5432/shop",
    "postgresql://ada:secret@db.example.com/shop?application_name=web&connect_timeout=5",
    "psql 'postgresql://ada:secret@db.example.com/shop'",
    "postgresql://ada:pa#ss@db.example.com/shop",
    "postgresql://ada:pa/ss@db.example.com/shop",
    "postgresql://ada:secret@db.example.com:70000/shop",
    "postgresql://ada:secret@db.example.com/shop?sslmod=require",
    "postgresql://ada:secret@db.example.com/shop?pgbouncer=true&pgbouncer=false",
)
"""Seven that hosting platforms hand out; then five with a mistake, which have to be refused."""


async def pool(database: TestDatabase) -> dict[str, float]:
    """Return what taking a connection and giving it back costs."""
    info = database.service
    theirs = await asyncpg.create_pool(**info.connect_arguments(), min_size=1, max_size=1)

    async def nothing(_: Any) -> None:
        return None

    quiet = await asyncpg.create_pool(**info.connect_arguments(), min_size=1, max_size=1, reset=nothing)
    ours = Pool(info, Settings(), 180000)

    async def with_ours() -> None:
        await ours.release(await ours.acquire())

    async def with_theirs() -> None:
        await theirs.release(await theirs.acquire())

    async def with_quiet() -> None:
        await quiet.release(await quiet.acquire())

    result = await _in_turns({"asyncpg.Pool": with_theirs, "asyncpg.Pool, no reset": with_quiet, "ours": with_ours})
    await asyncio.gather(theirs.close(), quiet.close(), ours.close())
    return result


async def _in_turns(calls: dict[str, Callable[[], Awaitable[None]]]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            began = time.process_time()
            for _ in range(CALLS):
                await call()
            times[name].append((time.process_time() - began) / CALLS * 1e6)
    return {name: round(statistics.median(found), 1) for name, found in times.items()}


async def commits(database: TestDatabase) -> dict[str, str]:
    """Return of how many units that were cancelled in COMMIT the caller was told what happened."""
    owner = await asyncpg.connect(**database.owner.connect_arguments())
    await owner.execute("CREATE TABLE public.told (n integer)")
    theirs = await asyncpg.create_pool(**database.owner.connect_arguments(), min_size=2, max_size=2)

    async def by_hand(number: int, began: asyncio.Event) -> None:
        async with theirs.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("INSERT INTO public.told VALUES ($1)", number)
            began.set()
            await transaction.commit()

    stored_unseen = 0
    for number in range(COMMITS):
        began = asyncio.Event()
        task = asyncio.create_task(by_hand(number, began))
        await began.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        is_there = await owner.fetchval("SELECT EXISTS (SELECT FROM public.told WHERE n = $1)", number)
        stored_unseen += task.cancelled() and is_there
    opened = {row[0] for row in await owner.fetch("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")}
    await theirs.close()
    ours = await _ours(database, owner)
    await owner.close()
    return {
        "asyncpg, cancelled and stored": f"{stored_unseen} of {COMMITS}",
        "asyncpg, backends at the end": str(len(opened)),
        **ours,
    }


async def _ours(database: TestDatabase, owner: Any) -> dict[str, str]:
    called: list[int] = []
    unseen = 0
    await owner.execute("TRUNCATE public.told; GRANT INSERT ON public.told TO derwin_app")
    async with Database(**database.urls) as db:
        async with db.admin(reason="a measurement") as admin:
            await repos.projects.create(admin, ProjectCreate(slug="told", name="Told", type=ProjectType.OTHER))
        for number in range(COMMITS):
            began = asyncio.Event()

            async def unit(number: int = number, began: asyncio.Event = began) -> None:
                async with db.project("told") as session:
                    await session._driver("execute", f"INSERT INTO public.told VALUES ({number})")
                    session.after_commit(lambda number=number: called.append(number))
                    began.set()

            task = asyncio.create_task(unit())
            await began.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            is_there = await owner.fetchval("SELECT EXISTS (SELECT FROM public.told WHERE n = $1)", number)
            unseen += is_there and number not in called
    return {"ours, stored and after_commit not called": f"{unseen} of {COMMITS}", "ours, stored": f"{len(called)} of {COMMITS}"}


async def drivers(database: TestDatabase) -> dict[str, float]:
    """Return what a row by its key costs through each driver, with a statement that is prepared already."""
    import psycopg

    info = database.owner
    ours = await asyncpg.connect(**info.connect_arguments())
    query = "SELECT oid, typname, typlen, typbyval, typtype FROM pg_type WHERE oid = "
    arguments = {"host": info.host, "port": info.port, "user": info.user, "dbname": info.database, "password": info.password}
    theirs = await psycopg.AsyncConnection.connect(**arguments, autocommit=True, prepare_threshold=0)

    async def with_asyncpg() -> None:
        await ours.fetch(query + "$1", 16)

    async def with_psycopg() -> None:
        await (await theirs.execute(query + "%b", (16,))).fetchall()

    result = await _in_turns({"asyncpg": with_asyncpg, "psycopg": with_psycopg})
    await asyncio.gather(ours.close(), theirs.close())
    return result


def urls() -> dict[str, str]:
    """Return how many of the URLs each parser understands as meant."""
    understood = {"ours": 0, "sqlalchemy.make_url": 0}
    refused = {"ours": 0, "sqlalchemy.make_url": 0}
    for number, url in enumerate(URLS):
        for name, parse in (("ours", ConnectionInfo.parse), ("sqlalchemy.make_url", make_url)):
            try:
                parsed: Any = parse(url)
            except (ConfigurationError, Exception):  # whatever a parser raises
                refused[name] += number >= 7
            else:
                has_host = getattr(parsed, "host", "").strip("[]") in {"db.example.com", "2001:db8::1"}
                understood[name] += number < 7 and has_host
    return {name: f"{understood[name]} of 7 understood, {refused[name]} of 5 refused" for name in understood}


def studio() -> dict[str, str]:
    """Return what the studio adds to the package, and whether a service loads it."""
    package = Path(__file__).parents[1] / "derwin_db"
    sizes = {
        name: sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in {".py", ".html", ".css", ".svg", ".sql"})
        for name, folder in (("all", package), ("studio", package / "studio"))
    }
    script = "import sys, derwin_db.database, derwin_db.repos; print([n for n in sys.modules if 'studio' in n or 'jinja' in n])"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.strip()
    return {"bytes of sources": f"{sizes['studio']:,} of {sizes['all']:,}", "loaded by a service": loaded}


def main() -> None:
    """Print what was asked for, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decisions")
    parser.add_argument("what", nargs="*", choices=["pool", "commits", "drivers", "urls", "studio", []], default=[])
    wanted = parser.parse_args().what or ["pool", "commits", "drivers", "urls", "studio"]
    for name, measure in (("urls", urls), ("studio", studio)):
        if name in wanted:
            print(name, measure())
    if {"pool", "commits", "drivers"} & set(wanted):
        with choose_server() as server:
            database = server.migrated()
            for name, measured in (("pool", pool), ("commits", commits), ("drivers", drivers)):
                if name in wanted:
                    print(name, asyncio.run(measured(database)))


if __name__ == "__main__":
    main()
