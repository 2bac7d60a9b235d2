"""What is asked of a server: its facts by one query, and at start what else a service has to know before it serves.

The one place that asks: start-up, `doctor`, migrations and the distribution read the same. It needs no privilege that the
service's login does not have.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, cast
from uuid import uuid4

from derwin_db.connection.driver import Connection, DriverError, DriverOrNetworkError, connect
from derwin_db.connection.refused import connection_error
from derwin_db.connection.schema import Schema, Standing, schema_of
from derwin_db.errors import (
    ConfigurationError,
    DerwinError,
    ExtensionMissing,
    IsolationNotEnforced,
)
from derwin_db.isolation.catalog.logins import STORED_SETTINGS
from derwin_db.isolation.catalog.standing import missing_fences
from derwin_db.isolation.preamble import ADMIN_ROLE, ScopeForm
from derwin_db.settings.url import ConnectionInfo
from derwin_db.sql import VERSION_TABLE
from derwin_db.translation.driver_errors import sqlstate_of, translate

if TYPE_CHECKING:
    from derwin_db.settings import Settings

_OLDEST_VECTOR = (0, 8)

INSUFFICIENT_PRIVILEGE = "42501"
LOCK_NOT_AVAILABLE = "55P03"
_MAY_NOT = frozenset({INSUFFICIENT_PRIVILEGE, "22023"})
"""SQLSTATEs of a role that can't be taken: not allowed, or not there."""

_KEPT = (
    "synchronous_commit", "default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable",
    "row_security", "search_path", "local_preload_libraries", "idle_session_timeout", "plan_cache_mode", "array_nulls",
    "standard_conforming_strings", "transform_null_equals", "bytea_output", "DateStyle", "IntervalStyle", "TimeZone",
)  # fmt: skip
"""Settings that decide what is stored, seen or answered. SQL in a session can store others for its own login (ALTER ROLE), so
that each connection sets them itself, to what they are without that."""

_STEADY = {
    "local_preload_libraries": "", "exit_on_error": "off", "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0", "statement_timeout": "0", "lock_timeout": "0", "row_security": "on",
    "default_transaction_read_only": "off", "default_transaction_isolation": "read committed",
}  # fmt: skip
"""What a connection beside the pools begins with, so that nothing that is stored for its login keeps it from looking."""

_UNSUPPORTED = frozenset({"08P01", "42704", "0A000"})
"""SQLSTATEs of a pooler that takes no such settings, and of a server that does not know one of them."""

_FACTS = """
SELECT
    pg_backend_pid() AS backend_pid,
    pg_is_in_recovery() AS is_standby,
    current_setting('server_version_num')::int AS version,
    (SELECT setting::int FROM pg_catalog.pg_settings WHERE name = 'track_activity_query_size') AS activity_query_size,
    EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus') AS is_distributed,
    (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'vector') AS vector_version,
    (
        SELECT n.nspname::text FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'vector'
    ) AS vector_schema,
    coalesce((
        SELECT has_schema_privilege(app.oid, e.extnamespace, 'USAGE') FROM pg_catalog.pg_extension e, pg_catalog.pg_roles app
        WHERE e.extname = 'vector' AND app.rolname = 'derwin_app'
    ), true) AS has_vector_grant,
    to_regprocedure('public.derwin_open(text)') IS NOT NULL AS is_sealed,
    to_regprocedure('public.derwin_scope_on_shard()') IS NOT NULL AS is_sharded,
    to_regclass('public.derwin_alembic_version') IS NOT NULL AS has_schema,
    EXISTS (
        SELECT FROM pg_catalog.pg_class t JOIN pg_catalog.pg_roles app ON app.rolname = 'derwin_app'
        WHERE t.oid = to_regclass('public.derwin_alembic_version') AND has_table_privilege(app.oid, t.oid, 'SELECT')
    ) AS has_grants,
    EXISTS (
        SELECT FROM pg_catalog.pg_class t JOIN pg_catalog.pg_roles app ON app.rolname = 'derwin_app'
        WHERE t.oid = to_regclass('public.alembic_version') AND has_table_privilege(app.oid, t.oid, 'SELECT')
    ) AS has_former_grants,
    to_regnamespace('derwin') IS NOT NULL AS has_fences,
    obj_description(to_regclass('public.derwin_alembic_version'), 'pg_class') AS schema_note,
    login.rolsuper OR login.rolbypassrls OR EXISTS (
        SELECT FROM pg_catalog.pg_class t WHERE t.oid = to_regclass('public.projects')
        AND pg_has_role(login.oid, t.relowner, 'MEMBER')
    ) AS is_privileged,
    stored.names AS stored_settings,
    (
        SELECT jsonb_object_agg(s.name, CASE WHEN s.name = ANY (stored.names) THEN s.boot_val ELSE s.reset_val END)::text
        FROM pg_catalog.pg_settings s WHERE s.context = 'user' AND (s.name = ANY ({kept}) OR s.name = ANY (stored.names))
    ) AS own_settings
FROM pg_catalog.pg_roles login, LATERAL (SELECT {stored} AS names) AS stored WHERE login.rolname = session_user
""".format(kept=f"ARRAY{list(_KEPT)!r}", stored=STORED_SETTINGS.format(role="login.oid"))
"""All that is asked of a server, whoever asks: any login may see it. What is only readable for a role is `read_revision`."""

