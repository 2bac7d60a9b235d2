"""How a transaction is opened for one project: the preamble, plain or sealed, decided by looking at the server.

`Preamble` holds what was seen of the server at start. Everything that differs between a plain PostgreSQL, a transaction
pooler and a distributed server is decided here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import UUID

from derwin_db.errors import ProjectNotFound
from derwin_db.isolation.seal import Seal

if TYPE_CHECKING:
    from derwin_db.connection.driver import Connection

APP_ROLE = "derwin_app"
ADMIN_ROLE = "derwin_admin"

LONGEST_PAD = 8192
"""Largest track_activity_query_size that the padded preamble covers; above it a unit takes one more round trip."""


def policy_condition(table: str, *, is_sealed: bool) -> str:
    """Return what the policy `derwin_scope` of a table says, as the server prints it while search_path is pg_catalog."""
    column = "id" if table == "projects" else "project_id"
    if is_sealed:
        return f"({column} = ( SELECT public.derwin_scope() AS derwin_scope))"
    return f"({column} = (NULLIF(current_setting('derwin.project_id'::text, true), ''::text))::uuid)"


class TransactionMode(StrEnum):
    """How a transaction begins. A snapshot sees one moment in all its statements."""

    READ_WRITE = "BEGIN"
    READ_ONLY = "BEGIN READ ONLY"
    SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"


@dataclass(frozen=True)
class Preamble:
    """What the preamble depends on. `seal` is None where the scope is plain.

    `timeouts` are SET LOCAL in each transaction where the session can't keep them (a transaction pooler).
    """

    seal: Seal | None
    is_distributed: bool = False
    is_pooled: bool = False
    activity_query_size: int = 1024
    timeouts: Sequence[str] = ()
    server_version: int = 0
    known_projects: set[UUID] = field(default_factory=set, repr=False)

    async def for_project(self, connection: "Connection", project_id: UUID, begin: TransactionMode) -> None:
        """Open the transaction of one project. One round trip; behind a pooler three.

        Errors:
            ProjectNotFound (as the server's DW003 where the scope is sealed).
        """
        if self.seal is None:
            await self._open_plain(connection, project_id, begin)
        elif self.is_pooled:
            await connection.execute(self._begin(APP_ROLE, begin))
            backend_pid = await connection.fetchval("SELECT pg_backend_pid()")
            await connection.execute("SELECT public.derwin_open($1)", self.seal.token(project_id, backend_pid))
        else:
            token = self.seal.token(project_id, connection.get_server_pid())
            if self._pad:
                await connection.execute(f"{self._padded_begin[begin]}; SELECT public.derwin_open('{token}')")
            else:
                await connection.execute(self._begin(APP_ROLE, begin))
                await connection.execute("SELECT public.derwin_open($1)", token)

    @property
    def timeout_names(self) -> Sequence[str]:
        """The server's settings that bound how long a statement or transaction may take."""
        return ["statement_timeout", *(["transaction_timeout"] if self.server_version >= 170000 else [])]

    async def for_nobody(self, connection: "Connection") -> None:
        """Open a transaction that only reads, and has no project: under the policies it sees no row of any. One round trip."""
        await connection.execute(self._begin(APP_ROLE, TransactionMode.READ_ONLY))

    async def for_admin(self, connection: "Connection") -> None:
        """Open a transaction of the admin door. One round trip."""
        await connection.execute(self._begin(ADMIN_ROLE, TransactionMode.READ_WRITE))

    @cached_property
    def _pad(self) -> str:
        """A comment that is longer than what pg_stat_activity shows: the token behind it can't be read there."""
        size = self.activity_query_size
        return f"/*{'.' * size}*/" if size <= LONGEST_PAD else ""

    @cached_property
    def _padded_begin(self) -> dict[TransactionMode, str]:
        """What comes before the token: the same text in every unit."""
        return {begin: self._pad + self._begin(APP_ROLE, begin) for begin in TransactionMode}

    def _begin(self, role: str, begin: TransactionMode) -> str:
        settings = "".join(f"; SET LOCAL {setting}" for setting in self.timeouts)
        return f"{begin}; SET LOCAL ROLE {role}{settings}"

    async def _open_plain(self, connection: "Connection", project_id: UUID, begin: TransactionMode) -> None:
        """Citus replays one simple query of SETs on its workers, so BEGIN travels alone there."""
        settings = [f"SET LOCAL ROLE {APP_ROLE}", *(f"SET LOCAL {setting}" for setting in self.timeouts)]
        settings.append(f"SET LOCAL derwin.project_id = '{project_id}'")
        if self.is_distributed:
            settings.insert(0, "SET LOCAL citus.propagate_set_commands = 'local'")
            await connection.execute(begin.value)  # the driver takes no subclass of str
            await connection.execute("; ".join(settings))
        else:
            await connection.execute("; ".join([begin, *settings]))
        if project_id not in self.known_projects:
            if await connection.fetchval("SELECT 1 FROM public.projects WHERE id = $1", project_id) is None:
                raise ProjectNotFound
            self.known_projects.add(project_id)
