"""Attacks on the queue over all projects, and through what workers are told of it (family 36).

The door that workers have is a token of the seal's key: SQL in a session has none, whoever it says it is.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import sqlalchemy as sa

from derwin_db import repos
from derwin_db.deploy import rotation
from derwin_db.errors import DerwinError
from derwin_db.isolation.seal import Kind
from derwin_db.models import QARun
from derwin_db.testing.examples import example
from derwin_db.workers import Job
from derwin_db.workers.queue import CHANNEL, _stalled_statement, _waiting_statement
from tests.isolation.arena import Arena
from tests.isolation.keys_of_old import server_time
from tests.isolation.sealing import SPYING, TOKEN
from tests.isolation.sharing import ROLES
from tests.isolation.statements import raw_connection
from tests.isolation.units import Script, only

NOBODY = UUID(int=0)

SCOPE = "SELECT set_config('derwin.project_id', $1, true)"

BY_HAND = {
    "reading it": "SELECT project FROM derwin.open_runs",
    "counting it": "SELECT count(*) FROM derwin.open_runs",
    "writing it": "INSERT INTO derwin.open_runs VALUES ('{B}', gen_random_uuid(), false, now())",
    "emptying it": "DELETE FROM derwin.open_runs",
    "locking it": "LOCK TABLE derwin.open_runs",
    "its trigger on a table of one's own": (
        "CREATE TEMP TABLE mine (LIKE public.qa_runs); CREATE TRIGGER mine AFTER INSERT ON mine FOR EACH ROW "
        "EXECUTE FUNCTION public.derwin_note_open_run()"
    ),
    "its check": "SELECT public.derwin_check_asker('x')",
    "asking without a token": "SELECT * FROM public.derwin_waiting(NULL, '{nobody}', 10, NULL)",
    "asking with an empty token": "SELECT * FROM public.derwin_waiting('', '{nobody}', 10, NULL)",
    "asking with a made-up token": "SELECT * FROM public.derwin_waiting('{nobody}.6' || repeat('0', 63), '{nobody}', 10, NULL)",
    "asking with the scope": (
        "SELECT * FROM public.derwin_waiting(current_setting('derwin.project_id'), '{nobody}', 10, NULL)"
    ),
    "asking for stalled ones": "SELECT * FROM public.derwin_stalled('', '1 second')",
    "asking for stalled ones with the scope": "SELECT * FROM public.derwin_stalled(current_setting('derwin.project_id'), '0')",
    "asking through another search_path": (
        "SET LOCAL search_path = pg_temp, public; SELECT * FROM public.derwin_waiting('', '{nobody}', 10, NULL)"
    ),
    "functions of one's own": "ALTER FUNCTION public.derwin_waiting(text, uuid, integer, integer) SECURITY INVOKER",
    "the trigger off": "ALTER TABLE public.qa_runs DISABLE TRIGGER derwin_note_open_run",
}
"""What SQL in a session may try. Each is refused: as the role of the unit, and as the login."""


def by_hand(statement: str) -> Any:
    async def run(arena: Arena) -> None:
        text = statement.format(B=arena.b.project_id, nobody=NOBODY)
        for before in ROLES:
            try:
                async with arena.shared.narrow.project(arena.a.project_id) as session:
                    await session.sql.execute(sa.text(before))
                    raw = await raw_connection(session)
                    rows = await (raw.execute(text) if ";" in text else raw.fetch(text))
            except DerwinError:
                continue
            raise AssertionError(f"not refused after {before}: {text} gives {rows}")

    return run


async def tokens_of_other_kinds(arena: Arena) -> None:
    """What opens a project, or is the scope of a statement, asks nothing; what asks, opens nothing; and all of it ends."""
    seal = await rotation.read_key(arena.shared.owner)
    anywhere = (Kind.OPENS_ANYWHERE, Kind.SCOPES_ANYWHERE, Kind.ASKS_ANYWHERE)
    async with arena.shared.narrow.project(arena.a.project_id) as session:
        raw = await raw_connection(session)
        pid, now = raw.get_server_pid(), await server_time(raw)
        begun = await raw.fetchval("SELECT (extract(epoch FROM now()) * 1000000)::bigint")

        def made(kind: Kind, at: int, backend: int = pid) -> str:
            return seal.token(kind, arena.b.project_id, at, None if kind in anywhere else backend)

        for kind in Kind:
            asks = kind in (Kind.ASKS, Kind.ASKS_ANYWHERE)
            foreign = [made(kind, now - 10_000_000), made(kind, begun + 1_000_001)] if asks else [made(kind, now)]
            foreign += [made(kind, now, pid + 1)] if kind is Kind.ASKS else []
            for token in foreign:
                await refused(raw, "SELECT * FROM public.derwin_waiting($1, $2, 10, NULL)", token, NOBODY)
            if asks:
                for good in (made(kind, now), made(kind, begun + 1_000_000)):
                    await raw.fetch("SELECT * FROM public.derwin_waiting($1, $2, 10, NULL)", good, NOBODY)
                await refused(raw, "SELECT public.derwin_open($1)", made(kind, now))
                await refused(raw, SCOPE, made(kind, now))
        await only(session, repos.qa_tickets, arena.a)


async def refused(raw: Any, statement: str, *arguments: Any) -> None:
    await raw.execute("SAVEPOINT asking")
    try:
        rows = await raw.fetch(statement, *arguments)
        rows += await raw.fetch("SELECT id FROM public.qa_tickets") if statement == SCOPE else []
    except asyncpg.PostgresError:
        await raw.execute("ROLLBACK TO asking")
        return
    raise AssertionError(f"{statement} gives {len(rows)} rows")


async def ask(arena: Arena) -> list[UUID]:
    async with arena.shared.wide.queue() as session:
        return await session.ask(_waiting_statement(), {"last": NOBODY, "most": 1000, "at_once": None})


async def the_token_of_a_worker(arena: Arena) -> None:
    """Poll all that shows statements, as the login itself, while a worker asks."""
    spy = await asyncpg.connect(**arena.shared.database.service.connect_arguments())
    seen: set[str] = set()
    try:
        for _ in range(25):
            asking = asyncio.ensure_future(ask(arena))
            while not asking.done():
                seen.update(row[0] or "" for row in await spy.fetch(SPYING[0]))
            assert arena.b.project_id in await asking, "nothing was asked: the attack proves nothing"
            seen.update(row[0] or "" for row in await spy.fetch(SPYING[0]))
    finally:
        await spy.close()
    assert any("derwin_waiting" in text for text in seen), "no worker was seen: the attack proves nothing"
    found = [text for text in seen if TOKEN.search(text) or str(arena.b.project_id) in text]
    assert not found, f"what a worker sends can be read: {found[0][-120:]}"


async def a_worker_is_told_ids_alone(arena: Arena) -> None:
    """What the door gives is ids of projects that have something to do, and no other one, whatever A has in its rows."""
    owner = arena.shared.owner
    waiting = {row[0] for row in await owner.fetch("SELECT DISTINCT project FROM derwin.open_runs WHERE NOT is_running")}
    assert set(await ask(arena)) == waiting
    async with arena.shared.wide.queue() as session:
        assert await session.ask(_stalled_statement(), {"older_than": timedelta(days=365)}) == []
    try:
        async with arena.shared.wide.queue() as session:
            rows = (await session.sql.execute(sa.text("SELECT id FROM public.qa_runs"))).all()
    except DerwinError:
        return
    raise AssertionError(f"a worker's session reads {len(rows)} runs")


async def a_message_of_a_commit(arena: Arena) -> None:
    """Whoever listens hears that something was queued, and not what, by whom or for whom."""
    heard: list[str] = []
    arrived = asyncio.Event()
    spy = await asyncpg.connect(**arena.shared.database.service.connect_arguments())

    def hear(_connection: Any, _pid: int, _channel: str, said: object) -> None:
        heard.append(str(said))
        arrived.set()

    try:
        await spy.add_listener(CHANNEL, hear)
        async with arena.shared.wide.project(arena.b.project_id) as session:
            run = await repos.qa_runs.enqueue(session, example(repos.qa_runs.create_model))
        async with asyncio.timeout(10):
            await arrived.wait()
        async with arena.shared.wide.project(arena.b.project_id) as session:
            await repos.qa_runs.delete(session, run.id)
    finally:
        await spy.close()
    assert heard == [""], heard


async def a_run_that_says_it_is_of_another_project(arena: Arena) -> None:
    """SQL by hand in A moves a run of A into B: refused, and B's queue is what it was."""
    owner = arena.shared.owner
    query = "SELECT array_agg((project, run, is_running, since) ORDER BY run) FROM derwin.open_runs WHERE project = $1"
    held = await owner.fetchval(query, arena.b.project_id)
    for change in ("project_id = '{B}'", "project_id = '{B}', status = 'QUEUED'"):
        with contextlib.suppress(Exception):
            async with arena.shared.narrow.project(arena.a.project_id) as session:
                text = f"UPDATE public.qa_runs SET {change.format(B=arena.b.project_id)}"
                await session.sql.execute(sa.text(text))
    assert await owner.fetchval(query, arena.b.project_id) == held


