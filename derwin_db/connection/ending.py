"""Ending processes of the server that nobody waits for any more: what a unit was given up for, and what outlived its limits.

SQL may catch its cancel and turn its limits off; being terminated it can't catch. It goes through connections beside the pool,
of the same login. Where SQL in a unit may not signal, the server takes the word of who has the key of the seal.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from derwin_db.connection.driver import Connection, DriverError, ServerProcess
from derwin_db.connection.facts import INSUFFICIENT_PRIVILEGE, connect_steadily
from derwin_db.isolation.keys import KeyRing
from derwin_db.isolation.preamble import ADMIN_ROLE
from derwin_db.settings.url import ConnectionInfo
from derwin_db.translation.driver_errors import sqlstate_of

if TYPE_CHECKING:
    from derwin_db.settings import Settings

logger: logging.Logger = logging.getLogger("derwin_db")

_ENDING_SECONDS = 20.0
_ENDING_TIMEOUT = 5.0
_ENDING_PAUSE = 0.1
"""Of ending what was given up: how long it is tried, how long one attempt may take, and what lies between two."""

_BEGIN = f"""
BEGIN; SET LOCAL ROLE NONE; SET LOCAL idle_in_transaction_session_timeout = '{_ENDING_TIMEOUT:g}s';
SET LOCAL statement_timeout = '{_ENDING_TIMEOUT:g}s'
"""
"""In one message: a line that falls silent leaves nothing open for longer than this. Behind a pooler the role of units may have
stayed, which sees nobody else."""

LOOK_SECONDS = 60.0
"""How often a pool that is in use looks for strays, at the most."""

_MAY_SIGNAL = "SELECT has_function_privilege('pg_catalog.pg_terminate_backend(integer, bigint)', 'EXECUTE')"
_SIGNAL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND $2 IN (backend_start, xact_start)"
_END = "SELECT FROM (SELECT public.derwin_end_process($1, $2, $3) AS was_there) AS ended WHERE was_there"

_STRAYS = """
SELECT pid, backend_start AS started_at FROM pg_stat_activity
WHERE usename = session_user AND datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
AND NOT pg_has_role(session_user, 'derwin_admin', 'MEMBER')
AND least(xact_start, CASE WHEN state = 'active' THEN query_start END) < clock_timestamp() - make_interval(secs => $1)
"""
"""Sessions of this login that are in one transaction, or in one statement, for longer. SQL can end transactions inside of one
statement; what pg_stat_activity shows of itself it can't change. None of a login that is more than the service's: sessions of
an owner or a superuser may be anybody's."""


_PREPARED = """
SELECT quote_literal(gid) AS name, owner FROM pg_prepared_xacts
WHERE owner IN (session_user, $2) AND database = current_database() AND prepared < now() - make_interval(secs => $1)
AND NOT pg_has_role(session_user, 'derwin_admin', 'MEMBER')
AND NOT (gid LIKE 'citus%' AND EXISTS (SELECT FROM pg_extension WHERE extname = 'citus'))
"""
"""Transactions that a script prepared, where the server allows that: they keep their locks, and nobody is there to end them.
Those of Citus are its own. They belong to the role that prepared them, who alone may end them."""


