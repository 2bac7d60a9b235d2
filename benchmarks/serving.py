"""`python -m benchmarks.serving`: a FastAPI endpoint that lists 50 tickets, by us, by hand and with plain SQLModel.

Apps are called through ASGI in this process: no sockets and no HTTP client, whose time would hide the differences. In every
round each app runs once, in another order; what is printed is the median over rounds of the ratio to the reference of the
same round: latency of one caller, CPU time of this process a request, requests a second of 16 callers. The reference reads
the same 50 rows through the repository and answers with bytes that were prepared before.

    by us           the endpoint of the README
    prepared        the same, answering prepared bytes (the reference of the goal: at most 1.5)
    by hand         asyncpg with the same safe preamble, rows as dicts, json.dumps
    SQLModel        AsyncSession, filter by hand, no scope; the rows as response model
    bytes alone     prepared bytes, no database: what FastAPI itself takes
"""
# ruff: noqa: ARG001, FAST003  # all endpoints take the same parameters, whether they need them or not

import argparse
import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

import asyncpg
from fastapi import FastAPI, Query, Response
from pydantic import BaseModel
from sqlalchemy import URL, DateTime, MetaData
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import Field, SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from derwin_db import Database, Page, ProjectSession, repos
from derwin_db.fastapi import Paging, scoped
from derwin_db.isolation.seal import Seal
from derwin_db.models import QATicket, TicketStatus
from derwin_db.testing import TestDatabase, choose_server, factories

SLUG = "acme"
ROWS = 50
CALLERS = 16
REFERENCE = "prepared"
GOAL = 1.5

App = Callable[[Any, Any, Any], Awaitable[None]]
Limit = Annotated[int, Query(ge=1, le=500)]


async def fill(database: TestDatabase) -> UUID:
    """Write a project with 500 tickets, and return its id."""
    async with Database(**database.urls) as db:
        async with db.admin(reason="benchmark") as admin:
            project = await repos.projects.create(admin, factories.project(slug=SLUG))
        async with db.project(project.id) as session:
            await repos.qa_tickets.create_many(session, [factories.ticket() for _ in range(500)])
    owner = await asyncpg.connect(**database.owner.connect_arguments())
    await owner.execute("ANALYZE qa_tickets")
    await owner.close()
    return project.id


# --- the apps ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def by_us(database: TestDatabase) -> AsyncIterator[App]:
    """The README's endpoint."""
    async with Database(**database.urls) as db:
        app = FastAPI()
        read = Annotated[ProjectSession, scoped(db, authorize=_project_of_path, read_only=True)]

        @app.get("/projects/{project}/tickets")
        async def tickets(session: read, paging: Paging, status: TicketStatus | None = None) -> Page[QATicket]:
            return await repos.qa_tickets.list(session, status=status, **paging)

        yield app


@asynccontextmanager
async def prepared(database: TestDatabase) -> AsyncIterator[App]:
    """The same rows are read, and bytes that are there already are sent."""
    async with Database(**database.urls) as db:
        app = FastAPI()
        read = Annotated[ProjectSession, scoped(db, authorize=_project_of_path, read_only=True)]
        async with db.project(SLUG) as session:
            body = (await repos.qa_tickets.list(session, status=TicketStatus.OPEN, limit=ROWS)).model_dump_json().encode()

        @app.get("/projects/{project}/tickets")
        async def tickets(session: read, paging: Paging, status: TicketStatus | None = None) -> Response:
            await repos.qa_tickets.list(session, status=status, **paging)
            return Response(body, media_type="application/json")

        yield app


@asynccontextmanager
async def bytes_alone(database: TestDatabase) -> AsyncIterator[App]:
    """No database at all."""
    async with Database(**database.urls) as db, db.project(SLUG) as session:
        body = (await repos.qa_tickets.list(session, limit=ROWS)).model_dump_json().encode()
    app = FastAPI()

    @app.get("/projects/{project}/tickets")
    async def tickets(project: str, limit: Limit = 50, status: TicketStatus | None = None) -> Response:
        return Response(body, media_type="application/json")

    yield app