_PRIVILEGED = (
    "The login of DATABASE_URL is privileged (superuser, BYPASSRLS, or as the owner): raw SQL in a session can leave the role "
    "derwin_app and see every project. Make a login that may only become derwin_app: `derwin-db roles create`."
)

_NOTHING_GRANTED = "derwin_app has lost all that it was granted, its policies too (DROP OWNED BY takes both)"

_STANDBY = "DATABASE_URL leads to a standby, which takes no writes. A replica belongs into READ_URL."

_STORED = (
    "Settings are stored for the login of DATABASE_URL ({names}): SQL in a session can do that, for all sessions to come. "
    "This service sets what matters itself; `derwin-db roles create` resets them."
)

_BOTH_ROLES = (
    "The login of DATABASE_URL may become derwin_admin too: raw SQL in a session can `SET ROLE derwin_admin`. Give the admin "
    "door a login of its own (ADMIN_URL): `derwin-db roles create`."
)


@dataclass(frozen=True)
class Facts:
    """What the server and the database are, as any login sees them."""

    backend_pid: int
    is_standby: bool
    version: int
    activity_query_size: int
    is_distributed: bool
    vector_version: str | None
    vector_schema: str | None
    """Where pgvector is: hosted platforms keep extensions in a schema of their own."""
    has_vector_grant: bool
    """Whether derwin_app may use that schema: one that pgvector moved to later may be closed."""
    is_sealed: bool
    is_sharded: bool
    """Whether the seal is checked on the shards of distributed tables."""
    has_schema: bool
    has_fences: bool
    """Whether the schema is new enough for fences."""
    has_grants: bool
    """Whether derwin_app may still read the revision: `DROP OWNED BY derwin_app` takes all its grants and policies."""
    has_former_grants: bool
    """Whether derwin_app may read `alembic_version`, which had the revision before: without `has_grants`, it has it still."""
    schema_note: str | None
    """What was left at the table of the revision: see `derwin_db.connection.schema`."""
    is_privileged: bool
    """Whether the login is a superuser, bypasses policies, or may become the owner."""
    stored_settings: Sequence[str]
    """Names of settings that are stored for the login."""
    own_settings: Mapping[str, str]
    """What a connection of the login sets itself, against what is stored for it."""

    @property
    def scope(self) -> ScopeForm:
        """How the project scope is held."""
        if not self.is_sealed:
            return ScopeForm.PLAIN
        return ScopeForm.SHARDED if self.is_sharded else ScopeForm.SEALED


