"""What stands in the way of a migration, looked at before its first statement: nothing is applied before that is known."""

from derwin_db.connection.driver import Connection, DriverError
from derwin_db.errors import ConfigurationError, Conflict, ExtensionMissing
from derwin_db.sql import PROJECT_TABLES
from derwin_db.translation.driver_errors import sqlstate_of

_TABLES = ["projects", *PROJECT_TABLES]

MISSING_PRIVILEGE = (
    "The login of DIRECT_URL may not do what the migration needs. It has to own the database, have CREATEROLE, and "
    "ADMIN on derwin_app, derwin_admin and derwin_backfill where these exist already: as an administrator, "
    "GRANT derwin_app, derwin_admin, derwin_backfill TO <login> WITH ADMIN OPTION."
)

_OCCUPIED = """
SELECT c.relname FROM pg_catalog.pg_class c
WHERE c.relnamespace = to_regnamespace('public') AND c.relname = ANY ($1::text[]) ORDER BY c.relname
"""

_MADE_MEANWHILE = {"23505", "42710"}
"""Another starter made it while this one tried."""

_NOT_TO_BE_HAD = frozenset({"42501", "0A000", "58P01"})
_MAY_HAVE_ROLES = """
SELECT login.rolsuper OR login.rolcreaterole OR (
    SELECT count(*) = 3 FROM pg_catalog.pg_roles r
    WHERE r.rolname IN ('derwin_app', 'derwin_admin', 'derwin_backfill') AND pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')
)
FROM pg_catalog.pg_roles login WHERE login.rolname = current_user
"""
_HAS_VECTOR = "SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'vector')"
_HAS_FILES = "SELECT EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'vector')"

_REFERENCES = """
SELECT DISTINCT f.conrelid::regclass::text
FROM pg_catalog.pg_constraint f
JOIN pg_catalog.pg_class target ON target.oid = f.confrelid
JOIN pg_catalog.pg_class source ON source.oid = f.conrelid
WHERE f.contype = 'f' AND target.relnamespace = to_regnamespace('public') AND target.relname = ANY ($1::text[])
AND NOT (source.relnamespace = to_regnamespace('public') AND source.relname = ANY ($1::text[]))
AND source.relnamespace IS DISTINCT FROM to_regnamespace('derwin')
UNION
SELECT DISTINCT v.oid::regclass::text
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_class target ON target.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_class'::regclass
JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_catalog.pg_rewrite'::regclass
JOIN pg_catalog.pg_class v ON v.oid = r.ev_class
WHERE v.oid <> target.oid AND v.relnamespace IS DISTINCT FROM to_regnamespace('derwin')
AND target.relnamespace = to_regnamespace('public') AND target.relname = ANY ($1::text[])
ORDER BY 1
"""
"""Tables whose foreign keys lead to ours, and views that read them, but for those of the schema derwin, which go along."""


async def check_new_database(connection: Connection) -> None:
    """Refuse a database without our schema where a table of somebody else has one of our names.

    Errors:
        ConfigurationError.
    """
    occupied = [row[0] for row in await connection.fetch(_OCCUPIED, _TABLES)]
    if occupied:
        raise ConfigurationError(
            f"The schema public of this database has tables of another application with names of ours: {', '.join(occupied)}. "
            "Take a database of its own, or move them: ALTER TABLE public.<name> SET SCHEMA <other>. (Or they are ours, and "
            "derwin_alembic_version lost its row.) Nothing was changed."
        )


async def check_roles(connection: Connection) -> None:
    """Refuse a login that may neither create the roles nor grant those that are there, before anything is applied.

    Errors:
        ConfigurationError.
    """
    if not await connection.fetchval(_MAY_HAVE_ROLES):
        raise ConfigurationError(MISSING_PRIVILEGE)


async def check_vector(connection: Connection) -> None:
    """Refuse a server that has no pgvector, or a login that may not create it, before anything is applied.

    Errors:
        ExtensionMissing.
    """
    if await connection.fetchval(_HAS_VECTOR):
        return
    if not await connection.fetchval(_HAS_FILES):
        raise ExtensionMissing
    await connection.execute("BEGIN")  # tried: hosted platforms let some logins create it though the catalog says no
    try:
        await connection.execute("CREATE EXTENSION vector")
    except DriverError as error:
        if sqlstate_of(error) in _NOT_TO_BE_HAD:
            raise ExtensionMissing from None
        if sqlstate_of(error) not in _MADE_MEANWHILE:
            raise
    finally:
        await connection.execute("ROLLBACK")


async def check_references(connection: Connection, what: str) -> None:
    """Refuse to remove our tables while others refer to them, or read them.

    Errors:
        Conflict.
    """
    others = [row[0] for row in await connection.fetch(_REFERENCES, _TABLES)]
    if others:
        raise Conflict(
            f"{what}: {', '.join(others)} refer to tables of derwin-db. Drop them, or their foreign keys, first. "
            "Nothing was changed."
        )
