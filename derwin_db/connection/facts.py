"""What was seen of a server: one look with one login, at start. It needs no privilege that the service does not have."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from derwin_db.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    DerwinError,
    ExtensionMissing,
    IsolationNotEnforced,
    SchemaOutOfDate,
)
from derwin_db.isolation.preamble import policy_condition
from derwin_db.settings.url import ConnectionInfo
from derwin_db.sql import HEAD_REVISION, PROJECT_TABLES, function_bodies
from derwin_db.translation.driver_errors import translate

if TYPE_CHECKING:
    from derwin_db.settings import Settings

_OLDEST_VECTOR = (0, 8)

_LOOK = """
SELECT
    pg_backend_pid() AS backend_pid,
    pg_is_in_recovery() AS is_standby,
    current_setting('server_version_num')::int AS version,
    (SELECT setting::int FROM pg_catalog.pg_settings WHERE name = 'track_activity_query_size') AS activity_query_size,
    EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus') AS is_distributed,
    (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'vector') AS vector_version,
    to_regprocedure('public.derwin_open(text)') IS NOT NULL AS is_sealed,
    to_regclass('public.alembic_version') IS NOT NULL AS has_schema,
    EXISTS (SELECT FROM pg_catalog.pg_policies WHERE schemaname = 'public' AND policyname = 'derwin_scope') AS has_fences,
    login.rolsuper AS is_superuser,
    login.rolbypassrls AS bypasses_policies,
    EXISTS (
        SELECT FROM pg_catalog.pg_class t WHERE t.relname = 'projects' AND t.relnamespace = 'public'::regnamespace
        AND pg_has_role(login.oid, t.relowner, 'MEMBER')
    ) AS is_owner
FROM pg_catalog.pg_roles login WHERE login.rolname = current_user
"""

_FENCES = """
SELECT
    wanted.name,
    t.relrowsecurity AND row_security_active(t.oid) AS is_active,
    t.relforcerowsecurity AS is_forced,
    EXISTS (
        SELECT FROM pg_policy p
        WHERE p.polrelid = t.oid AND p.polname = 'derwin_scope' AND NOT p.polpermissive AND p.polcmd = '*'
        AND to_regrole('derwin_app') = ANY (p.polroles)
        AND pg_get_expr(p.polqual, t.oid) = wanted.condition AND pg_get_expr(p.polwithcheck, t.oid) = wanted.condition
    ) AS has_policy
FROM unnest($1::text[], $2::text[]) AS wanted (name, condition)
LEFT JOIN pg_class t ON t.relnamespace = 'public'::regnamespace AND t.relkind IN ('r', 'p') AND t.relname = wanted.name
"""
"""Run while search_path is pg_catalog: the conditions are compared as text."""

_BODIES = """
SELECT p.proname AS name, p.prosrc AS body, p.prosecdef AS is_definer, p.proconfig AS settings
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN ('derwin_open', 'derwin_scope')
"""

_SEARCH_PATH = ["search_path=pg_catalog, pg_temp"]


_PRIVILEGED = (
    "The login of DATABASE_URL is privileged (superuser, BYPASSRLS, or as the owner): raw SQL in a session can leave the role "
    "derwin_app and see every project. Make a login that may only become derwin_app: `derwin-db roles create`."
)

_STANDBY = "DATABASE_URL leads to a standby, which takes no writes. A replica belongs into READ_URL."

_BOTH_ROLES = (
    "The login of DATABASE_URL may become derwin_admin too: raw SQL in a session can `SET ROLE derwin_admin`. Give the admin "
    "door a login of its own (ADMIN_URL): `derwin-db roles create`."
)


@dataclass(frozen=True)
class ServerFacts:
    """One login's view of a server. `missing_fences` names what does not stand, empty where all does."""

    version: int
    activity_query_size: int
    is_distributed: bool
    vector_version: str | None
    is_sealed: bool
    revision: str | None
    is_privileged: bool
    may_become_admin: bool
    missing_fences: tuple[str, ...]
    is_behind_pooler: bool
    """Whether a pooler answers for the server: another backend than the one that was named at the login."""
    is_standby: bool

    def require_fences(self) -> None:
        """Refuse a database that can't be served.

        Errors:
            SchemaOutOfDate, ExtensionMissing, IsolationNotEnforced.
        """
        if self.revision != HEAD_REVISION:
            raise SchemaOutOfDate(
                "The database has no schema of derwin-db yet. Run `make migrate` (or `derwin-db migrate`)."
                if self.revision is None
                else None
            )
        if self.vector_version is None:
            raise ExtensionMissing
        if tuple(map(int, re.findall(r"\d+", self.vector_version)[:2])) < _OLDEST_VECTOR:
            raise ExtensionMissing(
                f"pgvector {self.vector_version} is installed; searching needs 0.8 or newer. As an administrator, update it on "
                "the server and run `ALTER EXTENSION vector UPDATE` in this database."
            )
        if self.missing_fences:
            raise IsolationNotEnforced(
                f"The database does not enforce project isolation: {'; '.join(self.missing_fences)}. "
                "`derwin-db doctor` says how to mend it."
            )

    def summary(self, connection: ConnectionInfo) -> str:
        """Say in one line what is served, for the log."""
        major = self.version // 10000
        scope = "sealed" if self.is_sealed else "PLAIN: SQL in a session can set another project"
        return f"PostgreSQL {major}, {connection.place}, project scope {scope}"

    def warnings(self) -> list[str]:
        """Say what works, but should not stay so."""
        standby = [_STANDBY] if self.is_standby else []
        if self.is_privileged:
            return [*standby, _PRIVILEGED]
        return [*standby, _BOTH_ROLES] if self.may_become_admin else standby


