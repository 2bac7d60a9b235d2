"""Commits that are lost on the way there or on the way back, and repeated as a client repeats them."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from derwin_db import Database
from derwin_db.errors import OutcomeUnknown
from tests.faults.load import keys_of, raised, spend
from tests.faults.proxy import Mode, Proxy


@dataclass
class LostCommits:
    """What became of the writes."""

    writes: int = 0
    broken: int = 0
    outcome_unknown: int = 0
    stored_before_the_repetition: int = 0
    rows: int = 0


async def lose_commits(db: Database, proxy: Proxy, project: UUID, *, acks: int, requests: int, at_once: int = 8) -> LostCommits:
    """Write `acks + requests` entries; the commit of each first try is lost. Each is repeated under its key."""
    await db.start()
    seen = LostCommits()
    begun = proxy.broken
    modes: list[tuple[Mode, int]] = [("lost_ack", acks), ("lost_req", requests)]
    for mode, number in modes:
        for start in range(0, number, at_once):
            keys = [f"{mode} {name}" for name in range(start, min(start + at_once, number))]
            await _lose(db, proxy, project, mode, keys, seen)
    stored = await keys_of(db, project)
    assert len(stored) == len(set(stored)), "a write is there twice"
    seen.broken, seen.rows = proxy.broken - begun, len(stored)
    return seen


async def _lose(db: Database, proxy: Proxy, project: UUID, mode: Mode, keys: list[str], seen: LostCommits) -> None:
    proxy.mode = mode
    errors = await asyncio.gather(*(raised(spend(db, project, key)) for key in keys))
    proxy.mode = "pass"
    seen.outcome_unknown += sum(type(error) is OutcomeUnknown for error in errors)
    there = len(set(keys) & set(await keys_of(db, project)))
    assert there == (len(keys) if mode == "lost_ack" else 0)
    seen.stored_before_the_repetition += there
    await asyncio.gather(*(spend(db, project, key) for key in keys))
    seen.writes += len(keys)
