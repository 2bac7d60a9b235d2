"""Fault 37: the server's clock is set back while it runs. Collected where libfaketime is installed."""

import asyncio
from datetime import timedelta

from derwin_db import repos
from derwin_db.models import SpendCap
from tests.faults.clock import ServerClock
from tests.faults.load import entry, make_ticket, new_project
from tests.faults.victim import own


class TestStepBack:
    async def test_nothing_is_lost_between_pages_and_the_service_goes_on(self, base, make_db):
        victim = base[0].copy()
        clock = ServerClock(victim.folder)
        own(victim.folder / "clock")
        victim._environment = clock.environment
        await asyncio.to_thread(victim.start)
        try:
            db = make_db(victim.moved(base[1]))
            project = (await new_project(db)).id
            made = set()
            for number, offset in enumerate(["+0", "-3600", "-86400", "+0"]):
                clock.set(offset)
                async with db.project(project) as session:
                    made |= {(await make_ticket(session, f"{number}")).id for _ in range(3)}
            stamps = await victim.fetch("SELECT now() AS seen")
            async with db.project(project) as session:
                seen, stamped, cursor = [], [], None
                while True:
                    page = await repos.qa_tickets.list(session, limit=2, cursor=cursor)
                    seen += [row.id for row in page.items]
                    stamped += [row.created_at for row in page.items]
                    if (cursor := page.next_cursor) is None:
                        break
                await repos.spend_ledger.append(session, entry(), cap=SpendCap(usd="2", window=timedelta(hours=1)))
            assert sorted(seen) == sorted(made)
            assert stamped == sorted(stamped, reverse=True)
            assert stamps[0]["seen"] - min(stamped) > timedelta(hours=23)  # the step was real
            await db.close()
        finally:
            await asyncio.to_thread(victim.remove)
