"""How a transaction is opened for one project: the preamble, plain or sealed, decided by looking at the server.

`Preamble` holds what was seen of the server at start. Everything that differs between a plain PostgreSQL, a transaction
pooler and a distributed server is decided here.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, cached_property
from typing import TYPE_CHECKING
from uuid import UUID

from derwin_db.errors import ConfigurationError, ProjectNotFound
from derwin_db.fields.scalars import NIL
from derwin_db.isolation.keys import ServerSeal
from derwin_db.isolation.seal import Kind

if TYPE_CHECKING:
    from derwin_db.connection.driver import PooledConnection

APP_ROLE = "derwin_app"
ADMIN_ROLE = "derwin_admin"

_BYPASSES = "SELECT rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user"

LONGEST_PAD = 8192
"""Largest track_activity_query_size that the padded preamble covers; above it a unit takes one more round trip."""


CLEAN_IN_TRANSACTION = (
    "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; CLOSE ALL; DEALLOCATE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); "
    "DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES"
)
"""What `DISCARD ALL` does, which no transaction block takes: behind a transaction pooler the next statement after COMMIT may
run on another server connection, so this one is cleaned while it is ours."""


class ScopeForm(StrEnum):
    """How a database holds its project scope. A property of the database, never of the client."""

    PLAIN = "plain"
    """A setting that whoever has SQL in a session can change."""
    SEALED = "sealed"
    SHARDED = "sharded"
    """Sealed on a distributed server: each shard checks the seal by itself."""

    @property
    def is_restrictive(self) -> bool:
        """Whether the scope's policy is a restrictive one: those reach the shards of a distributed table as permissive ones."""
        return self is ScopeForm.SEALED


def policy_condition(table: str, form: ScopeForm) -> str:
    """Return what the policy `derwin_scope` of a table says, as the server prints it while search_path is pg_catalog."""
    column = "id" if table == "projects" else "project_id"
    if form is ScopeForm.SEALED:
        return f"({column} = ( SELECT public.derwin_scope() AS derwin_scope))"
    if form is ScopeForm.SHARDED:
        return f"({column} = public.derwin_scope_on_shard())"
    return f"({column} = (NULLIF(current_setting('derwin.project_id'::text, true), ''::text))::uuid)"


class TransactionMode(StrEnum):
    """How a transaction begins. A snapshot sees one moment in all its statements.

    Each says all of it: what is left out is a default, which may be stored for the login.
    """

    READ_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE"
    READ_ONLY = "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY"
    SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"