async def a_job_whose_row_names_another_project(arena: Arena) -> None:
    """The function of a worker may do what it likes with the row that it is given: its sessions are those of the claim."""
    async with arena.shared.wide.project(arena.a.project_id) as session:
        run: QARun = (await repos.qa_runs.list(session, limit=1)).items[0]
    job = Job(arena.shared.wide, run, "w")
    for change in (
        lambda: setattr(job.run, "project_id", arena.b.project_id),
        lambda: setattr(job, "run", QARun(project_id=arena.b.project_id, id=run.id)),
        lambda: setattr(job, "project_id", arena.b.project_id),
        lambda: setattr(job, "_project_id", arena.b.project_id),
    ):
        with contextlib.suppress(AttributeError):
            change()
        assert job.project_id == arena.a.project_id
        async with job.project() as session:
            await only(session, repos.qa_tickets, arena.a)


def queue_scripts() -> Iterator[Script]:
    for name, statement in BY_HAND.items():
        yield Script(36, name, by_hand(statement))
    for function in (
        tokens_of_other_kinds, the_token_of_a_worker, a_worker_is_told_ids_alone, a_message_of_a_commit,
        a_run_that_says_it_is_of_another_project, a_job_whose_row_names_another_project,
    ):  # fmt: skip
        yield Script(36, function.__name__.replace("_", " "), function)
