"""Servers and backends that are killed under load."""

import asyncio
import contextlib
import os
import random
import signal
import time
from dataclasses import dataclass
from uuid import UUID

from derwin_db import Database
from tests.faults.load import Traffic, keys_of
from tests.faults.victim import Victim


@dataclass
class Killed:
    """What became of the writes."""

    kills: int = 0
    acknowledged: int = 0
    lost: int = 0
    unknown: int = 0
    refused: int = 0
    slowest_return: float = 0.0
    """Seconds from the moment when the server answered again to the first write that was acknowledged."""


async def kill_servers(db: Database, victim: Victim, project: UUID, *, kills: int, writes: int = 40) -> Killed:
    """Kill the server's first process under load, start it again, and see what is left."""
    seen = Killed()
    async with Traffic(db, project) as traffic:
        for _ in range(kills):
            await traffic.until_more(writes)
            await asyncio.to_thread(victim.kill)
            before = len(traffic.acknowledged)
            await asyncio.to_thread(victim.start)
            began = time.monotonic()
            await traffic.until(lambda: len(traffic.acknowledged) > before)  # noqa: B023  # awaited at once
            seen.slowest_return = max(seen.slowest_return, time.monotonic() - began)
            seen.kills += 1
    await traffic.check()
    stored = set(await keys_of(db, project))
    seen.acknowledged, seen.lost = len(traffic.acknowledged), len(traffic.acknowledged - stored)
    seen.unknown, seen.refused = len(traffic.unknown), traffic.refused
    return seen


async def kill_one_backend(victim: Victim, user: str) -> None:
    """Kill one backend of the login: the server ends all others, recovers and goes on."""
    while True:
        pids = await victim.backends(user)
        with contextlib.suppress(ProcessLookupError):  # it may be leaving by itself
            if pids:
                os.kill(random.choice(pids), signal.SIGKILL)
                return
