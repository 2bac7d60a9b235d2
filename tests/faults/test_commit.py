"""Faults 10 and 11: the connection breaks while COMMIT is on its way, before or after the server has got it."""

import asyncio
import time

import pytest

from derwin_db import Database, repos
from derwin_db.errors import OutcomeUnknown
from tests.faults.committing import lose_commits
from tests.faults.load import entry, keys_of, spend, until_spent
from tests.faults.proxy import Proxy


class TestLostAck:
    async def test_says_that_the_outcome_is_unknown(self, proxied: Database, proxy: Proxy, project):
        await proxied.start()
        proxy.mode = "lost_ack"
        with pytest.raises(OutcomeUnknown):
            await spend(proxied, project, "a")
        proxy.mode = "pass"
        assert await keys_of(proxied, project) == ["a"]

    async def test_a_repetition_gives_the_row_that_is_there(self, proxied: Database, proxy: Proxy, project):
        await proxied.start()
        proxy.mode, proxy.armed = "lost_ack", 1
        assert await until_spent(proxied, project, "a") == 2
        assert await keys_of(proxied, project) == ["a"]

    async def test_run_does_not_repeat_it(self, proxied: Database, proxy: Proxy, project):
        await proxied.start()
        proxy.mode = "lost_ack"
        calls = []

        async def work(session):
            calls.append(1)
            return await repos.spend_ledger.append(session, entry())

        with pytest.raises(OutcomeUnknown):
            await proxied.run(project, work)
        assert len(calls) == 1

    async def test_does_not_call_what_waits_for_the_commit(self, proxied: Database, proxy: Proxy, project):
        await proxied.start()
        proxy.mode, called = "lost_ack", []
        with pytest.raises(OutcomeUnknown):
            async with proxied.project(project) as session:
                await repos.spend_ledger.append(session, entry())
                session.after_commit(lambda: called.append(1))
        assert not called
        assert session.outcome == "outcome unknown"


class TestLostRequest:
    async def test_says_that_the_outcome_is_unknown(self, proxied: Database, proxy: Proxy, project):
        await proxied.start()
        proxy.mode = "lost_req"
        with pytest.raises(OutcomeUnknown):
            await spend(proxied, project, "a")
        proxy.mode = "pass"
        assert await keys_of(proxied, project) == []

    async def test_a_repetition_writes_it(self, proxied: Database, proxy: Proxy, project):
        await proxied.start()
        proxy.mode, proxy.armed = "lost_req", 1
        assert await until_spent(proxied, project, "a") == 2
        assert await keys_of(proxied, project) == ["a"]


class TestNoAnswer:
    async def test_within_the_time_of_a_command_says_that_the_outcome_is_unknown(
        self, make_db, database, proxy: Proxy, project
    ):
        db = make_db(proxy.before_all(database), command_timeout=1.0, cleanup_timeout=0.5)
        with pytest.raises(OutcomeUnknown):
            async with db.project(project) as session:
                await repos.spend_ledger.append(session, entry("a"))
                proxy.mode, began = "blackhole", time.monotonic()
        assert 0.9 < time.monotonic() - began < 10
        proxy.mode = "pass"
        assert await until_spent(db, project, "a") == 1
        assert await keys_of(db, project) == ["a"]


class TestBoth:
    async def test_every_write_is_there_once_after_repetition(self, proxied: Database, proxy: Proxy, project):
        counts = await lose_commits(proxied, proxy, project, acks=20, requests=20)
        assert counts.rows == counts.writes == counts.broken == counts.outcome_unknown == 40
        assert counts.stored_before_the_repetition == 20

    async def test_the_admin_log_says_unknown(self, proxied: Database, make_db, database, proxy: Proxy, watch):
        door = make_db(type(database)(database.owner, database.service, proxy.before(database.operator)))
        await door.start()
        proxy.mode = "lost_ack"
        with pytest.raises(OutcomeUnknown):
            async with door.admin(reason="to be lost") as admin:
                await repos.projects.count(admin)
        assert sum("admin door: to be lost (outcome unknown, as " in line for line in watch.lines) == 1
        await asyncio.sleep(0)
