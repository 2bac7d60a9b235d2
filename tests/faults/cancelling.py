"""Units of work that are cancelled at random moments, and what is left of them."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

import anyio

from derwin_db import Database, repos
from tests.faults.load import entry, keys_of, settled, warm
from tests.faults.victim import Victim

Cancel = Callable[[Coroutine[Any, Any, None], random.Random], Coroutine[Any, Any, bool]]


@dataclass
class Cancelled:
    """What became of the units."""

    units: int = 0
    cancelled: int = 0
    committed: int = 0
    dirty: int = 0
    """Units that began on a connection which another had left in a transaction or with its project set."""
    lost: int = 0
    """Units that said they were committed, and whose row is missing."""
    stray: int = 0
    """Units that did not say so, and whose row is there."""
    reconnects: int = 0
    foreign: list[BaseException] = field(default_factory=list)


async def once(work: Coroutine[Any, Any, None], rng: random.Random) -> bool:
    """Cancel after up to 20 ms. Returns whether it was in time."""
    return await _cancel(work, rng, times=1)


async def three_times(work: Coroutine[Any, Any, None], rng: random.Random) -> bool:
    """Cancel, and twice more while it is cleaning up."""
    return await _cancel(work, rng, times=3)


async def by_scope(work: Coroutine[Any, Any, None], rng: random.Random) -> bool:
    """Cancel as Starlette's middleware does: anyio cancels again at every await until the block is left."""
    with anyio.move_on_after(rng.uniform(0, 0.02)) as scope:
        await work
    return scope.cancelled_caught


async def _cancel(work: Coroutine[Any, Any, None], rng: random.Random, *, times: int) -> bool:
    task = asyncio.create_task(work)
    await asyncio.sleep(rng.uniform(0, 0.02))
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    (result,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(result, asyncio.CancelledError):
        return True
    if result is not None:
        raise result
    return False


async def cancel_units(
    db: Database,
    victim: Victim,
    user: str,
    project: UUID,
    *,
    units: int,
    cancel: Cancel,
    seed: int,
    tasks: int = 8,
    until_cancelled: bool = False,
) -> Cancelled:
    """Begin units of three writes and a read, cancel each at a random moment, and compare what they say with what is there.

    So many units are begun, or, with `until_cancelled`, as many as it takes to have so many cancelled in time.
    """
    rng = random.Random(seed)
    seen, said = Cancelled(), set()
    await db.start()
    await warm(db, project, db.settings.pool_size)
    known = set(await victim.backends(user))
    names = count()

    async def unit(name: str) -> None:
        async with db.project(project) as session:
            session.after_commit(lambda: said.add(name))
            await repos.spend_ledger.append(session, entry(name))
            await repos.qa_tickets.count(session)
            await repos.spend_ledger.append(session, entry(f"{name} again"))
            async with session.savepoint():
                await repos.spend_ledger.append(session, entry(f"{name} inside"))

    async def worker() -> None:
        while (seen.cancelled if until_cancelled else seen.units) < units:
            name = next(names)
            seen.units += 1
            try:
                was_cancelled = await cancel(unit(f"unit {name}"), rng)
                seen.cancelled += was_cancelled
            except Exception as error:
                seen.foreign.append(error)

    reconnects = asyncio.create_task(_count_new(victim, user, known))
    await asyncio.gather(*(worker() for _ in range(tasks)))
    await settled(db)
    seen.reconnects = await _stop(reconnects)
    stored = await keys_of(db, project)
    assert len(stored) == len(set(stored))
    for name in {key.removesuffix(" again").removesuffix(" inside") for key in stored}:
        if not {name, f"{name} again", f"{name} inside"} <= set(stored):
            raise AssertionError(f"half of {name} is there")
    whole = {key for key in stored if not key.endswith((" again", " inside"))}
    seen.committed, seen.lost, seen.stray = len(said), len(said - whole), len(whole - said)
    seen.dirty = await _dirty(db, project)
    return seen


async def _count_new(victim: Victim, user: str, known: set[int]) -> set[int]:
    """Look who is connected until cancelled; returns the backends that were not there at first."""
    connection = await victim.connect()
    new: set[int] = set()
    try:
        while True:
            rows = await connection.fetch(
                "SELECT pid FROM pg_stat_activity WHERE usename = $1 AND backend_type = 'client backend'", user
            )
            new |= {row["pid"] for row in rows} - known
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        rows = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE usename = $1", user)
        return new | {row["pid"] for row in rows} - known
    finally:
        await connection.close()


async def _stop(watching: "asyncio.Task[set[int]]") -> int:
    watching.cancel()
    return len(await watching)


async def _dirty(db: Database, project: UUID) -> int:
    """Take every connection of the pool once, and count those that were not given back as they came."""
    pool, _ = await db.app_pool(read_only=False)
    taken = [await pool.acquire() for _ in range(len(pool._idle))]
    dirty = 0
    for connection in taken:
        role, scope = await connection.fetchrow("SELECT current_user, current_setting('derwin.project_id', true)")
        dirty += connection.is_in_transaction() or role != "derwin_app" or bool(scope)
        await pool.release(connection)
    return dirty