@dataclass(frozen=True)
class ServerFacts(Facts):
    """One login's view of a server at start. `missing_fences` names what does not stand, empty where all does."""

    revision: str | None
    may_become_admin: bool
    missing_fences: tuple[str, ...]
    is_behind_pooler: bool
    """Whether a pooler answers for the server: another backend than the one that was named at the login."""
    keeps_statements: bool
    """Whether what is prepared by name can be run on whichever server connection there is: always without a pooler."""

    @property
    def schema(self) -> Schema:
        """How the schema stands to this code."""
        return schema_of(self.revision, self.schema_note)

    def require_fences(self) -> None:
        """Refuse a database that can't be served.

        Errors:
            SchemaOutOfDate, ExtensionMissing, IsolationNotEnforced.
        """
        if self.has_fences and not (self.has_grants or self.has_former_grants):
            raise _not_enforced(self.missing_fences)
        self.schema.require()
        if self.vector_version is None:
            raise ExtensionMissing
        if tuple(map(int, re.findall(r"\d+", self.vector_version)[:2])) < _OLDEST_VECTOR:
            raise ExtensionMissing(
                f"pgvector {self.vector_version} is installed; searching needs 0.8 or newer. As an administrator, update it on "
                "the server and run `ALTER EXTENSION vector UPDATE` in this database."
            )
        if not self.has_vector_grant:
            raise ExtensionMissing(
                f"pgvector is in the schema {self.vector_schema}, which derwin_app may not use. As its owner: `derwin-db roles "
                "create --no-passwords`, or GRANT USAGE ON SCHEMA ... TO derwin_app, derwin_admin, derwin_backfill."
            )
        if self.missing_fences:
            raise _not_enforced(self.missing_fences)

    def search_path(self) -> str | None:
        """Return the search_path that finds pgvector's operators; None where they are found anyway."""
        if self.vector_schema in (None, "public"):
            return None
        quoted = self.vector_schema.replace('"', '""')
        return f'"$user", public, "{quoted}"'

    def summary(self, connection: ConnectionInfo) -> str:
        """Say in one line what is served, for the log."""
        major = self.version // 10000
        scope = "sealed" if self.is_sealed else "PLAIN: SQL in a session can set another project"
        return f"PostgreSQL {major}, {connection.place}, project scope {scope}"

    def warnings(self) -> list[str]:
        """Say what works, but should not stay so."""
        standby = [_STANDBY] if self.is_standby else []
        stored = [_STORED.format(names=", ".join(self.stored_settings))] if self.stored_settings else []
        roles = [_PRIVILEGED] if self.is_privileged else [_BOTH_ROLES] if self.may_become_admin else []
        newer = [self.schema.sentence] if self.schema.standing is Standing.COMPATIBLE else []
        return [*standby, *stored, *roles, *newer]


def _not_enforced(missing: Iterable[str]) -> IsolationNotEnforced:
    return IsolationNotEnforced(
        f"The database does not enforce project isolation: {'; '.join(missing)}. `derwin-db doctor` says how to mend it."
    )


class _Unsupported(Exception):
    """Settings that a connection can't begin with here."""


async def _supported(connecting: Awaitable[Connection]) -> Connection:
    try:
        return await connecting
    except DriverError as error:
        if sqlstate_of(error) in _UNSUPPORTED:
            raise _Unsupported from None
        raise


async def connect_steadily(
    connection: ConnectionInfo,
    *,
    timeout: float | None = None,  # noqa: ASYNC109  # the driver's own, for the attempt
    command_timeout: float | None = None,
    settings: Mapping[str, str] | None = None,
) -> Connection:
    """Open a connection beside the pools, against what is stored for its login as far as what stands between takes it.

    Errors:
        The driver's own.
    """
    own = dict(settings or {})
    attempts = [] if connection.is_pooled else [{**_STEADY, "transaction_timeout": "0", **own}, {**_STEADY, **own}]
    connecting = partial(connect, connection, timeout=timeout, command_timeout=command_timeout)
    for attempt in attempts:
        with contextlib.suppress(_Unsupported):
            return await _supported(connecting(settings=attempt))
    return await connecting(settings=own)


async def connect_once(connection: ConnectionInfo, settings: "Settings") -> Connection:
    """Open a connection beside the pools, which works behind any pooler.

    Errors:
        DatabaseUnavailable, ConfigurationError.
    """
    try:
        return await connect_steadily(connection, timeout=settings.connect_timeout, command_timeout=settings.command_timeout)
    except Exception as error:
        raise connection_error(error, connection, connection.connect_timeout or settings.connect_timeout) from None


async def probe_server(connection: ConnectionInfo, settings: "Settings", role: str) -> ServerFacts:
    """Look at the server with this login, as `role` where the fences are concerned.

    Errors:
        DatabaseUnavailable, ConfigurationError (wrong login, no such database, a login that may not take the role).
    """
    opened = await connect_once(connection, settings)
    try:
        return await _probe(opened, connection, role)
    except DerwinError:
        raise
    except Exception as error:
        raise translate(error) or error from None
    finally:
        opened.terminate()


async def read_facts(opened: Connection) -> Facts:
    """Ask the server what it is. One query."""
    row = dict(await opened.fetchrow(_FACTS))
    own = {name: value or "" for name, value in json.loads(row.pop("own_settings") or "{}").items()}
    return Facts(**row, own_settings=own)


