"""The table of the revision: a name of its own, so that a service's Alembic may have `alembic_version`.

Before the revision `MOVED` it was `alembic_version`, and the revisions of then still grant on a table of that name. So where
the schema is older, a table of that name is kept, with our revision in it for code of that time; what another chain has in it
is left alone.
"""

from collections.abc import Collection

from derwin_db.connection.driver import Connection
from derwin_db.sql import VERSION_TABLE

MOVED = "f3c9a1e07b52"
"""The revision from which on the table has its own name."""

_FORMER = "alembic_version"
_CREATE = """
CREATE TABLE IF NOT EXISTS public.{name} (version_num varchar(32) NOT NULL, CONSTRAINT {name}_pkc PRIMARY KEY (version_num))
"""


async def read_version(connection: Connection, known: Collection[str]) -> str | None:
    """Return the revision, from wherever it is kept; `known` are the revisions of this package."""
    former = await _former_rows(connection, known)
    if former:
        return former[0]
    if not await _exists(connection, VERSION_TABLE):
        return None
    rows = f"SELECT string_agg(version_num, ', ' ORDER BY version_num) FROM public.{VERSION_TABLE}"
    version: str | None = await connection.fetchval(rows)
    return version


async def read_note(connection: Connection) -> str | None:
    """Return what whoever migrated left at the table: see `derwin_db.connection.schema`."""
    note: str | None = await connection.fetchval(
        "SELECT pg_catalog.obj_description(to_regclass($1), 'pg_class')", f"public.{VERSION_TABLE}"
    )
    return note


async def take_over(connection: Connection, known: Collection[str], older: Collection[str]) -> None:
    """Move our row into our table, before revisions run; where the schema is `older`, keep a table of the former name."""
    async with connection.transaction():
        former = await _former_rows(connection, known)
        if former:
            await connection.execute(_CREATE.format(name=VERSION_TABLE))
            await connection.execute(f"DELETE FROM public.{VERSION_TABLE}")
            await connection.execute(f"INSERT INTO public.{VERSION_TABLE} VALUES ($1)", former[0])
            await connection.execute(f"DELETE FROM public.{_FORMER} WHERE version_num = ANY ($1)", former)
        version = await read_version(connection, known)
        if version is None or version in older:
            await connection.execute(_CREATE.format(name=_FORMER))


async def give_back(connection: Connection, older: Collection[str]) -> None:
    """After revisions ran: tell code of before which revision it is, and leave no empty table at the base."""
    async with connection.transaction():
        if not await _exists(connection, _FORMER):
            return
        version = await read_version(connection, ())
        if version in older:
            await connection.execute(f"INSERT INTO public.{_FORMER} VALUES ($1) ON CONFLICT DO NOTHING", version)
        elif version is None and not await connection.fetchval(f"SELECT EXISTS (SELECT FROM public.{_FORMER})"):
            await connection.execute(f"DROP TABLE public.{_FORMER}")


async def _former_rows(connection: Connection, known: Collection[str]) -> list[str]:
    if not known or not await _exists(connection, _FORMER):
        return []
    rows = await connection.fetch(f"SELECT version_num FROM public.{_FORMER} WHERE version_num = ANY ($1)", list(known))
    return [row[0] for row in rows]


async def _exists(connection: Connection, name: str) -> bool:
    return bool(await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"public.{name}"))