class Ender:
    """Ends processes of one login on one server, on the event loop of its pool.

    With `looks_for_strays` every session of a service's login that is older than `stray_timeout` ends, whoever began it.
    """

    def __init__(
        self,
        connection: ConnectionInfo,
        settings: "Settings",
        keys: KeyRing | None = None,
        role: str = ADMIN_ROLE,
        *,
        looks_for_strays: bool = False,
    ) -> None:
        self._info = connection
        self._keys = keys
        self._turn = 0
        self._role = role
        self._cleanup_timeout = settings.cleanup_timeout
        self._oldest = max(settings.stray_timeout, settings.transaction_timeout + settings.cleanup_timeout)
        self._look_seconds = min(LOOK_SECONDS, self._oldest / 2)
        self._looks_for_strays = looks_for_strays
        self._loop = asyncio.get_running_loop()
        self._look_at = self._loop.time()
        self._given_up: set[ServerProcess] = set()
        self._ending: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    def end(self, process: ServerProcess) -> None:
        """Have the server end this process, in a task of its own."""
        self._given_up.add(process)
        if self._ending is None or self._ending.done():
            self._ending = self._loop.create_task(self._end_given_up())

    def look_now_and_then(self) -> None:
        """Look for strays, in a task of its own, if the last look was a while ago.

        Cost:
            One connection and one transaction a minute of a pool that is in use.
        """
        if self._looks_for_strays and self._loop.time() >= self._look_at:
            self._look_at = self._loop.time() + self._look_seconds
            self._looking = self._loop.create_task(self._look_quietly())

    async def close(self) -> None:
        """Let the server end what was given up, for as long as a clean-up may take."""
        if self._looking is not None:
            self._looking.cancel()
        if self._ending is not None and not self._ending.done():
            await asyncio.wait({self._ending}, timeout=self._cleanup_timeout)
            self._ending.cancel()
        tasks = {task for task in (self._ending, self._looking) if task is not None and not task.done()}
        if tasks:
            await asyncio.wait(tasks)

    async def _end_given_up(self) -> None:
        """Have the server end what was given up, and look again until it is gone."""
        deadline = self._loop.time() + _ENDING_SECONDS
        while self._given_up and self._loop.time() < deadline:
            try:
                self._given_up -= await self._beside(self._ended)
            except Exception:  # the server is away, or full: it is asked again
                logger.debug("a statement that was given up could not be ended yet", exc_info=True)
            if self._given_up:
                await asyncio.sleep(_ENDING_PAUSE)
        if self._given_up:
            logger.warning("%d statements that were given up may run on: the server could not be asked", len(self._given_up))
            self._given_up.clear()

    async def _ended(self, opened: Connection) -> set[ServerProcess]:
        """Return which of those that were given up are gone."""
        terminate = await self._how(opened)
        return {process for process in list(self._given_up) if await terminate(process)}

    async def _look_quietly(self) -> None:
        try:
            await self.look()
        except Exception:
            logger.debug("nobody could look for transactions that outlived their limits", exc_info=True)

    async def look(self) -> int:
        """End what is older than anything of a unit may be, and return how many: their own limits were turned off by SQL.

        Errors:
            The driver's own.
        """
        found, prepared = await self._beside(self._end_and_list)
        for name, owner in prepared:
            with contextlib.suppress(*DriverError):  # another service of this login was first
                await self._roll_back(name, owner)
        if found or prepared:
            logger.warning(
                "%d sessions and %d prepared transactions of %s were ended: each was there for more than %g s "
                "(DERWIN_STRAY_TIMEOUT), so SQL by hand had turned its limits off",
                found,
                len(prepared),
                self._info.user,
                self._oldest,
            )
        return int(found) + len(prepared)

    async def _end_and_list(self, opened: Connection) -> tuple[int, list[tuple[str, str]]]:
        prepared = await self._prepared(opened)  # before a role is taken, which sees fewer
        return await self._end_strays(opened), prepared

    async def _end_strays(self, opened: Connection) -> int:
        strays = [ServerProcess(row["pid"], row["started_at"]) for row in await opened.fetch(_STRAYS, self._oldest)]
        if strays:
            terminate = await self._how(opened)
            for stray in strays:
                await terminate(stray)
        return len(strays)

    async def _prepared(self, opened: Connection) -> list[tuple[str, str]]:
        """Return name and owner of each. Behind a pooler nobody could take the owner's role for one statement alone."""
        if self._info.is_pooled:
            return []
        return [(row["name"], row["owner"]) for row in await opened.fetch(_PREPARED, self._oldest, self._role)]

    async def _roll_back(self, name: str, owner: str) -> None:
        """Roll a prepared transaction back. No transaction block takes the statement, so the connection begins in the role."""
        settings = {} if owner == self._info.user else {"role": owner}
        opened = await connect_steadily(self._info, timeout=_ENDING_TIMEOUT, command_timeout=_ENDING_TIMEOUT, settings=settings)
        try:
            await opened.execute(f"ROLLBACK PREPARED {name}")
        finally:
            opened.terminate()

    async def _beside(self, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        """Do this in a transaction of a connection beside the pool: behind a pooler it is on one server connection.

        Where the server does not take the key it is done again with another one, or with a newer one.
        """
        try:
            return await self._try_beside(work)
        except DriverError as error:
            if self._keys is None or sqlstate_of(error) != INSUFFICIENT_PRIVILEGE:
                raise
        await self._keys.look_again()
        self._turn += 1
        return await self._try_beside(work)

    async def _try_beside(self, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        opened = await connect_steadily(self._info, timeout=_ENDING_TIMEOUT, command_timeout=_ENDING_TIMEOUT)
        try:
            await opened.execute(_BEGIN)
            result = await work(opened)
            await opened.execute("ROLLBACK")  # nothing was written: a signal is sent at once
            return result
        finally:
            opened.terminate()

    async def _how(self, opened: Connection) -> Callable[[ServerProcess], Awaitable[bool]]:
        """Return what ends a process, and says whether it was gone already.

        A cancelled statement may go on, if SQL catches the cancel; this can't be caught.
        """
        keys = () if self._keys is None else self._keys.keys
        if not keys or await opened.fetchval(_MAY_SIGNAL):

            async def signal(process: ServerProcess) -> bool:
                return not await opened.fetch(_SIGNAL, process.pid, process.started_at)

            return signal
        await opened.execute(f"SET LOCAL ROLE {self._role}")
        seal = keys[self._turn % len(keys)]

        async def end(process: ServerProcess) -> bool:
            return not await opened.fetch(_END, *process, seal.end_of_process(*process))

        return end
