"""Faults 6 to 9 and 12 to 15: connections that end, are refused, or are cut by a server that dies."""

import asyncio
import os
import random
import signal
import time

import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.errors import ConfigurationError, DatabaseUnavailable, OutcomeUnknown
from tests.faults.killing import kill_one_backend, kill_servers
from tests.faults.load import Traffic, entry, keys_of, make_ticket, new_project, raised, spend, warm
from tests.faults.proxy import Proxy
from tests.faults.victim import Victim

END_ALL = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = $1"


async def until_closed(connection) -> None:
    """Wait until the driver has noticed that its connection has ended."""
    async with asyncio.timeout(10):
        while not connection.is_closed():
            await asyncio.sleep(0.002)


class TestIdleConnectionsEnded:
    @pytest.mark.parametrize("pause", [0, 0.05])
    async def test_nobody_notices(self, db: Database, victim: Victim, database, project, pause):
        await warm(db, project, 10)
        for number in range(5):
            await victim.fetch(END_ALL, database.service.user)
            await asyncio.sleep(pause)
            await asyncio.gather(*(spend(db, project, f"{number} {name}") for name in range(20)))
        assert len(await keys_of(db, project)) == 100


class TestEndedInAUnit:
    async def test_between_statements_nothing_is_stored_and_the_next_unit_works(
        self, db: Database, victim: Victim, database, project
    ):
        with pytest.raises(DatabaseUnavailable) as caught:
            async with db.project(project) as session:
                await repos.spend_ledger.append(session, entry("a"))
                await victim.fetch(END_ALL, database.service.user)
                await until_closed(session._connection)
                await repos.spend_ledger.append(session, entry("b"))
        assert not isinstance(caught.value, OutcomeUnknown)
        assert await keys_of(db, project) == []

    async def test_before_the_commit_it_is_known_that_nothing_is_stored(self, db: Database, victim: Victim, database, project):
        with pytest.raises(DatabaseUnavailable) as caught:
            async with db.project(project) as session:
                await repos.spend_ledger.append(session, entry("a"))
                await victim.fetch(END_ALL, database.service.user)
                await until_closed(session._connection)
        assert type(caught.value) is DatabaseUnavailable
        assert await keys_of(db, project) == []

    async def test_run_does_it_again(self, db: Database, victim: Victim, database, project):
        tries = []

        async def work(session):
            tries.append(1)
            await repos.spend_ledger.append(session, entry("a"))
            if len(tries) < 3:
                await victim.fetch(END_ALL, database.service.user)
                await until_closed(session._connection)
            await repos.spend_ledger.append(session, entry("b"))

        await db.run(project, work)
        assert sorted(await keys_of(db, project)) == ["a", "b"]
        assert len(tries) == 3

    async def test_in_a_query_says_unavailable_with_the_servers_reason(self, db: Database, victim: Victim, database, project):
        async def sleep() -> None:
            async with db.project(project) as session:
                await session.sql.execute(sa.text("SELECT pg_sleep(30)"))

        task = asyncio.create_task(sleep())
        await victim.until_active("pg_sleep(30)")
        await victim.fetch(END_ALL, database.service.user)
        with pytest.raises(DatabaseUnavailable) as caught:
            await task
        assert caught.value.sqlstate == "57P01"

    @pytest.mark.parametrize("rounds", [30, pytest.param(300, marks=pytest.mark.long)])
    async def test_racing_with_statements_leaves_no_bad_connection(
        self, db: Database, victim: Victim, database, project, rounds: int
    ):
        await race(db, victim, database.service.user, project, rounds=rounds)


async def race(db: Database, victim: Victim, user: str, project, *, rounds: int) -> int:
    """Terminate backends while statements run on them; returns how many units that met."""
    met = 0
    connection = await victim.connect()
    try:
        for number in range(rounds):

            async def end(delay: float) -> None:
                await asyncio.sleep(delay)
                await connection.execute(END_ALL.replace("$1", f"'{user}'"))

            results = await asyncio.gather(
                *(spend(db, project, f"{number} {name}") for name in range(4)),
                end(random.uniform(0, 0.01)),
                return_exceptions=True,
            )
            errors = [result for result in results if isinstance(result, BaseException)]
            assert all(isinstance(error, DatabaseUnavailable) for error in errors), errors
            met += len(errors)
            assert (await spend(db, project, f"{number} after")).idempotency_key
    finally:
        await connection.close()
    return met


