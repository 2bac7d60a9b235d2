"""Who has something to do: ids of projects, asked over all of them. The one place that asks without a project.

On one node two functions of the database answer, to who has the key of the sealed scope: the service's login is enough. On a
distributed server no trigger could keep a queue over all shards, so nobody may look over all projects but the admin door, which
lists them; then each is tried in turn.
"""

import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

from derwin_db import repos
from derwin_db.errors import DerwinError
from derwin_db.query.statement import Statement, scalars
from derwin_db.unit.backend import KeyAttempts

if TYPE_CHECKING:
    from derwin_db.database import Database

CHANNEL = "derwin_runs"
"""What a commit that queues a run says something on. Nothing is in the message."""

_LIST_SECONDS = 30.0
"""How old the list of all projects may be where each is tried in turn."""


class Queue(ABC):
    """Tells which projects have something to do."""

    def __init__(self, db: "Database") -> None:
        self._db = db

    @abstractmethod
    async def waiting(self, last: UUID, most: int, at_once: int | None) -> Sequence[UUID]:
        """Return up to so many projects, of those whose id follows `last` in a circle, that may have queued runs.

        Those that run `at_once` or more already are left out where that is known.
        """

    @abstractmethod
    async def stalled(self, older_than: timedelta) -> Sequence[UUID]:
        """Return the projects that may have running runs whose last heartbeat is older than this."""


class SealedQueue(Queue):
    """Asks the database's own functions, with a token of the seal's key."""

    async def waiting(self, last: UUID, most: int, at_once: int | None) -> Sequence[UUID]:
        return await self._ask(_waiting_statement(), {"last": last, "most": most, "at_once": at_once})

    async def stalled(self, older_than: timedelta) -> Sequence[UUID]:
        return await self._ask(_stalled_statement(), {"older_than": older_than})

    async def _ask(self, statement: Statement[UUID], values: Mapping[str, Any]) -> Sequence[UUID]:
        """Ask, and ask again with a newer key where the one of this process was rotated."""
        keys = KeyAttempts((await self._db.app_pool(read_only=False)).preamble)
        while True:
            keys.begin()
            try:
                async with self._db.queue() as session:
                    return await session.ask(statement, values)
            except DerwinError as error:
                if not await keys.has_another(error):
                    raise


class ListedQueue(Queue):
    """Knows all projects by the admin door, and not which of them have something to do."""

    def __init__(self, db: "Database") -> None:
        super().__init__(db)
        self._ids: list[UUID] = []
        self._listed_at: float | None = None

    async def waiting(self, last: UUID, most: int, at_once: int | None) -> Sequence[UUID]:  # noqa: ARG002  # not known here
        ids = await self._projects()
        behind = bisect_right(ids, last)
        return (ids[behind:] + ids[:behind])[:most]

    async def stalled(self, older_than: timedelta) -> Sequence[UUID]:  # noqa: ARG002  # not known here
        return await self._projects()

    async def _projects(self) -> list[UUID]:
        if self._listed_at is None or time.monotonic() - self._listed_at > _LIST_SECONDS:
            self._ids = sorted(await all_projects(self._db, reason="list the projects whose runs are served"))
            self._listed_at = time.monotonic()
        return self._ids


async def queue_of(db: "Database") -> Queue:
    """Return how this database is asked."""
    preamble = (await db.app_pool(read_only=False)).preamble
    return ListedQueue(db) if preamble.seal is None or preamble.is_sharded else SealedQueue(db)


async def all_projects(db: "Database", *, reason: str) -> list[UUID]:
    """Return the ids of all projects, through the admin door."""
    async with db.admin(reason=reason) as admin:
        return [row.id async for row in repos.projects.stream(admin)]


def _asked(name: str, **parameters: Any) -> Statement[UUID]:
    token = sa.bindparam("token", type_=sa.Text())
    given = [sa.bindparam(parameter, type_=kind) for parameter, kind in parameters.items()]
    function: Any = getattr(sa.func.public, f"derwin_{name}")
    return scalars(f"workers.{name}", sa.select(function(token, *given, type_=sa.Uuid())), is_scoped=False)


@cache
def _waiting_statement() -> Statement[UUID]:
    return _asked("waiting", last=sa.Uuid(), most=sa.Integer(), at_once=sa.Integer())


@cache
def _stalled_statement() -> Statement[UUID]:
    return _asked("stalled", older_than=sa.Interval())