async def connect_once(connection: ConnectionInfo, settings: "Settings") -> asyncpg.Connection:
    """Open a connection beside the pools, which works behind any pooler.

    Errors:
        DatabaseUnavailable, ConfigurationError.
    """
    try:
        return await asyncpg.connect(
            **connection.connect_arguments(),
            timeout=connection.connect_timeout or settings.connect_timeout,
            command_timeout=settings.command_timeout,
            statement_cache_size=0,
        )
    except Exception as error:
        raise connection_error(error, connection) from None


async def probe_server(connection: ConnectionInfo, settings: "Settings", role: str) -> ServerFacts:
    """Look at the server with this login, as `role` where the fences are concerned.

    Errors:
        DatabaseUnavailable, ConfigurationError (wrong login, no such database, a login that may not take the role).
    """
    opened = await connect_once(connection, settings)
    try:
        return await _look(opened, connection, role)
    except DerwinError:
        raise
    except Exception as error:
        raise translate(error) or error from None
    finally:
        opened.terminate()


async def _look(opened: Any, connection: ConnectionInfo, role: str) -> ServerFacts:
    async with opened.transaction():
        seen = await opened.fetchrow(_LOOK)
    if not seen["has_schema"] or not seen["has_fences"]:
        revision = "without fences" if seen["has_schema"] else None
        return _server(opened, seen, revision=revision, may_become_admin=False, missing=("row level security is missing",))
    may_become_admin = await _may_become(opened, "derwin_admin")
    if not await _may_become(opened, role):
        raise ConfigurationError(
            f"The login of {connection.place} may not become {role}. As the owner: `derwin-db roles create`, or "
            f"GRANT {role} TO <login> WITH INHERIT FALSE, SET TRUE."
        )
    async with opened.transaction():
        await opened.execute(f"SET LOCAL ROLE {role}; SET LOCAL search_path = pg_catalog")
        revision = await opened.fetchval("SELECT version_num FROM public.alembic_version")
        missing = await _missing_fences(opened, is_sealed=seen["is_sealed"])
        bypass = await opened.fetchval("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
    if bypass:
        missing.append(f"{role} bypasses policies")
    return _server(opened, seen, revision=revision, may_become_admin=may_become_admin, missing=tuple(missing))


async def _missing_fences(opened: Any, *, is_sealed: bool) -> list[str]:
    """Name the tables whose policy, or row level security, is not what this package makes, and the functions of the seal."""
    tables = ("projects", *PROJECT_TABLES)
    conditions = [policy_condition(table, is_sealed=is_sealed) for table in tables]
    missing = []
    for fence in await opened.fetch(_FENCES, tables, conditions):
        if not fence["has_policy"]:
            missing.append(f"{fence['name']} has no restrictive policy for all of derwin_app")
        elif not fence["is_active"]:
            missing.append(f"row level security of {fence['name']} is off")
        elif not fence["is_forced"] and fence["name"] != "projects":
            missing.append(f"row level security of {fence['name']} is not forced")
    if is_sealed:
        present = {row["name"]: row for row in await opened.fetch(_BODIES)}
        for name, body in function_bodies("scope_sealed.v1").items():
            row = present.get(name)
            if row is None or row["body"] != body or not row["is_definer"] or row["settings"] != _SEARCH_PATH:
                missing.append(f"the function {name} is not the one that this package makes")
    return missing


async def _may_become(opened: Any, role: str) -> bool:
    """Try it: pg_has_role() says yes to some logins that can't (database.md, roles)."""
    try:
        async with opened.transaction():
            await opened.execute(f"SET LOCAL ROLE {role}")
    except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidParameterValueError):
        return False
    return True


def _server(opened: Any, seen: Any, *, revision: str | None, may_become_admin: bool, missing: tuple[str, ...]) -> ServerFacts:
    return ServerFacts(
        version=seen["version"],
        activity_query_size=seen["activity_query_size"],
        is_distributed=seen["is_distributed"],
        vector_version=seen["vector_version"],
        is_sealed=seen["is_sealed"],
        revision=revision,
        is_privileged=seen["is_superuser"] or seen["bypasses_policies"] or seen["is_owner"],
        may_become_admin=may_become_admin,
        missing_fences=missing,
        is_behind_pooler=seen["backend_pid"] != opened.get_server_pid(),
        is_standby=seen["is_standby"],
    )


def connection_error(error: BaseException, connection: ConnectionInfo) -> BaseException:
    """Return the error for a failed attempt to connect: the place in its sentence, and nothing else of the URL."""
    translated = translate(error)
    if isinstance(error, TimeoutError) or (isinstance(translated, DatabaseUnavailable) and translated.sqlstate is None):
        return DatabaseUnavailable(f"No PostgreSQL answers for {connection.place}. Is the server running, and the host right?")
    if isinstance(translated, DerwinError):
        placed = type(translated)(f"{translated.message} ({connection.place})")
        placed.sqlstate = translated.sqlstate
        return placed
    return error
