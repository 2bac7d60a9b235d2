"""Faults 16 to 18: a network that swallows everything, a server that stands still, and a line that is slow."""

import asyncio
import time

import pytest

from derwin_db import Database, repos
from derwin_db.errors import ConfigurationError, DatabaseTimeout, DatabaseUnavailable
from tests.faults.load import entry, keys_of, raised, spend, until_spent
from tests.faults.proxy import Proxy
from tests.faults.test_connections import until_closed
from tests.faults.victim import Victim


@pytest.fixture
def hasty(make_db, database, proxy: Proxy) -> Database:
    """A `Database` through the proxy that waits one second for an answer, and half of one for a clean end."""
    return make_db(proxy.before_all(database), command_timeout=1.0, connect_timeout=1.0, cleanup_timeout=0.5)


class TestBlackHole:
    async def test_a_statement_ends_in_its_time(self, hasty: Database, proxy: Proxy, project):
        await spend(hasty, project, "warm")
        began = time.monotonic()
        with pytest.raises(DatabaseTimeout):
            async with hasty.project(project) as session:
                await repos.spend_ledger.append(session, entry("a"))
                proxy.mode, began = "blackhole", time.monotonic()
                await repos.spend_ledger.append(session, entry("b"))
        assert 0.9 < time.monotonic() - began < 10

    async def test_so_does_a_unit_on_a_connection_that_was_idle(self, hasty: Database, proxy: Proxy, project):
        await spend(hasty, project, "warm")
        proxy.mode, began = "blackhole", time.monotonic()
        assert type(await raised(spend(hasty, project, "a"))) is DatabaseTimeout
        assert 0.9 < time.monotonic() - began < 10

    async def test_a_new_connection_is_unavailable_in_its_time(self, hasty: Database, proxy: Proxy, project):
        await spend(hasty, project, "warm")
        proxy.mode, began = "blackhole", time.monotonic()
        (idle,) = hasty._app.pool._idle
        proxy.break_all()
        await until_closed(idle)
        assert type(await raised(spend(hasty, project, "a"))) is DatabaseUnavailable
        assert 0.9 < time.monotonic() - began < 10

    async def test_an_exception_of_the_caller_is_out_in_the_time_of_the_clean_up(self, hasty, proxy: Proxy, project):
        with pytest.raises(KeyError):
            async with hasty.project(project) as session:
                await repos.spend_ledger.append(session, entry("a"))
                proxy.mode, began = "blackhole", time.monotonic()
                raise KeyError
        assert 0.4 < time.monotonic() - began < 10

    async def test_a_start_is_unavailable_in_its_time(self, hasty: Database, proxy: Proxy):
        proxy.mode, began = "blackhole", time.monotonic()
        assert type(await raised(hasty.start())) is DatabaseUnavailable
        assert 0.9 < time.monotonic() - began < 10

    async def test_it_goes_on_when_the_network_does(self, hasty: Database, proxy: Proxy, project):
        await spend(hasty, project, "a")
        proxy.mode = "blackhole"
        await asyncio.gather(*(raised(spend(hasty, project, f"lost {name}")) for name in range(12)))
        proxy.mode = "pass"
        proxy.break_all()
        async with asyncio.timeout(10):
            await asyncio.gather(*(until_spent(hasty, project, f"b {name}") for name in range(12)))
        assert len([key for key in await keys_of(hasty, project) if key.startswith("b ")]) == 12

    async def test_the_server_ends_what_is_open_for_a_client_that_gave_up(
        self, hasty: Database, proxy: Proxy, project, victim: Victim, idle_in_transaction
    ):
        """Long before idle_in_transaction_timeout: it is half a minute."""
        assert hasty.settings.idle_in_transaction_timeout == 30
        with pytest.raises(DatabaseTimeout):
            async with hasty.project(project) as session:
                await repos.spend_ledger.append(session, entry("a"))
                proxy.mode = "blackhole"
                await repos.spend_ledger.append(session, entry("b"))
        async with asyncio.timeout(10):
            while await idle_in_transaction():
                await asyncio.sleep(0.05)
        proxy.mode = "pass"
        assert await keys_of(hasty, project) == []

    async def test_closing_does_not_wait_for_it(self, make_db, database, proxy: Proxy, project):
        db = make_db(proxy.before_all(database), command_timeout=60, connect_timeout=60, cleanup_timeout=60)
        await spend(db, project, "warm")
        proxy.mode = "blackhole"
        async with asyncio.timeout(10):
            await db.close()


class TestFrozenServer:
    async def test_says_timeout_and_recovers(self, make_db, victim: Victim, project):
        db = make_db(command_timeout=1.0, connect_timeout=1.0, cleanup_timeout=0.5)
        await freeze(db, victim, project, seconds=1.5)


async def freeze(db: Database, victim: Victim, project, *, seconds: float) -> list[type]:
    """Freeze the whole server under load, and see what callers are told, and how fast it goes on."""
    await asyncio.gather(*(spend(db, project, f"warm {name}") for name in range(6)))
    await asyncio.to_thread(victim.freeze)
    thaw = time.monotonic() + seconds
    told: list[type] = []
    while time.monotonic() < thaw:
        began = time.monotonic()
        told.append(type(await raised(spend(db, project, "frozen"))))
        assert time.monotonic() - began < 10
    await asyncio.to_thread(victim.thaw)
    assert told[0] is DatabaseTimeout
    assert set(told) <= {DatabaseTimeout, DatabaseUnavailable}
    async with asyncio.timeout(10):
        await asyncio.gather(*(until_spent(db, project, f"thawed {name}") for name in range(6)))
    return told


class TestSlowNetwork:
    async def test_everybody_is_served_and_nobody_waits_long(self, make_db, database, proxy: Proxy, project):
        db = make_db(proxy.before_all(database), pool_timeout=20)
        await spend(db, project, "warm")
        proxy.mode, proxy.delay = "delay", 0.05
        times = await crawl(db, project, callers=20, rounds=2)
        assert times[-1] < 10  # two units, one after the other, of four round trips of 0.1 s, and a connection to be made


async def crawl(db: Database, project, *, callers: int, rounds: int) -> list[float]:
    """Write with more callers than connections; returns how long each took, sorted."""
    times = []

    async def caller(name: int) -> None:
        for number in range(rounds):
            began = time.monotonic()
            await spend(db, project, f"{name} {number}")
            times.append(time.monotonic() - began)

    await asyncio.gather(*(caller(name) for name in range(callers)))
    return sorted(times)


class TestWrongServer:
    async def test_something_that_is_no_postgres_is_unavailable(self, make_db, database):
        async def talk(reader, writer):
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(talk, "127.0.0.1", 0) as other:
            port = other.sockets[0].getsockname()[1]
            from dataclasses import replace

            wrong = replace(database.service, host="127.0.0.1", port=port)
            db = make_db(replace(database, service=wrong), connect_timeout=1.0)
            assert type(await raised(db.start())) in {DatabaseUnavailable, ConfigurationError}
