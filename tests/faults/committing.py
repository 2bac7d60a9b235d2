"""Commits that are lost on the way there or on the way back, and repeated as a client repeats them."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from derwin_db import Database
from tests.faults.load import keys_of, until_spent
from tests.faults.proxy import Proxy


@dataclass
class LostCommits:
    """What became of the writes."""

    writes: int
    broken: int
    tries: int
    rows: int


async def lose_commits(db: Database, proxy: Proxy, project: UUID, *, acks: int, requests: int, writers: int = 8) -> LostCommits:
    """Write `acks + requests` entries; as many commits are lost. Each is repeated under its key until it is acknowledged."""
    await db.start()
    names = iter(range(acks + requests))
    tries = 0

    async def write() -> None:
        nonlocal tries
        for name in names:
            needed = await until_spent(db, project, f"key-{name}")
            tries += needed

    before = proxy.broken
    proxy.mode, proxy.armed = "lost_ack", acks
    writing = asyncio.gather(*(write() for _ in range(writers)))
    while proxy.armed and not writing.done():
        await asyncio.sleep(0.001)
    proxy.mode, proxy.armed = "lost_req", requests
    await writing
    keys = [f"more-{number}" for number in range(proxy.armed)]  # where the writers were done before all were lost
    for key in keys:
        await until_spent(db, project, key)
    proxy.mode = "pass"
    stored = await keys_of(db, project)
    assert len(stored) == len(set(stored))
    return LostCommits(acks + requests, proxy.broken - before, tries + len(keys), len(stored) - len(keys))
