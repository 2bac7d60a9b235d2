"""Work that the fault tests interrupt, and what is counted of it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self
from uuid import UUID

import sqlalchemy as sa

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import DatabaseTimeout, DatabaseUnavailable, DerwinError, OutcomeUnknown
from derwin_db.fields.scalars import new_id
from derwin_db.models import (
    Project,
    ProjectCreate,
    ProjectType,
    QATicket,
    QATicketCreate,
    SpendKind,
    SpendLedger,
    SpendLedgerCreate,
    SpendSource,
)
from derwin_db.testing import factories
from tests.faults.watch import CANARY


def ticket(title: str = "t") -> QATicketCreate:
    """A ticket whose texts are secrets of the tests."""
    return factories.ticket(title=f"{title} {CANARY}", description=CANARY, steps_to_reproduce=[CANARY], classification="ui_bug")


def entry(key: str | None = None, amount: str = "1") -> SpendLedgerCreate:
    """An entry of the ledger, which may be repeated."""
    return SpendLedgerCreate(
        kind=SpendKind.CHARGE,
        source=SpendSource.OTHER,
        amount_usd=amount,
        model=CANARY,
        idempotency_key=key or new_id().hex,
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


async def new_project(db: Database) -> Project:
    """A project that nobody else has."""
    async with db.admin(reason="a fault test") as admin:
        data = ProjectCreate(slug=f"f-{new_id().hex[-20:]}", name="Fault", type=ProjectType.OTHER)
        return await repos.projects.create(admin, data)


async def spend(db: Database, project: UUID, key: str) -> SpendLedger:
    """One unit of work with one write that may be repeated."""
    async with db.project(project) as session:
        return await repos.spend_ledger.append(session, entry(key))


async def until_spent(db: Database, project: UUID, key: str, *, tries: int = 50) -> int:
    """Write, and again where it failed, as a client does; returns how many tries it took."""
    for number in range(1, tries + 1):
        try:
            await spend(db, project, key)
        except (DatabaseUnavailable, DatabaseTimeout):
            await asyncio.sleep(random.uniform(0, 0.02))
        else:
            return number
    raise AssertionError(f"not written in {tries} tries")


async def keys_of(db: Database, project: UUID) -> list[str]:
    """The keys in the project's ledger."""
    async with db.project(project) as session:
        return [row.idempotency_key async for row in repos.spend_ledger.stream(session)]


async def titles_of(db: Database, project: UUID) -> list[str]:
    """The titles of the project's tickets."""
    async with db.project(project) as session:
        return [row.title async for row in repos.qa_tickets.stream(session)]


async def hold(session: ProjectSession) -> None:
    """Have the unit of work open its transaction and keep its connection, which a read alone gives back at once."""
    await session.sql.execute(sa.text("SELECT 1"))


async def warm(db: Database, project: UUID, number: int) -> None:
    """Have the pool hold this many connections, also where it waits for less time than a busy machine takes to make one."""
    async with AsyncExitStack() as holding, asyncio.timeout(60):
        while db.connections_in_use() < number:
            with suppress(DatabaseUnavailable):
                async with AsyncExitStack() as unit:
                    await hold(await unit.enter_async_context(db.project(project)))
                    holding.push_async_exit(unit.pop_all())


async def settled(db: Database, *, seconds: float = 10) -> None:
    """See that all connections are given back, now or when what was cut short has cleaned up."""
    deadline = asyncio.get_running_loop().time() + seconds
    while db.connections_in_use() and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)
    assert db.connections_in_use() == 0, "connections are checked out"


@dataclass
class Traffic:
    """Writers that go on until they are told to stop, and what the server acknowledged of it."""

    db: Database
    project: UUID
    writers: int = 8
    acknowledged: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    refused: int = 0
    foreign: list[BaseException] = field(default_factory=list)
    last_success: float = 0.0
    longest_gap: float = 0.0

    async def __aenter__(self) -> Self:
        self._is_on = True
        self.last_success = asyncio.get_running_loop().time()
        self._tasks = [asyncio.create_task(self._write()) for _ in range(self.writers)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_on = False
        await asyncio.gather(*self._tasks)

    async def until(self, condition: Callable[[], bool], *, seconds: float = 10) -> None:
        """Let it run until something is so."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)

    async def until_more(self, number: int = 20, *, seconds: float = 10) -> None:
        """Let it run until so many more writes were acknowledged."""
        wanted = len(self.acknowledged) + number
        await self.until(lambda: len(self.acknowledged) >= wanted, seconds=seconds)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._is_on:
            key = new_id().hex
            try:
                await spend(self.db, self.project, key)
            except OutcomeUnknown:
                self.unknown.add(key)
            except (DatabaseUnavailable, DatabaseTimeout):
                self.refused += 1
                await asyncio.sleep(0.01)
            except Exception as error:
                self.foreign.append(error)
                await asyncio.sleep(0.01)
            else:
                self.acknowledged.add(key)
                now = loop.time()
                self.longest_gap = max(self.longest_gap, now - self.last_success)
                self.last_success = now

    async def check(self) -> None:
        """See that nothing acknowledged is lost, nothing is there twice, and nothing else is there."""
        keys = await keys_of(self.db, self.project)
        stored = set(keys)
        assert len(keys) == len(stored), "a write is there twice"
        assert not self.acknowledged - stored, f"{len(self.acknowledged - stored)} acknowledged writes are lost"
        assert not stored - self.acknowledged - self.unknown, "a write is there that was refused"
        assert not self.foreign, self.foreign


async def raised(work: Awaitable[object]) -> DerwinError | None:
    """Return the error of this package that the work raises, or None."""
    try:
        await work
    except DerwinError as error:
        return error
    return None


async def use(db: Database, project: UUID, work: Callable[[ProjectSession], Awaitable[object]]) -> object:
    """One unit of work."""
    async with db.project(project) as session:
        return await work(session)


async def make_ticket(session: ProjectSession, title: str = "t") -> QATicket:
    """One ticket."""
    return await repos.qa_tickets.create(session, ticket(title))