@asynccontextmanager
async def by_hand(database: TestDatabase) -> AsyncIterator[App]:
    """What somebody writes who cares for the same safety, and has no library."""
    owner = await asyncpg.connect(**database.owner.connect_arguments())
    key = await owner.fetchrow("SELECT inner_pad, outer_pad FROM derwin.scope_key")
    project_id = await owner.fetchval("SELECT id FROM projects WHERE slug = $1", SLUG)
    await owner.close()
    seal = Seal(key["inner_pad"], key["outer_pad"])
    pool = await asyncpg.create_pool(**database.service.connect_arguments(), min_size=0, max_size=10, reset=_keep)
    query = """
        SELECT * FROM public.qa_tickets WHERE project_id = $1 AND status = $2
        ORDER BY created_at DESC, id DESC LIMIT $3
    """
    app = FastAPI()

    @app.get("/projects/{project}/tickets")
    async def tickets(project: str, limit: Limit = 50, status: TicketStatus | None = None) -> Response:
        async with pool.acquire() as connection:
            token = seal.token(project_id, connection.get_server_pid())
            pad = "." * 1024
            begin = f"/*{pad}*/BEGIN READ ONLY; SET LOCAL ROLE derwin_app; SELECT public.derwin_open('{token}')"
            try:
                await connection.execute(begin)
                records = await connection.fetch(query, project_id, status, limit + 1)
                await connection.execute("COMMIT")
            except BaseException:
                await connection.execute("ROLLBACK")
                raise
        rows = [dict(record) for record in records[:limit]]
        for row in rows:
            row["steps_to_reproduce"] = json.loads(row["steps_to_reproduce"])
        more = str(rows[-1]["id"]) if len(records) > limit else None
        body = json.dumps({"items": rows, "next_cursor": more}, default=_plain)
        return Response(body, media_type="application/json")

    yield app
    await pool.close()


async def _keep(_: Any) -> None:
    """Send nothing at return: the transaction has ended."""


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


