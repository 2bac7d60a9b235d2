"""Fixtures of the tests of repositories: two filled projects to read, a look at locks, units of work in tasks."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import asyncpg
import pytest

from derwin_db import AdminSession, Database, repos
from derwin_db.errors import DerwinError
from derwin_db.fields.scalars import new_id
from derwin_db.models import Project, ProjectCreate, ProjectType
from derwin_db.session import UnitOfWork
from derwin_db.testing import TestDatabase
from tests.repos.filling import fill


@dataclass(frozen=True)
class Filled:
    """The ids of two projects with rows in all tables. Tests leave them as they are."""

    project: UUID
    other: UUID


@pytest.fixture(scope="session")
async def filled(db: Database) -> Filled:
    ids = []
    for _ in range(2):
        async with db.admin(reason="a test") as admin:
            slug = f"filled-{new_id().hex[-20:]}"
            project = await repos.projects.create(admin, ProjectCreate(slug=slug, name="Filled", type=ProjectType.ERP))
        await fill(db, project.id)
        ids.append(project.id)
    return Filled(*ids)


_BACKENDS: WeakKeyDictionary["asyncio.Task[Any]", int] = WeakKeyDictionary()
"""The process id of the backend that a task's unit of work runs on."""


async def note_backend(session: UnitOfWork) -> None:
    """Remember on which backend this task works, for `Locks`. Behind a pooler only the server knows."""
    task = asyncio.current_task()
    assert task is not None
    _BACKENDS[task] = await (await session._connected()).fetchval("SELECT pg_backend_pid()")


class Locks:
    """Sees who waits for whom, so that two units of work can be interleaved without sleeping and hoping."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def is_waiting(self, task: "asyncio.Task[Any]") -> bool:
        """Tell whether the task's own backend waits for a lock that another one holds."""
        blocked = "SELECT cardinality(pg_blocking_pids($1)) > 0"
        return task in _BACKENDS and await self._connection.fetchval(blocked, _BACKENDS[task])

    async def until_waiting(self, task: "asyncio.Task[Any]") -> None:
        """Return when the task's statement waits for a lock. Fails if the task ends without waiting."""
        async with asyncio.timeout(10):
            while not await self.is_waiting(task):
                assert not task.done(), "it was to wait for a lock, and did not"
                await asyncio.sleep(0.002)

    async def until_met(self, done: asyncio.Event, task: "asyncio.Task[Any]") -> None:
        """Return when the task has set the event, or waits for a lock: it comes no further as long as others hold theirs."""
        async with asyncio.timeout(10):
            while not done.is_set() and not await self.is_waiting(task):
                assert not task.done(), "it ended before the other one was there"
                await asyncio.sleep(0.002)


@pytest.fixture
async def locks(migrated: TestDatabase) -> AsyncIterator[Locks]:
    connection = await asyncpg.connect(**migrated.owner.connect_arguments())
    yield Locks(connection)
    await connection.close()


@pytest.fixture
async def admin(db: Database) -> AsyncIterator[AdminSession]:
    """An open unit of work of the admin door that leaves nothing behind."""
    unit = db.admin(reason="a test")
    await unit.__aenter__()
    yield unit
    await unit._abandon()


Later = Callable[..., "asyncio.Task[Any]"]


@pytest.fixture
def later(db: Database, project: Project) -> Later:
    """Runs a verb in a unit of work of its own, in a task."""

    def start(verb: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> "asyncio.Task[Any]":
        async def run() -> Any:
            async with db.project(project.id) as session:
                await note_backend(session)
                return await verb(session, *args, **kwargs)

        return asyncio.ensure_future(run())

    return start


AtOnce = Callable[..., Awaitable[list[Any]]]


@pytest.fixture
def at_once(db: Database, project: Project) -> AtOnce:
    """Runs `verb(session, *args)` for each of many arguments, all at once; errors of this package are results."""

    async def one(verb: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> Any:
        try:
            async with db.project(project.id) as session:
                return await verb(session, *args)
        except DerwinError as error:
            return error

    async def run(verb: Callable[..., Awaitable[Any]], *calls: tuple[Any, ...]) -> list[Any]:
        return await asyncio.gather(*(one(verb, args) for args in calls))

    return run


def kinds(results: list[Any]) -> Counter[str]:
    return Counter(type(result).__name__ for result in results)