class TestOneBackendKilled:
    async def test_nothing_acknowledged_is_lost_and_the_outage_is_short(self, db: Database, victim: Victim, database, project):
        async with Traffic(db, project) as traffic:
            for _ in range(2):
                await traffic.until_more(30)
                await kill_one_backend(victim, database.service.user)
                await traffic.until_more(30)
        await traffic.check()
        assert traffic.longest_gap < 10


class TestServerKilled:
    async def test_nothing_acknowledged_is_lost_and_clients_are_back_at_once(self, db: Database, victim: Victim, project):
        seen = await kill_servers(db, victim, project, kills=1)
        assert seen.lost == 0
        assert seen.slowest_return < 10

    async def test_a_unit_that_is_open_ends_with_unavailable(self, db: Database, victim: Victim, project):
        with pytest.raises(DatabaseUnavailable):
            async with db.project(project) as session:
                await make_ticket(session)
                await asyncio.to_thread(victim.kill)
                await make_ticket(session)
        await asyncio.to_thread(victim.start)
        assert await spend(db, project, "after")


class TestPortShut:
    async def test_says_unavailable_at_once(self, make_db, database, proxy: Proxy, project):
        db = make_db(proxy.before_all(database), pool_timeout=30, connect_timeout=30, command_timeout=60, cleanup_timeout=0.5)
        await spend(db, project, "warm")
        proxy._server.close()
        proxy.break_all()
        began = time.monotonic()
        error = await raised(spend(db, project, "a"))
        assert type(error) is DatabaseUnavailable
        assert time.monotonic() - began < 10
        assert error.retry_after == 1

    async def test_at_start_too(self, make_db, database, proxy: Proxy):
        nowhere = proxy.before_all(database)
        proxy._server.close()
        began = time.monotonic()
        assert type(await raised(make_db(nowhere, connect_timeout=30).start())) is DatabaseUnavailable
        assert time.monotonic() - began < 10

    async def test_a_start_that_failed_is_tried_again(self, make_db, database, proxy: Proxy, project):
        db = make_db(proxy.before_all(database))
        proxy.mode = "refuse"
        assert type(await raised(spend(db, project, "a"))) is DatabaseUnavailable
        proxy.mode = "pass"
        assert await spend(db, project, "a")

    async def test_so_is_the_admin_door(self, make_db, database, proxy: Proxy):
        db = make_db(type(database)(database.owner, database.service, proxy.before(database.operator)))
        proxy.mode = "refuse"
        await db.start()
        assert type(await raised(new_project(db))) is DatabaseUnavailable
        proxy.mode = "pass"
        assert await new_project(db)


class TestReset:
    async def test_a_connection_that_is_reset_on_accept_is_unavailable(self, make_db, database, proxy: Proxy, project):
        db = make_db(proxy.before_all(database))
        await spend(db, project, "warm")
        proxy.mode = "refuse"
        (idle,) = db._app.pool._idle
        proxy.break_all()
        await until_closed(idle)
        assert type(await raised(spend(db, project, "a"))) is DatabaseUnavailable
        proxy.mode = "pass"
        assert await spend(db, project, "a")


class TestWrongLogin:
    @pytest.mark.parametrize(
        ("change", "words"), [({"user": "nobody_here"}, "user"), ({"database": "nowhere"}, "does not exist")]
    )
    async def test_is_a_matter_of_configuration(self, make_db, database, change, words):
        from dataclasses import replace

        wrong = replace(database, service=replace(database.service, **change))
        error = await raised(make_db(wrong).start())
        assert type(error) is ConfigurationError
        assert words in error.message


class TestStopped:
    async def test_a_shutdown_is_unavailable_until_it_is_back(self, db: Database, victim: Victim, project):
        await spend(db, project, "a")
        os.kill(victim.pid, signal.SIGINT)  # a fast shutdown
        while victim.is_running():
            await asyncio.sleep(0.01)
        assert type(await raised(spend(db, project, "b"))) is DatabaseUnavailable
        await asyncio.to_thread(victim.start)
        assert await spend(db, project, "b")
        assert sorted(await keys_of(db, project)) == ["a", "b"]
