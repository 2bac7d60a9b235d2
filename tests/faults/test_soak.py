"""The short version of the soak: five seconds of faults at random."""

import random
from collections import deque

from tests.faults.soak import run
from tests.faults.victim import Victim


class TestSoak:
    async def test_nothing_is_lost_open_or_growing(self, victim: Victim, database, alone, watch):
        watch.errors = deque(maxlen=0)  # their tracebacks would keep alive what is counted here
        seed = random.randrange(2**32)
        print("seed", seed)
        report = await run(victim, database.urls, database.service.user, seconds=5, tasks=50, seed=seed)
        print("\n".join(report.lines()))
        report.check()
        assert len(report.acknowledged) > 20, report.lines()
        assert report.broken >= 3, report.lines()
