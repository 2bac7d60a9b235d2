"""Units of work that get in each other's way on purpose."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import DatabaseUnavailable
from derwin_db.models import QATicketUpdate
from tests.faults.load import ticket
from tests.faults.victim import Victim


@dataclass
class Deadlocks:
    """What came of units that locked two rows in opposite orders."""

    pairs: int = 0
    deadlocks: int = 0
    surfaced: int = 0
    updates: int = 0


async def deadlock(db: Database, victim: Victim, project: UUID, *, deadlocks: int, at_once: int = 4) -> Deadlocks:
    """Let pairs of units update two tickets in opposite orders until so many met, all of them through `db.run`."""
    seen = Deadlocks()
    ids = []
    async with db.project(project) as session:
        for number in range(2 * at_once):
            row = await repos.qa_tickets.create(session, ticket(f"{number}"))
            ids.append(row.id)
    before = await _count(victim, db)

    async def pairs(one: UUID, two: UUID) -> None:
        while seen.deadlocks < deadlocks:
            met = asyncio.Barrier(2)
            seen.pairs += 1
            results = await asyncio.gather(
                _cross(db, project, one, two, met), _cross(db, project, two, one, met), return_exceptions=True
            )
            for result in results:
                if isinstance(result, DatabaseUnavailable):
                    seen.surfaced += 1
                elif isinstance(result, BaseException):
                    raise result
                else:
                    seen.deadlocks += result > 1
                    seen.updates += 2

    await asyncio.gather(*(pairs(ids[2 * number], ids[2 * number + 1]) for number in range(at_once)))
    async with db.project(project) as session:
        stored = sum([(await repos.qa_tickets.get(session, id)).version - 1 for id in ids])
    assert stored == seen.updates, "an update was lost or done twice"
    await db.close()  # backends tell what they counted when they end
    async with asyncio.timeout(10):
        while await _count(victim, db) - before < seen.deadlocks:
            await asyncio.sleep(0.05)
    return seen


async def _cross(db: Database, project: UUID, one: UUID, two: UUID, met: asyncio.Barrier) -> int:
    """Update both, the first time in step with the other unit; returns how many tries it took."""
    tries = 0

    async def work(session: ProjectSession) -> None:
        nonlocal tries
        tries += 1
        await repos.qa_tickets.update(session, one, QATicketUpdate(title=f"{tries}"))
        if tries == 1:
            await met.wait()
        await repos.qa_tickets.update(session, two, QATicketUpdate(title=f"{tries}"))

    await db.run(project, work)
    return tries


async def _count(victim: Victim, db: Database) -> int:
    """How many deadlocks the server has seen in this database."""
    rows = await victim.fetch("SELECT deadlocks FROM pg_stat_database WHERE datname = $1", db._urls.service.database)
    return rows[0]["deadlocks"]
