"""`python -m tests.studio pictures` writes the screenshots of the documentation; `... speed` measures every page at scale 100.

Both start a studio on a server of their own, with Lifeline and its demo.
"""

import asyncio
import contextlib
import statistics
import sys
import time
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil

from derwin_db import Database, repos
from derwin_db.seed import seed_demo, seed_lifeline
from derwin_db.testing import TestDatabase, choose_server
from tests.studio.browser import opened
from tests.studio.pages import pages_of
from tests.studio.serving import Studio, environment_of, started

SCALE = 100
REQUESTS = 20
LIMIT_MS = 200
FOLDER = Path(__file__).parents[2] / "docs" / "images"
SQL = """\
SELECT classification, count(*) AS tickets, round(avg(risk_score)::numeric, 2) AS risk
FROM qa_tickets
GROUP BY 1 ORDER BY 2 DESC
"""
SHOTS = {
    "overview": ("p/lifeline/", 1280, 1180, "light"),
    "overview-dark": ("p/lifeline/", 1280, 1180, "dark"),
    "tickets": (
        "p/lifeline/tables/qa_tickets?status=OPEN&status=TRIAGED&min_risk_score=0.2&order=-risk_score",
        1280,
        760,
        "light",
    ),
    "ticket-dark": ("{ticket}", 1280, 900, "dark"),
    "profile": ("p/lifeline/profile", 1280, 800, "light"),
    "sql": (f"p/lifeline/sql?statement={quote(SQL)}", 1280, 800, "light"),
    "narrow-dark": ("p/lifeline/", 390, 844, "dark"),
}


async def seed(database: TestDatabase, scale: int) -> list[str]:
    """Write the demo and return the addresses of its pages."""
    async with Database(**database.urls) as db:
        await seed_lifeline(db)
        await seed_demo(db, scale=scale)
        return ["", *await pages_of(db, "lifeline")]


async def ticket_with_all(database: TestDatabase) -> str:
    """A ticket with signals, attempts and artifacts."""
    async with Database(**database.urls) as db, db.project("lifeline", read_only=True) as session:
        artifact = (await repos.audit_artifacts.list(session, limit=1)).items[0]
    return f"p/lifeline/tables/qa_tickets/{artifact.ticket_id}"


def screenshots() -> None:
    with choose_server() as server:
        database = server.migrated()
        asyncio.run(seed(database, 1))
        ticket = asyncio.run(ticket_with_all(database))
        with started("--port", "0", "--sql", environment=environment_of(database)) as studio, opened() as browser:
            for name, (page, width, height, scheme) in SHOTS.items():
                browser.resize(width, height)
                browser.prefer(scheme)
                browser.open(studio.url + page.format(ticket=ticket))
                path = FOLDER / f"studio-{name}.png"
                path.write_bytes(browser.picture())
                print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def measure(scale: int) -> dict[str, tuple[float, float]]:
    """Return of each page, over real HTTP: the median time, and the CPU time of studio and database. Units: milliseconds."""
    with choose_server() as server:
        return measure_on(server.migrated(), scale)


def measure_on(database: TestDatabase, scale: int) -> dict[str, tuple[float, float]]:
    """Fill a database and measure on it."""
    pages = asyncio.run(seed(database, scale))
    with started("--port", "0", "--sql", environment=environment_of(database)) as studio:
        return measured(studio, database, pages, REQUESTS)


def measured(studio: Studio, database: TestDatabase, pages: list[str], requests: int) -> dict[str, tuple[float, float]]:
    """Ask a studio that runs on this database for each page once more than this, and measure all times but the first."""
    with httpx.Client(timeout=60) as client:

        def ask(page: str) -> float:
            start = time.perf_counter()
            assert client.get(studio.url + page).status_code == 200, page
            return (time.perf_counter() - start) * 1000

        found = {}
        for page in pages:
            ask(page)
            before = _cpu(studio, database)
            times = [ask(page) for _ in range(requests)]
            found[page] = statistics.median(times), (_cpu(studio, database) - before) * 1000 / requests
        return found


def _cpu(studio: Studio, database: TestDatabase) -> float:
    """Seconds that the studio and its connections have computed: on a busy machine they say more than a clock."""
    used = 0.0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid == studio.process.pid or database.owner.database in " ".join(process.cmdline()):
                times = process.cpu_times()
                used += times.user + times.system
    return used


def speed() -> None:
    found = measure(SCALE)
    print("| page | median | of which computing |\n|---|---|---|")
    for page, (median, computing) in sorted(found.items(), key=lambda item: -item[1][0]):
        print(f"| `/{page}` | {median:.0f} ms | {computing:.0f} ms |")
    slow = [page for page, (median, _) in found.items() if median > LIMIT_MS]
    if slow:
        sys.exit(f"Above {LIMIT_MS} ms: {', '.join(slow)}")


if __name__ == "__main__":
    {"pictures": screenshots, "speed": speed}[sys.argv[1]]()
