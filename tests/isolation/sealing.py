"""Attacks on the sealed scope, and on what a unit leaves on its connection (families 14 and 15)."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from typing import Any

import asyncpg

from derwin_db import repos
from derwin_db.deploy import rotation
from derwin_db.errors import ScopeError
from derwin_db.isolation.seal import Kind
from tests.isolation.arena import Arena
from tests.isolation.keys_of_old import opened_by, server_time
from tests.isolation.statements import raw_connection
from tests.isolation.units import Script, only

TOKEN = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\.[0-9a-f]{16,}")
"""A project with a MAC, or with enough of one to go on with."""

SPYING = (
    "SELECT query FROM pg_stat_activity",
    "SELECT pg_stat_get_backend_activity(id) FROM pg_stat_get_backend_idset() AS id",
    "SELECT statement FROM pg_prepared_statements",
    "SELECT statement FROM pg_cursors",
    "SELECT current_query()",
    "SELECT setting FROM pg_settings WHERE name NOT LIKE 'derwin.%'",
    "SELECT sourcefile || setting FROM pg_file_settings",
)


async def the_token_of_others_cannot_be_read(arena: Arena) -> None:
    """Poll all that shows statements, as the login itself, while units of B are opened."""
    spy = await asyncpg.connect(**arena.shared.database.service.connect_arguments())
    seen: set[str] = set()
    try:
        for _ in range(25):
            async with arena.shared.wide.project(arena.b.project_id) as session:
                opening = asyncio.ensure_future(session._connected())
                while not opening.done():
                    seen.update(row[0] or "" for row in await spy.fetch(SPYING[0]))
                await opening
                seen.update(row[0] or "" for row in await spy.fetch(SPYING[0]))
                await only(session, repos.qa_tickets, arena.b)
    finally:
        await spy.close()
    texts = [text for text in seen if "derwin" in text or text.startswith("/*")]
    assert any(text.startswith("/*") for text in texts), "no unit was seen to open: the attack proves nothing"
    found = [text for text in seen if TOKEN.search(text) or str(arena.b.project_id) in text]
    assert not found, f"the token can be read: {found[0][-120:]}"


async def its_own_token_cannot_be_read(arena: Arena) -> None:
    """A token that A can read could be kept, and used when the backend serves A no more."""
    async with arena.shared.narrow.project(arena.a.project_id) as session:
        await only(session, repos.qa_tickets, arena.a)
        raw = await raw_connection(session)
        for query in SPYING:
            with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
                async with raw.transaction() if not raw.is_in_transaction() else contextlib.AsyncExitStack():
                    await raw.execute("SAVEPOINT spying")
                    try:
                        rows = await raw.fetch(query)
                    except asyncpg.InsufficientPrivilegeError:
                        await raw.execute("ROLLBACK TO spying")
                        continue
                    assert not [row[0] for row in rows if row[0] and TOKEN.search(row[0])], query


async def the_scope_of_an_earlier_unit_is_worth_nothing(arena: Arena) -> None:
    async with arena.shared.narrow.project(arena.b.project_id) as session:
        raw = await raw_connection(session)
        stolen = await raw.fetchval("SELECT current_setting('derwin.project_id')")
        backend = await raw.fetchval("SELECT pg_backend_pid()")
    async with arena.shared.narrow.project(arena.a.project_id) as session:
        raw = await raw_connection(session)
        assert await raw.fetchval("SELECT pg_backend_pid()") == backend, "another backend: the attack proves nothing"
        await replayed(raw, stolen)


async def the_scope_of_another_open_unit_is_worth_nothing(arena: Arena) -> None:
    async with arena.shared.wide.project(arena.b.project_id) as other, arena.shared.wide.project(arena.a.project_id) as session:
        stolen = await (await raw_connection(other)).fetchval("SELECT current_setting('derwin.project_id')")
        await replayed(await raw_connection(session), stolen)


async def each_kind_of_value_is_worth_nothing_where_another_belongs(arena: Arena) -> None:
    """Tokens open, scopes are set: each where the other belongs, and both when they are old."""
    seal, shared = await rotation.read_key(arena.shared.owner), arena.shared
    async with shared.wide.project(arena.b.project_id) as other:
        scope = await (await raw_connection(other)).fetchval("SELECT current_setting('derwin.project_id')")
    async with shared.narrow.project(arena.a.project_id) as session:
        raw = await raw_connection(session)
        pid, now = raw.get_server_pid(), await server_time(raw)
        made = {kind: (None if kind in (Kind.OPENS_ANYWHERE, Kind.SCOPES_ANYWHERE) else pid) for kind in Kind}
        opens = [seal.token(kind, arena.b.project_id, now, made[kind]) for kind in (Kind.OPENS, Kind.OPENS_ANYWHERE)]
        alone = [seal.token(kind, arena.b.project_id, now, made[kind]) for kind in (Kind.SCOPES, Kind.SCOPES_ANYWHERE)]
        old = [seal.token(kind, arena.b.project_id, now - 10_000_000, made[kind]) for kind in Kind]
        for value in (scope, *opens, *alone, *old):
            await refused(raw, "SELECT public.derwin_open($1)", value)
        for value in (scope, *opens, *old):
            await refused(raw, "SELECT set_config('derwin.project_id', $1, true)", value)


async def refused(raw: Any, statement: str, value: str) -> None:
    await raw.execute("SAVEPOINT replaying")
    try:
        await raw.fetch(statement, value)
        rows = await raw.fetch("SELECT id FROM public.qa_tickets")
    except asyncpg.PostgresError:
        await raw.execute("ROLLBACK TO replaying")
        return
    raise AssertionError(f"{statement} with {value[37:38]} reads {len(rows)} rows")


async def replayed(raw: Any, stolen: str) -> None:
    """Try a scope that was valid elsewhere, in each way to set one."""
    for statement, arguments in (
        ("SELECT set_config('derwin.project_id', $1, true)", (stolen,)),
        ("SELECT public.derwin_open($1)", (stolen,)),
    ):
        await raw.execute("SAVEPOINT replaying")
        try:
            await raw.fetch(statement, *arguments)
            rows = await raw.fetch("SELECT id FROM public.qa_tickets")
        except asyncpg.PostgresError:
            await raw.execute("ROLLBACK TO replaying")
            continue
        raise AssertionError(f"{statement} with a stolen value reads {len(rows)} rows")


async def a_token_of_another_backend_is_worth_nothing(arena: Arena) -> None:
    """A token is made for one backend: one that leaks elsewhere opens nothing here."""
    seal = await rotation.read_key(arena.shared.owner)
    async with arena.shared.narrow.project(arena.a.project_id) as session:
        raw = await raw_connection(session)
        pid = await raw.fetchval("SELECT pg_backend_pid()")
        now = await server_time(raw)
        for wrong in (pid + 1, pid - 1, 0, 2**31 - 1):
            await raw.execute("SAVEPOINT replaying")
            try:
                await raw.fetch("SELECT public.derwin_open($1)", seal.token(Kind.OPENS, arena.b.project_id, now, wrong))
            except asyncpg.PostgresError as error:
                assert error.sqlstate == "DW004"  # noqa: PT017  # what comes after matters too
                await raw.execute("ROLLBACK TO replaying")
            else:
                raise AssertionError("a token of another backend opens this one")


async def a_key_of_before_is_worth_nothing(arena: Arena) -> None:
    """A rotation ends the former key: what it made opens no project, in any form."""
    shared = arena.shared
    former = await rotation.read_key(shared.owner)
    await rotation.start_rotation(shared.owner)
    assert await opened_by(former, shared.database, arena.b.project_id), "it opens nothing before: the attack proves nothing"
    await rotation.finish_rotation(shared.owner)
    opened = await opened_by(former, shared.database, arena.b.project_id)
    assert not opened, f"the former key opens B: {sorted(kind.name for kind in opened)}"
    async with shared.narrow.project(arena.b.project_id) as session:
        await only(session, repos.qa_tickets, arena.b)


# --- family 15: what a unit leaves behind -----------------------------------------------------------------------------

LEFTOVERS = {
    "a setting": ("SET work_mem = '1234kB'", "SELECT current_setting('work_mem') = '1234kB'"),
    "a setting of its own": ("SET derwin.remains = 'yes'", "SELECT current_setting('derwin.remains', true) = 'yes'"),
    "a scope for the session": ("SET derwin.project_id = 'x'", "SELECT current_setting('derwin.project_id', true) = 'x'"),
    "search_path": ("SET search_path = pg_temp, public", "SELECT current_setting('search_path') LIKE 'pg_temp%'"),
    "the time zone": ("SET timezone = 'Asia/Tokyo'", "SELECT current_setting('timezone') = 'Asia/Tokyo'"),
    "read only": (
        "SET default_transaction_read_only = on", "SELECT current_setting('default_transaction_read_only')::bool"
    ),
    "row_security": ("SET row_security = off", "SELECT NOT current_setting('row_security')::bool"),
    "no timeout": ("SET statement_timeout = 0", "SELECT current_setting('statement_timeout') = '0'"),
    "the role for the session": ("SET ROLE derwin_app", None),
    "a held cursor": ("DECLARE held CURSOR WITH HOLD FOR SELECT * FROM public.qa_tickets",
                      "SELECT EXISTS (SELECT FROM pg_cursors WHERE name = 'held')"),
    "a prepared statement": ("PREPARE spy AS SELECT * FROM public.qa_tickets",
                             "SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE name = 'spy')"),
    "prepared statements under the driver's names": (None, None),
    "an advisory lock": ("SELECT pg_advisory_lock(7654321)",
                         "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"),
    "a channel": ("LISTEN spy", "SELECT EXISTS (SELECT FROM pg_listening_channels())"),
}  # fmt: skip
"""What a unit does, and what shows it to the next one on the same connection."""


class Left(Exception):
    pass


async def _leave(arena: Arena, statement: str | None, end: str) -> None:
    async with arena.shared.narrow.project(arena.a.project_id) as session:
        await only(session, repos.qa_tickets, arena.a)
        raw = await raw_connection(session)
        if statement is None:  # a statement of A's own under each name that the driver has given, or will give next
            await raw.execute("DEALLOCATE ALL")
            for number in range(200):
                await raw.execute(f"PREPARE __asyncpg_stmt_{number:x}__ AS SELECT 'spy'::text AS spy, $1::uuid, $2::uuid")
        else:
            await raw.execute(statement)
        if end == "an exception":
            raise Left
        if end == "a failed statement":
            await raw.execute("SELECT 1 / 0")
        if end == "a cancellation":
            task = asyncio.current_task()
            asyncio.get_running_loop().call_soon(task.cancel)
            await raw.execute("SELECT pg_sleep(1)")
        if end == "a raw commit":
            await raw.execute("COMMIT")


ENDS = ("a commit", "an exception", "a failed statement", "a cancellation", "a raw commit")


def leaving(name: str, end: str) -> Any:
    statement, probe = LEFTOVERS[name]

    async def run(arena: Arena) -> None:
        task = asyncio.ensure_future(_leave(arena, statement, end))
        with contextlib.suppress(Left, Exception, asyncio.CancelledError):
            await task
        async with arena.shared.narrow.project(arena.b.project_id) as session:
            await only(session, repos.qa_tickets, arena.b)
            assert not (probe and await (await session._connected()).fetchval(probe)), f"{name} is there after {end}"
            assert await repos.qa_tickets.find(session, arena.a.ids("qa_tickets")[0]) is None
            assert await repos.qa_tickets.find(session, arena.b.ids("qa_tickets")[0]) is not None
        async with arena.shared.narrow.admin(reason="the admin door after it") as admin:
            assert (await repos.projects.get(admin, arena.a.project_id)).id == arena.a.project_id
        assert arena.shared.narrow.connections_in_use() == 0

    return run


STAYING = {
    "a listener": lambda raw: raw.add_listener("spy", print),
    "a log listener": lambda raw: raw.add_log_listener(print),
    "a query logger": lambda raw: raw.add_query_logger(print),
    "a termination listener": lambda raw: raw.add_termination_listener(print),
    "a codec": lambda raw: raw.set_type_codec("jsonb", schema="pg_catalog", encoder=str, decoder=str),
    "a reset": lambda raw: raw.reset(),
    "the pool's proxy": lambda raw: raw._con,
}
"""What Python code could leave on the driver's connection, to see or change what later units do."""


def leaving_on_the_driver(call: Any) -> Any:
    async def run(arena: Arena) -> None:
        async with arena.shared.narrow.project(arena.a.project_id) as session:
            raw = await raw_connection(session)
            try:
                got = call(raw)
                if asyncio.iscoroutine(got):
                    await got
            except ScopeError:
                return
            raise AssertionError("it is not refused")

    return run


def sealing_scripts() -> Iterator[Script]:
    for function in (
        the_token_of_others_cannot_be_read, its_own_token_cannot_be_read, the_scope_of_an_earlier_unit_is_worth_nothing,
        the_scope_of_another_open_unit_is_worth_nothing, a_token_of_another_backend_is_worth_nothing,
        each_kind_of_value_is_worth_nothing_where_another_belongs, a_key_of_before_is_worth_nothing,
    ):  # fmt: skip
        yield Script(14, function.__name__.replace("_", " "), function)
    for name, call in STAYING.items():
        yield Script(15, f"{name} on the driver's connection", leaving_on_the_driver(call))
    for name in LEFTOVERS:
        for end in ENDS:
            yield Script(15, f"{name}, then {end}", leaving(name, end))