async def read_revision(opened: Connection, table: str = VERSION_TABLE) -> str | None:
    """Return the revision of the schema, None where there is none; of several rows all, with commas: no revision that is known.

    Errors:
        The driver's own where the role may not read it.
    """
    if await opened.fetchval("SELECT to_regclass($1) IS NULL", f"public.{table}"):
        return None
    rows = f"SELECT string_agg(version_num, ', ' ORDER BY version_num) FROM public.{table}"
    return cast("str | None", await opened.fetchval(rows))


async def _probe(opened: Connection, connection: ConnectionInfo, role: str) -> ServerFacts:
    async with opened.transaction():
        facts = await read_facts(opened)
    revision = "without fences" if facts.has_schema else None
    missing = [_NOTHING_GRANTED if facts.has_fences else "row level security is missing"]
    may_become_admin = False
    if facts.has_grants:
        may_become_admin = await _may_become(opened, ADMIN_ROLE)
        if not await _may_become(opened, role):
            raise ConfigurationError(
                f"The login of {connection.place} may not become {role}. As the owner: `derwin-db roles create`, or "
                f"GRANT {role} TO <login> WITH INHERIT FALSE, SET TRUE."
            )
        async with opened.transaction():
            await opened.execute(f"SET LOCAL ROLE {role}; SET LOCAL search_path = pg_catalog")
            revision = await read_revision(opened)
            functions = schema_of(revision, facts.schema_note).functions
            missing = await missing_fences(opened, facts.scope, functions=functions)
    elif facts.has_former_grants and await _may_become(opened, role):
        async with opened.transaction():
            await opened.execute(f"SET LOCAL ROLE {role}; SET LOCAL search_path = pg_catalog")
            revision = await read_revision(opened, "alembic_version")
    is_behind_pooler = facts.backend_pid != opened.get_server_pid()
    return ServerFacts(
        **{each.name: getattr(facts, each.name) for each in fields(facts)},
        revision=revision,
        may_become_admin=may_become_admin,
        missing_fences=tuple(missing),
        is_behind_pooler=is_behind_pooler,
        keeps_statements=await _keeps_statements(opened) if is_behind_pooler or connection.is_pooled else True,
    )


async def _may_become(opened: Connection, role: str) -> bool:
    """Try it: from PostgreSQL 16 on, pg_has_role() says yes to some logins that cannot."""
    try:
        async with opened.transaction():
            await opened.execute(f"SET LOCAL ROLE {role}")
    except DriverError as error:
        if sqlstate_of(error) not in _MAY_NOT:
            raise
        return False
    return True


_ENDS_WITHIN = 0.2
"""Seconds in which the server ends a connection that has been idle for a thousandth of one. The service may send no signals."""

_PREPARED = "SELECT name FROM pg_catalog.pg_prepared_statements WHERE statement LIKE '%whose name is it, {mark}?%'"


async def _keeps_statements(opened: Connection) -> bool:
    """Tell whether a pooler keeps what is prepared by name: it gives names of its own, and prepares anew what a server lost.

    A server connection on which it lost count is ended. The last thing that is asked of a connection: it may end with it.
    """
    try:
        async with opened.transaction():
            return await _keeps_in_transaction(opened)
    except DriverOrNetworkError:
        return False


async def _keeps_in_transaction(opened: Connection) -> bool:
    names, query = [f"derwin_{uuid4().hex}" for _ in range(2)], _PREPARED.format(mark=uuid4().hex)
    seen = await _run_named(opened, query, names[0])
    if seen == names[0]:  # it hands names through
        await opened.execute(f'DEALLOCATE "{seen}"')
    if seen in (names[0], None):
        return False
    await opened.execute("SAVEPOINT keeping; DEALLOCATE ALL")  # as after a unit that gave SQL to a caller
    try:
        return await _run_named(opened, query, names[1]) not in (names[1], None)
    except DriverError:
        await opened.execute("ROLLBACK TO keeping; SET LOCAL idle_in_transaction_session_timeout = 1")
        await asyncio.sleep(_ENDS_WITHIN)
        return False


async def _run_named(opened: Connection, query: str, name: str) -> str | None:
    """Run the query by this name, and return the name by which the server knows it."""
    prepared = await opened.prepare(query, name=name)
    return cast("str | None", await prepared.fetchval())
