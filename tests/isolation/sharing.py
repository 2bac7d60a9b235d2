"""Attacks by what a login may do without any project: on its own fences (family 27), and in what the server shares (family 30).

What is refused is refused by the role of a unit, by the login that it comes from, and in each way to get from one to the other.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import asyncpg
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.errors import ScopeError
from tests.isolation.arena import Arena, one_connection
from tests.isolation.statements import raw_connection
from tests.isolation.units import Script, only
from tests.isolation.writing import Undone

ROLES = ("SELECT 1", "RESET ROLE", "SET ROLE NONE")
"""What SQL by hand runs first: as the role of the unit, or as the login."""

FENCES = """
SELECT md5(string_agg(fence, ' ' ORDER BY fence)) FROM (
    SELECT p::text FROM pg_policy p
    UNION ALL SELECT format('%s %s %s %s', c.oid, c.relacl, c.relrowsecurity, c.relforcerowsecurity) FROM pg_class c
    UNION ALL SELECT format('%s %s', t.oid, t.tgenabled) FROM pg_trigger t WHERE NOT t.tgisinternal
    UNION ALL SELECT format('%s %s %s %s', f.oid, f.proacl, f.prosrc, f.prosecdef) FROM pg_proc f
    UNION ALL SELECT format('%s %s', e.oid, e.evtenabled) FROM pg_event_trigger e
    UNION ALL SELECT format('%s %s %s %s', r.oid, r.rolsuper, r.rolbypassrls, r.rolcreaterole) FROM pg_roles r
        WHERE r.rolname = ANY ($1::text[])
    UNION ALL SELECT format('%s %s', m.roleid, m.member) FROM pg_auth_members m WHERE m.member::regrole::text = ANY ($1::text[])
) AS standing (fence)
"""
"""A digest of all that keeps projects apart, and of what the roles of this database are."""

TAKING_DOWN = {
    "drop what it owns": "DROP OWNED BY CURRENT_USER",
    "drop what the role owns": "DROP OWNED BY derwin_app CASCADE",
    "drop what both own": "DROP OWNED BY SESSION_USER, CURRENT_USER",
    "row security off": "ALTER TABLE public.qa_tickets DISABLE ROW LEVEL SECURITY",
    "row security not forced": "ALTER TABLE public.qa_tickets NO FORCE ROW LEVEL SECURITY",
    "no policy": "DROP POLICY derwin_scope ON public.qa_tickets",
    "a wider policy": "ALTER POLICY derwin_scope ON public.qa_tickets USING (true)",
    "one more policy": "CREATE POLICY mine ON public.qa_tickets USING (true)",
    "triggers off": "ALTER TABLE public.qa_fix_attempts DISABLE TRIGGER USER",
    "no key": "ALTER TABLE public.qa_tickets DROP CONSTRAINT pk_qa_tickets CASCADE",
    "another scope": (
        "CREATE OR REPLACE FUNCTION public.derwin_scope() RETURNS uuid LANGUAGE sql STABLE AS 'SELECT NULL::uuid'"
    ),
    "no scope": "DROP FUNCTION public.derwin_scope() CASCADE",
    "a scope that anybody may make": "ALTER FUNCTION public.derwin_open(text) SECURITY INVOKER",
    "the guard of its fences off": "ALTER EVENT TRIGGER derwin_keep_fences DISABLE",
    "replicating": "SET session_replication_role = replica",
    "a login above policies": "ALTER ROLE CURRENT_USER BYPASSRLS",
    "a role above policies": "ALTER ROLE derwin_app BYPASSRLS",
    "a login that makes roles": "ALTER ROLE CURRENT_USER CREATEROLE",
    "a role that reads all": "GRANT pg_read_all_data TO CURRENT_USER",
    "the role of the admin door": "GRANT derwin_admin TO derwin_app",
    "the key": "GRANT SELECT ON derwin.scope_key TO derwin_app",
}

STORED = {
    "the scope": "derwin.project_id = '{B}'",
    "the role of the admin door": "role = 'derwin_admin'",
    "no row security": "row_security = off",
    "a search_path": "search_path = pg_temp, public",
    "another isolation": "default_transaction_isolation = 'serializable'",
    "only reading": "default_transaction_read_only = on",
    "a short timeout": "statement_timeout = 1",
    "another time zone": "timezone = 'Asia/Tokyo'",
    "other dates": "datestyle = 'German'",
    "sessions that end on errors": "exit_on_error = on",
    "fewer digits": "extra_float_digits = -15",
    "fewer hits": "gin_fuzzy_search_limit = 1",
}
"""What a login can store for itself: each connection that comes begins with it."""


def taking_down(statement: str) -> Any:
    async def run(arena: Arena) -> None:
        owner, roles = arena.shared.owner, [arena.shared.database.service.user, "derwin_app", "derwin_admin"]
        held = await owner.fetchval(FENCES, roles)
        scope = "derwin_scope_on_shard()" if arena.shared.is_distributed else "derwin_scope()"
        text = statement.replace("derwin_scope()", scope)
        for before in ROLES:
            try:
                async with arena.shared.narrow.project(arena.a.project_id) as session:
                    await session.sql.execute(sa.text(before))
                    await session.sql.execute(sa.text(text))
            except ScopeError:
                pass
            else:
                raise AssertionError(f"not refused after {before}: {text}")
            assert await owner.fetchval(FENCES, roles) == held, f"a fence is another one after {before}: {text}"

    return run


def storing(setting: str) -> Any:
    """The login stores a setting for itself; units of A, on connections that come then, are what they were.

    Those of a service that is started then, and those of one that runs already.
    """

    async def run(arena: Arena) -> None:
        shared = arena.shared
        login, name = shared.database.service.user, shared.database.owner.database
        connection = await asyncpg.connect(**shared.database.service.connect_arguments())
        try:
            async with Database(**one_connection(shared.database)) as running:
                pool = (await running.app_pool(read_only=False)).pool
                with contextlib.suppress(asyncpg.InsufficientPrivilegeError):  # better still
                    await connection.execute(
                        f'ALTER ROLE {login} IN DATABASE "{name}" SET {setting.format(B=arena.b.project_id)}'
                    )
                pool.forget_idle()
                async with Database(**one_connection(shared.database)) as started:
                    for db in (running, started):
                        async with db.project(arena.a.project_id) as session:
                            await only(session, repos.qa_tickets, arena.a)
                            await only(session, repos.qa_runs, arena.a)
                            sources = "SELECT count(*) FROM pg_settings WHERE source IN ('user', 'database user')"
                            assert not await session.sql.scalar(sa.text(sources)), "a session has what was stored"
        finally:
            await shared.owner.execute(f'ALTER ROLE {login} IN DATABASE "{name}" RESET ALL')
            await connection.close()

    return run


READ_ONCE = {
    "literals": "standard_conforming_strings = off",
    "quotes": "backslash_quote = off",
    "nulls": "transform_null_equals = on",
    "arrays": "array_nulls = off",
    "bytes": "bytea_output = 'escape'",
    "intervals": "IntervalStyle = 'sql_standard'",
    "times": "TimeZone = 'Pacific/Kiritimati'",
    "names": "search_path = ''",
    "generic plans": "plan_cache_mode = force_generic_plan",
}
"""Settings under which the server may read functions: it keeps what it read for as long as the session lives."""

HUMPS = "OrderTotal.compute: a b"


def reading(setting: str) -> Any:
    """A unit has its connection read the triggers under this setting; the next one writes there what it always writes."""

    async def run(arena: Arena) -> None:
        async with Database(**one_connection(arena.shared.database)) as db:
            await derived(db, arena, f"SET {setting}")
            poisoned = await derived(db, arena, "SELECT 1")
        async with Database(**one_connection(arena.shared.database)) as db:
            assert poisoned == await derived(db, arena, "SELECT 1"), f"{setting} is left behind"

    return run


WRITTEN = (
    """
    UPDATE public.qa_tickets SET title = $1 WHERE id = (SELECT min(id::text)::uuid FROM public.qa_tickets)
    RETURNING words::text
    """,
    """
    UPDATE public.rag_corpus SET problem = $1 WHERE id = (SELECT min(id::text)::uuid FROM public.rag_corpus)
    RETURNING words::text || md5(bits::text)
    """,
    """
    INSERT INTO public.audit_artifacts
        (project_id, kind, storage_uri, mime_type, byte_size, content_hash, compliance_mode, retention_until)
    SELECT id, 'LOG', 's3://' || $1, 'text/plain', 1, repeat('0', 64), 'GDPR', now() FROM public.projects
    RETURNING extract(epoch FROM retention_until - now())::text
    """,
)
"""What triggers make of a ticket, a past fix and evidence."""


async def derived(db: Database, arena: Arena, before: str) -> list[str]:
    """Write by hand in a unit of A that is undone, and return what the triggers made of it."""
    found: list[str] = []
    with contextlib.suppress(Undone):
        async with db.project(arena.a.project_id) as session:
            raw = await raw_connection(session)
            await raw.execute(before)
            found = [await raw.fetchval(statement, HUMPS) for statement in WRITTEN]
            raise Undone
    return found


# --- family 30 --------------------------------------------------------------------------------------------------------

KEPT_BY_THE_SERVER = {
    "a large object": "SELECT lo_create(0)",
    "a large object of bytes": "SELECT lo_from_bytea(0, 'x')",
    "reading a large object": "SELECT lo_get(1)",
    "writing a large object": "SELECT lo_put(1, 0, 'x')",
    "opening a large object": "SELECT lo_open(1, 131072)",
    "removing a large object": "SELECT lo_unlink(1)",
    "a message in the log of changes": "SELECT pg_logical_emit_message(false, 'x', 'y')",
    "a file": "COPY public.qa_tickets TO '/tmp/spied'",
    "a program": "COPY public.qa_tickets TO PROGRAM 'cat'",
    "a file that is read": "SELECT pg_read_file('PG_VERSION')",
    "a lock by number": "SELECT pg_advisory_lock_shared(7654321)",
    "a lock by number, for the transaction": "SELECT pg_advisory_xact_lock(7654321)",
    "a lock by number, if it is free": "SELECT pg_try_advisory_lock(7654321)",
    "all places of the table of locks": "SELECT count(pg_advisory_xact_lock_shared(i)) FROM generate_series(1, 1000000) AS i",
    "a slot": "SELECT pg_create_logical_replication_slot('spy', 'test_decoding')",
}


def keeping(statement: str) -> Any:
    async def run(arena: Arena) -> None:
        for before in ROLES:
            try:
                async with arena.shared.narrow.project(arena.a.project_id) as session:
                    await session.sql.execute(sa.text(before))
                    await session.sql.execute(sa.text(statement))
            except ScopeError:
                continue
            raise AssertionError(f"not refused after {before}: {statement}")

    return run


def signalling(function: str) -> Any:
    """The session of another login goes on, and a unit of B, whose login is A's: here both are open."""

    async def run(arena: Arena) -> None:
        pid = await arena.shared.owner.fetchval("SELECT pg_backend_pid()")
        await keeping(f"SELECT {function}({pid})")(arena)
        assert await arena.shared.owner.fetchval("SELECT pg_backend_pid()") == pid
        async with arena.shared.wide.project(arena.b.project_id) as other:
            connection = await raw_connection(other)
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            await keeping(f"SELECT {function}({pid})")(arena)
            await keeping(f"SELECT {function}(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")(arena)
            assert await connection.fetchval("SELECT pg_backend_pid()") == pid

    return run