class Ticket(SQLModel, table=True):
    """The table as a SQLModel user writes it."""

    metadata = MetaData()
    __tablename__: ClassVar[str] = "qa_tickets"

    project_id: UUID = Field(primary_key=True)
    id: UUID = Field(primary_key=True)
    created_at: datetime = Field(sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(sa_type=DateTime(timezone=True))
    run_id: UUID | None
    title: str
    description: str
    steps_to_reproduce: list[str] = Field(sa_type=JSONB)
    expected: str | None
    actual: str | None
    severity: str
    classification: str
    confidence: float
    risk_score: float
    fingerprint: str | None
    external_ref: str | None
    status: str
    initial_bucket: str | None
    final_bucket: str | None
    duplicate_of_id: UUID | None
    resolved_at: datetime | None = Field(sa_type=DateTime(timezone=True))
    version: int


class TicketPage(BaseModel):
    """Its response."""

    items: list[Ticket]
    next_cursor: str | None = None


@asynccontextmanager
async def sqlmodel(database: TestDatabase) -> AsyncIterator[App]:
    """SQLModel's AsyncSession as its documentation has it: the filter is there as long as nobody forgets it."""
    arguments = database.owner.connect_arguments()
    url = URL.create("postgresql+asyncpg", arguments["user"], database=arguments["database"])
    engine = create_async_engine(url, connect_args={"host": arguments["host"], "port": arguments["port"]}, pool_size=10)
    async with AsyncSession(engine) as session:
        project_id = (await session.exec(select(Ticket.project_id).limit(1))).one()
    app = FastAPI()

    @app.get("/projects/{project}/tickets")
    async def tickets(project: str, limit: Limit = 50, status: TicketStatus | None = None) -> TicketPage:
        query = select(Ticket).where(col(Ticket.project_id) == project_id, col(Ticket.status) == status)
        query = query.order_by(col(Ticket.created_at).desc(), col(Ticket.id).desc()).limit(limit + 1)
        async with AsyncSession(engine) as session:
            rows = list((await session.exec(query)).all())
        return TicketPage(items=rows[:limit], next_cursor=str(rows[limit].id) if len(rows) > limit else None)

    yield app
    await engine.dispose()


def _project_of_path(project: str) -> str:
    return project


APPS = {"by us": by_us, REFERENCE: prepared, "by hand": by_hand, "SQLModel": sqlmodel, "bytes alone": bytes_alone}


# --- measuring --------------------------------------------------------------------------------------------------------


async def call(app: App) -> bytes:
    """Send one request and return the body of its answer."""
    body = bytearray()

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        assert message.get("status", 200) == 200, message
        body.extend(message.get("body", b""))

    path = f"/projects/{SLUG}/tickets"
    query = f"limit={ROWS}&status=OPEN".encode()
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http", "path": path}
    scope.update(raw_path=path.encode(), query_string=query, headers=[], root_path="", server=("x", 80), client=("y", 1))
    await app(scope, receive, send)
    return bytes(body)


async def latency(app: App, seconds: float) -> float:
    """Return the median seconds of one caller's requests."""
    samples = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        await call(app)
        samples.append(time.perf_counter() - began)
    return statistics.median(samples)


async def throughput(app: App, seconds: float) -> tuple[float, float]:
    """Return how many requests 16 callers finish in a second, and the seconds that one takes of this process's CPU."""
    finished, began, worked = 0, time.perf_counter(), time.process_time()

    async def caller() -> None:
        nonlocal finished
        while time.perf_counter() - began < seconds:
            await call(app)
            finished += 1

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return finished / (time.perf_counter() - began), (time.process_time() - worked) / finished


async def run(database: TestDatabase, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure all apps in rotation and return, by app, the ratios to the reference and the medians."""
    await fill(database)
    async with AsyncExitStack() as stack:
        apps = {name: await stack.enter_async_context(make(database)) for name, make in APPS.items()}
        ids = {name: [item["id"] for item in json.loads(await call(app))["items"]] for name, app in apps.items()}
        if len({tuple(each) for name, each in ids.items() if name != "bytes alone"}) != 1 or len(ids["by us"]) != ROWS:
            raise AssertionError("the apps do not answer with the same rows")
        for app in apps.values():
            await latency(app, seconds)  # warm
        seen: dict[str, dict[str, list[float]]] = {name: {"latency": [], "rate": [], "cpu": []} for name in apps}
        names = list(apps)
        gc.collect()
        gc.freeze()
        for number in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                seen[name]["latency"].append(await latency(apps[name], seconds))
                rate, cpu = await throughput(apps[name], seconds)
                seen[name]["rate"].append(rate)
                seen[name]["cpu"].append(cpu)
    return {name: _summary(found, seen[REFERENCE]) for name, found in seen.items()}


def _summary(found: dict[str, list[float]], reference: dict[str, list[float]]) -> dict[str, float]:
    def ratio(what: str) -> float:
        return statistics.median(mine / theirs for mine, theirs in zip(found[what], reference[what], strict=True))

    return {
        "latency_ratio": round(ratio("latency"), 2),
        "rate_ratio": round(ratio("rate"), 2),
        "cpu_ratio": round(ratio("cpu"), 2),
        "milliseconds": round(statistics.median(found["latency"]) * 1000, 3),
        "requests_a_second": round(statistics.median(found["rate"])),
    }


def main() -> int:
    """Run, print, and return 0, or 1 where the goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description="Serving 50 tickets as JSON.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.3, help="how long each app runs in a round, twice")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with choose_server() as server:
        results = asyncio.run(run(server.migrated(), options.rounds, options.seconds))
    is_met = results["by us"]["latency_ratio"] <= GOAL
    text = json.dumps({"goal": GOAL, "is_met": is_met, "apps": results}, indent=1) if options.json else _table(results)
    sys.stdout.write(f"{text}\n")
    return 0 if is_met else 1


def _table(results: dict[str, Any]) -> str:
    lines = [f"{'50 tickets as JSON':<20}{'latency':>10}{'CPU':>8}{'rate at 16':>12}{'ms':>10}{'requests/s':>12}"]
    for name, row in results.items():
        ratios = f"{row['latency_ratio']:>10.2f}{row['cpu_ratio']:>8.2f}{row['rate_ratio']:>12.2f}"
        lines.append(f"{name:<20}{ratios}{row['milliseconds']:>10.2f}{row['requests_a_second']:>12.0f}")
    return "\n".join([*lines, f"ratios are to {REFERENCE}; goal: by us at most {GOAL} of its latency"])


if __name__ == "__main__":
    sys.exit(main())
