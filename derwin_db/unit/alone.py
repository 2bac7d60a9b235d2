"""Reads that run alone: one statement that brings its scope along, on a connection that is taken for it and given back.

A unit of work is READ COMMITTED, so each of its statements sees its own moment anyway: what is read before the first write
needs no transaction. No connection is held while the unit's caller does something else.
"""

import logging
from collections.abc import Awaitable, Sequence
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from derwin_db.connection.driver import PooledConnection
from derwin_db.connection.facts import INSUFFICIENT_PRIVILEGE
from derwin_db.connection.pool import DataSource
from derwin_db.errors import ProjectNotFound, SqlState
from derwin_db.isolation.preamble import LONGEST_PAD
from derwin_db.models import Project
from derwin_db.observe.events import Watch
from derwin_db.query.builders import scoped
from derwin_db.query.statement import Statement, scalars
from derwin_db.translation.driver_errors import breaks_connections, is_connection_lost, sqlstate_of
from derwin_db.unit.backend import Backend, KeyAttempts, give_back

logger: logging.Logger = logging.getLogger("derwin_db")

_ATTEMPTS = 2
"""A read that loses its connection is run once more: it has changed nothing."""


class NeedsTransaction(Exception):
    """The statement found no scope or role, or an old one: it is to be run in a transaction."""


class Reader:
    """Runs statements of one project alone."""

    def __init__(self, backend: Backend, project_id: UUID, watch: Watch | None) -> None:
        self._backend = backend
        self._project_id = project_id
        self._watch = watch

    async def read(self, source: DataSource, statement: Statement[Any], arguments: list[Any]) -> Sequence[Any]:
        """Return the records of the statement; the arguments are those of its form that runs alone.

        Errors:
            ProjectNotFound; NeedsTransaction; the driver's own.
        """
        keys = KeyAttempts(source.preamble)
        attempt = 1
        while True:
            connection = await source.pool.acquire()
            keys.begin()
            try:
                if not connection.is_read_committed:
                    raise NeedsTransaction  # by the server's settings a unit sees one moment in all its statements
                records = await self._fetch(connection, source, statement, arguments)
                if self._project_id not in source.preamble.known_projects:
                    await self._know_project(connection, source, is_seen=statement.is_of_rows and bool(records))
            except BaseException as error:
                await self._end(connection, source, error)
                if await keys.has_another(error):
                    continue
                self._judge(error, statement, is_last=attempt == _ATTEMPTS)
                attempt += 1
                continue
            await source.pool.release(connection)
            return records

    async def _know_project(self, connection: PooledConnection, source: DataSource, *, is_seen: bool) -> None:
        """See that the project is there, once for each server: an empty answer does not say so, a row of it does."""
        if not is_seen:
            statement = _exists_statement()
            arguments = statement.alone.arguments({"project_id": self._project_id})
            if not await self._fetch(connection, source, statement, arguments):
                raise ProjectNotFound
        source.preamble.known_projects.add(self._project_id)

    def _fetch(
        self, connection: PooledConnection, source: DataSource, statement: Statement[Any], arguments: list[Any]
    ) -> Awaitable[Sequence[Any]]:
        form = statement.alone
        sql = form.sql
        scope = source.preamble.scope_of_one(connection, self._project_id)
        if source.preamble.is_sharded and form.short is not None and connection.activity_query_size <= LONGEST_PAD:
            sql, scope = form.short, f"{'.' * connection.activity_query_size}{scope}"
        arguments[form.scope_at] = scope
        call = connection.fetch(sql, *arguments)
        if self._watch is None:
            return call
        self._watch.at(source.pool.server)
        return self._watch.called(call, "fetch", sql, statement, arguments)

    async def _end(self, connection: PooledConnection, source: DataSource, error: BaseException) -> None:
        """Give the connection back after an error, or end it."""
        pool = source.pool
        if breaks_connections(error):
            pool.drop_all_like(connection)
        elif sqlstate_of(error) == SqlState.SCOPE_ENDED:
            pool.drop_all_like(connection)  # the server's clock was set: what was seen of it is wrong
        elif is_connection_lost(error) or connection.is_closed():
            pool.drop_all_like(connection)
        elif isinstance(error, Exception):
            await pool.release(connection)
        else:
            work = give_back(pool, connection, self._backend.cleanup_timeout, sql="SELECT 1")
            await self._backend.outlive(work)

    def _judge(self, error: BaseException, statement: Statement[Any], *, is_last: bool) -> None:
        """Raise the error, unless the statement may run once more.

        Errors:
            NeedsTransaction where it found no scope.
        """
        state = sqlstate_of(error)
        if isinstance(error, NeedsTransaction):
            raise error
        if state == SqlState.NO_SCOPE:
            self._backend.misplaced += 1
            logger.warning("%s was planned past its scope; it runs in a transaction", statement.name)
            raise NeedsTransaction
        if state == INSUFFICIENT_PRIVILEGE or (  # behind a pooler, on a server connection that no transaction of ours used yet
            state == SqlState.SCOPE_ENDED and is_last
        ):
            raise NeedsTransaction
        may_run_again = state == SqlState.SCOPE_ENDED or is_connection_lost(error)
        if is_last or not may_run_again:
            raise error


@cache
def _exists_statement() -> Statement[int]:
    return scalars("projects.exists", scoped(Project, sa.literal(1)))