STARTED = "SELECT pg_backend_pid(), now()"


async def ending_by_a_guess(arena: Arena) -> None:
    """The function that ends what was given up takes no word but that of who has the key, and none for another process."""
    async with arena.shared.wide.project(arena.b.project_id) as other:
        connection = await raw_connection(other)
        pid, started = await connection.fetchrow(STARTED)
        async with arena.shared.wide.project(arena.a.project_id) as own:
            own_pid, own_start = await (await raw_connection(own)).fetchrow(STARTED)
        keys = (await arena.shared.wide.app_pool(read_only=False)).preamble.seal
        assert keys is not None
        seal = keys.current
        for mac in ("", "0" * 48, seal.end_of_process(own_pid, own_start), seal.end_of_process(pid, own_start)):
            await keeping(f"SELECT public.derwin_end_process({pid}, '{started.isoformat()}', '{mac}')")(arena)
        assert await connection.fetchval("SELECT pg_backend_pid()") == pid


async def a_snapshot_of_another_unit(arena: Arena) -> None:
    """A session of the login sees under B's snapshot what it sees without: nothing, before a scope is open."""
    async with arena.shared.wide.project(arena.b.project_id) as other:
        snapshot = await (await raw_connection(other)).fetchval("SELECT pg_export_snapshot()")
        connection = await asyncpg.connect(**arena.shared.database.service.connect_arguments())
        try:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            await connection.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
            await connection.execute("SET LOCAL ROLE derwin_app")
            try:
                rows = await connection.fetch("SELECT id FROM public.qa_tickets")
            except asyncpg.PostgresError as error:
                assert error.sqlstate == "DW010", error  # noqa: PT017  # no scope is open
            else:
                raise AssertionError(f"a snapshot without a scope reads {len(rows)} rows")
        finally:
            await connection.close()


def sharing_scripts() -> Iterator[Script]:
    for name, statement in TAKING_DOWN.items():
        yield Script(27, name, taking_down(statement))
    for name, setting in STORED.items():
        yield Script(27, f"{name}, stored for the login", storing(setting))
    for name, setting in READ_ONCE.items():
        yield Script(15, f"how functions read {name}, left behind", reading(setting))
    for name, statement in KEPT_BY_THE_SERVER.items():
        yield Script(30, name, keeping(statement))
    for function in ("pg_terminate_backend", "pg_cancel_backend"):
        yield Script(30, f"{function} of other sessions", signalling(function))
    for run in (a_snapshot_of_another_unit, ending_by_a_guess):
        yield Script(30, run.__name__.replace("_", " "), run)
