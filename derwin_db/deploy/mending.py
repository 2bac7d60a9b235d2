"""What takes a fence up again that somebody took down: each function mends one kind of finding, and is idempotent.

They run as the owner, outside of a transaction. Nothing here gives more than the migrations do, removes data, or touches what
is not this package's own. `derwin_db.doctor.mending` says which finding is mended by which, and why that is safe.
"""

from derwin_db import sql
from derwin_db.connection.driver import Connection, DriverError
from derwin_db.connection.facts import read_facts
from derwin_db.deploy.fences import remake_fences
from derwin_db.deploy.logins import tidy_login
from derwin_db.errors import Conflict
from derwin_db.isolation.catalog.code import expected_triggers
from derwin_db.isolation.catalog.policies import row_security
from derwin_db.isolation.catalog.statistics import value_statistics
from derwin_db.isolation.catalog.tables import OURS, TABLES
from derwin_db.translation.driver_errors import sqlstate_of

LOCK_TIMEOUT = "SET lock_timeout = '2s'; SET search_path = pg_catalog"
"""Before the first: no lock is waited for longer, so that live traffic never stands behind one."""

_PATIENT = "SET lock_timeout = '10min'"

_LEFT = r"_cc(new|old)\d*$"
"""The names that an interrupted REINDEX CONCURRENTLY leaves behind. Source: PostgreSQL 18, REINDEX, rebuilding concurrently."""

_UNIQUE_VIOLATION = "23505"


async def mend_fences(connection: Connection, _login: str) -> list[str]:
    """Make missing and changed policies, and missing grants, again."""
    return await remake_fences(connection)


async def mend_row_security(connection: Connection, _login: str) -> list[str]:
    """Turn row level security on, and force it upon the owner, where it is not."""
    off, unforced = await row_security(connection)
    there = {row["name"] for row in await connection.fetch(f"SELECT t.relname AS name FROM pg_class t WHERE {OURS}", TABLES)}
    done = []
    for name in (name for name in TABLES if name in there):
        actions = ["ENABLE"] * (name in off) + ["FORCE"] * (name in unforced)
        if actions:
            clauses = ", ".join(f"{action} ROW LEVEL SECURITY" for action in actions)
            await connection.execute(f"ALTER TABLE public.{name} {clauses}")
            done.append(f"{name}: {clauses}")
    return done


async def mend_triggers(connection: Connection, _login: str) -> list[str]:
    """Have the triggers of this package fire ALWAYS, where they are there and do not. One that is missing stays missing."""
    rows = await connection.fetch(
        f"""
        SELECT t.relname AS name, g.tgname FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid
        WHERE NOT g.tgisinternal AND g.tgenabled <> 'A' AND {OURS} ORDER BY 1, 2
        """,
        TABLES,
    )
    expected = expected_triggers(is_distributed=False)
    ours = [(row["name"], row["tgname"]) for row in rows if (row["name"], row["tgname"]) in expected]
    for table, name in ours:
        await connection.execute(f"ALTER TABLE public.{table} ENABLE ALWAYS TRIGGER {name}")
    return [f"{name} of {table}" for table, name in ours]


async def mend_indexes(connection: Connection, _login: str) -> list[str]:
    """Build invalid indexes again, and remove what an interrupted rebuild left. Reads and writes go on meanwhile.

    Errors:
        Conflict while an index is being built, since that one is invalid until it is ready, or where its rows are not unique.
    """
    if await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE datname = current_database())"
    ):
        raise Conflict("An index is being built now. Look again when that is done.")
    rows = await connection.fetch(
        f"""
        SELECT x.indexrelid::regclass::text AS name, i.relname ~ $2 AS is_left FROM pg_class t
        JOIN pg_index x ON x.indrelid = t.oid JOIN pg_class i ON i.oid = x.indexrelid
        WHERE {OURS} AND NOT (x.indisvalid AND x.indisready AND x.indislive) ORDER BY 2 DESC, 1
        """,
        TABLES,
        _LEFT,
    )
    await connection.execute(_PATIENT)  # nobody stands behind these waits
    try:
        for row in rows:
            await (_remove_index if row["is_left"] else _rebuild)(connection, row["name"])
    finally:
        await connection.execute(LOCK_TIMEOUT)
    return [f"{row['name']} {'removed' if row['is_left'] else 'built again'}" for row in rows]


async def _rebuild(connection: Connection, name: str) -> None:
    try:
        await connection.execute(f"REINDEX INDEX CONCURRENTLY {name}")
    except DriverError as error:
        if sqlstate_of(error) != _UNIQUE_VIOLATION:
            raise
        await _remove_index(connection, f"{name}_ccnew")
        raise Conflict(f"{name} can't be built: rows are there twice. Find and mend those first.") from None


async def _remove_index(connection: Connection, name: str) -> None:
    await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


async def mend_statistics(connection: Connection, _login: str) -> list[str]:
    """Gather no statistics of values, and forget those that were gathered, where this login may."""
    found = await value_statistics(connection)
    for table in TABLES:
        for statement in sql.read_current("no_statistics", table=table):
            await connection.execute(statement)
    if (await read_facts(connection)).version >= 180000:
        await connection.execute(
            """
            SELECT pg_clear_attribute_stats('public', t.relname::text, a.attname::text, false)
            FROM pg_class t JOIN pg_attribute a ON a.attrelid = t.oid
            WHERE t.relnamespace = 'public'::regnamespace AND t.relname = ANY ($1::name[]) AND a.attstattarget = 0
            """,
            TABLES,
        )
    return [one.partition(" ")[0] for one in found]


async def mend_outer_grants(connection: Connection, _login: str) -> list[str]:
    """Take temporary tables, and creating in the schema, from PUBLIC: what each migration does too."""
    for statement in sql.read_current("revoke_temporary"):
        await connection.execute(statement)
    return ["TEMPORARY on the database and CREATE on the schema public, from PUBLIC"]


async def mend_dropping(connection: Connection, _login: str) -> list[str]:
    """Have the event trigger that keeps the fences fire ALWAYS."""
    await connection.execute("ALTER EVENT TRIGGER derwin_keep_fences ENABLE ALWAYS")
    return ["derwin_keep_fences"]


async def mend_login(connection: Connection, login: str) -> list[str]:
    """Remove the settings that are stored for the service's login, and what it inherits."""
    await tidy_login(connection, login)
    return [login]