@dataclass(frozen=True)
class Preamble:
    """What the preamble depends on. `seal` is None where the scope is plain.

    `timeouts` are SET LOCAL in each transaction where the session can't keep them (a transaction pooler).
    """

    seal: ServerSeal | None
    is_distributed: bool = False
    is_sharded: bool = False
    is_pooled: bool = False
    keeps_statements: bool = False
    """Whether a pooler keeps what is prepared by name. Then role and settings of the service stay on the server connection."""
    timeouts: Sequence[str] = ()
    server_version: int = 0
    known_projects: set[UUID] = field(default_factory=set, repr=False)
    """Projects that were seen on this server."""

    @cached_property
    def finds_prepared(self) -> bool:
        """Whether what was prepared is there when it is run, also without a transaction around both."""
        return self.keeps_statements or not self.is_pooled

    @cached_property
    def allows_alone(self) -> bool:
        """Whether a statement may bring its scope along and run without a transaction around it."""
        return self.seal is not None and self.finds_prepared

    def scope_of_one(self, connection: "PooledConnection", project_id: UUID) -> str:
        """Return the scope of one statement on this connection. A shard's node does not know by which backend it is asked."""
        assert self.seal is not None
        is_anywhere = self.is_pooled or self.is_sharded
        pid, kind = (None, Kind.SCOPES_ANYWHERE) if is_anywhere else (connection.get_server_pid(), Kind.SCOPES)
        return self.seal.token(kind, project_id, _server_time(connection), pid)

    def token_to_ask(self, connection: "PooledConnection") -> str:
        """Return the token by which this connection may ask over all projects which of them wait."""
        assert self.seal is not None
        pid, kind = (None, Kind.ASKS_ANYWHERE) if self.is_pooled else (connection.get_server_pid(), Kind.ASKS)
        return self.seal.token(kind, NIL, _server_time(connection), pid)

    async def for_project(self, connection: "PooledConnection", project_id: UUID, begin: TransactionMode) -> None:
        """Open the transaction of one project. One round trip.

        Errors:
            ProjectNotFound (as the server's DW003 where the scope is sealed).
        """
        if self.seal is None:
            await self._open_plain(connection, project_id, begin)
            return
        pid, kind = (None, Kind.OPENS_ANYWHERE) if self.is_pooled else (connection.get_server_pid(), Kind.OPENS)
        token = self.seal.token(kind, project_id, _server_time(connection), pid)
        if connection.activity_query_size <= LONGEST_PAD:
            pad = _pad(connection.activity_query_size)
            await connection.execute(f"{pad}{self._begin_app[begin]}; SELECT public.derwin_open('{token}')")
        else:
            await connection.execute(self._begin_app[begin])
            await connection.execute("SELECT public.derwin_open($1)", token)
        if self.is_sharded:
            await self._look_for_project(connection, project_id)
        self.known_projects.add(project_id)

    async def _look_for_project(self, connection: "PooledConnection", project_id: UUID) -> None:
        """See that the project is there, once for each server: what opens the unit does not ask the workers."""
        if project_id not in self.known_projects:
            if await connection.fetchval("SELECT 1 FROM public.projects WHERE id = $1", project_id) is None:
                raise ProjectNotFound
            self.known_projects.add(project_id)

    @property
    def timeout_names(self) -> Sequence[str]:
        """The server's settings that bound how long a statement or transaction may take."""
        return ["statement_timeout", *(["transaction_timeout"] if self.server_version >= 170000 else [])]

    async def for_nobody(self, connection: "PooledConnection") -> None:
        """Open a transaction that only reads, and has no project: under the policies it sees no row of any. One round trip."""
        await connection.execute(self._begin(APP_ROLE, TransactionMode.READ_ONLY))

    async def for_admin(self, connection: "PooledConnection") -> None:
        """Open a transaction of the admin door. One round trip."""
        await connection.execute(self._begin(ADMIN_ROLE, TransactionMode.READ_WRITE))

    async def for_import(self, connection: "PooledConnection") -> None:
        """Open a transaction of the owner's login that makes a project, as the admin door. It may take its time.

        Citus opens a connection to a worker for each role, and that of the rows would not see the project before its commit:
        there the whole transaction is the login's own.

        Errors:
            ConfigurationError on Citus for a login that policies hold.
        """
        if self.seal is not None:
            await self.seal.look_again()  # a refusal in the midst of it would be the end of it
        unlimited = "; SET LOCAL transaction_timeout = 0" if self.server_version >= 170000 else ""
        if not self.is_distributed:
            await connection.execute(self._begin(ADMIN_ROLE, TransactionMode.READ_WRITE) + unlimited)
            return
        await connection.execute(TransactionMode.READ_WRITE + unlimited)
        if not await connection.fetchval(_BYPASSES):
            raise ConfigurationError(
                "On Citus an import is one transaction of one role, which no policy may hold: set DIRECT_URL to a login that "
                "is a superuser, or has BYPASSRLS."
            )

    async def enter_project(self, connection: "PooledConnection", project_id: UUID) -> None:
        """Go on with a transaction of the owner's login, just begun, as one of this project. Three round trips."""
        if self.is_distributed:
            return
        await connection.execute(f"SET LOCAL ROLE {APP_ROLE}")
        if self.seal is None:
            await connection.execute(f"SET LOCAL derwin.project_id = '{project_id}'")
            return
        begun = "SELECT pg_backend_pid(), (extract(epoch FROM now()) * 1000000)::bigint"
        row = await connection.fetchrow(begun)
        assert row is not None
        await connection.execute("SELECT public.derwin_open($1)", self.seal.token(Kind.OPENS, project_id, row[1], row[0]))

    async def leave_project(self, connection: "PooledConnection") -> None:
        """Go on as the admin door again."""
        if not self.is_distributed:
            await connection.execute(f"SET LOCAL ROLE {ADMIN_ROLE}")

    @cached_property
    def _begin_app(self) -> dict[TransactionMode, str]:
        """How a project's transaction begins, before its scope is opened."""
        stays = self.keeps_statements
        return {begin: self._begin(APP_ROLE, begin, "SET" if stays else "SET LOCAL") for begin in TransactionMode}

    def _begin(self, role: str, begin: TransactionMode, puts: str = "SET LOCAL") -> str:
        return f"{begin}; {self._settings(role, puts)}"

    def _settings(self, role: str, puts: str) -> str:
        return "; ".join([f"{puts} ROLE {role}", *(f"{puts} {setting}" for setting in self.timeouts)])

    @cached_property
    def clean(self) -> str:
        """What cleans a server connection behind a pooler while it is still ours, and sets on it again what stays."""
        return f"{CLEAN_IN_TRANSACTION}; {self._settings(APP_ROLE, 'SET')}" if self.keeps_statements else CLEAN_IN_TRANSACTION

    async def _open_plain(self, connection: "PooledConnection", project_id: UUID, begin: TransactionMode) -> None:
        """Citus replays one simple query of SETs on its workers, so BEGIN travels alone there."""
        settings = [f"SET LOCAL ROLE {APP_ROLE}", *(f"SET LOCAL {setting}" for setting in self.timeouts)]
        settings.append(f"SET LOCAL derwin.project_id = '{project_id}'")
        if self.is_distributed:
            settings.insert(0, "SET LOCAL citus.propagate_set_commands = 'local'")
            await connection.execute(begin.value)  # the driver takes no subclass of str
            await connection.execute("; ".join(settings))
        else:
            await connection.execute("; ".join([begin, *settings]))
        await self._look_for_project(connection, project_id)


@cache
def _pad(size: int) -> str:
    """Return a comment that is longer than what pg_stat_activity shows: the token behind it can't be read there."""
    return f"/*{'.' * size}*/"


def _server_time(connection: "PooledConnection") -> int:
    """Return what time it is on the server, in microseconds since 1970: a little behind, never ahead."""
    return int((time.monotonic() + connection.server_clock) * 1_000_000)
