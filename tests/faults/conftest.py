"""Fixtures of the fault tests: a server to torment, `Database`s on it, a proxy before it, and a watch over all of it."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from derwin_db import Database
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase
from tests.faults import load
from tests.faults.proxy import Proxy
from tests.faults.victim import Victim
from tests.faults.watch import Watch, watching
from tests.missing import left_out

MakeDatabase = Callable[..., Database]

collect_ignore = left_out(__file__)


@pytest.fixture(scope="session")
def tormented(base: tuple[Victim, TestDatabase]) -> Iterator[Victim]:
    """The server of this session's fault tests."""
    victim = base[0].copy()
    victim.start()
    yield victim
    victim.remove()


@pytest.fixture
async def victim(tormented: Victim) -> AsyncIterator[Victim]:
    """A running server, whatever the test before did to it."""
    if not tormented.is_running():
        await asyncio.to_thread(tormented.start)
    yield tormented
    tormented.thaw()


@pytest.fixture
def database(base: tuple[Victim, TestDatabase], victim: Victim) -> TestDatabase:
    """The migrated database on it, and its logins."""
    return victim.moved(base[1])


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> None:
    """What is there by now stays: the collections after each test need not look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def watch(base: tuple[Victim, TestDatabase]) -> Iterator[Watch]:
    """See that no test loses an exception or shows a secret."""
    with watching() as watch:
        assert base[1].service.password
        watch.secrets.add(base[1].service.password)
        yield watch
        assert not watch.lost()
        assert not watch.leaks()


def settings(**changes: Any) -> Settings:
    """Settings with short times, and nothing from the environment."""
    short = {"pool_size": 10, "pool_timeout": 5.0, "command_timeout": 10.0, "cleanup_timeout": 2.0}
    return Settings(_env_file=None, **{**short, **changes})


@pytest.fixture
async def make_db(database: TestDatabase) -> AsyncIterator[MakeDatabase]:
    """Makes `Database`s, and sees at the end that none of them has a connection checked out."""
    made: list[Database] = []

    def make(on: TestDatabase | None = None, *, parameters: str = "", **changes: Any) -> Database:
        urls = dict((on or database).urls)
        urls["url"] += parameters and ("&" if "?" in urls["url"] else "?") + parameters
        made.append(Database(**urls, settings=settings(**changes)))
        return made[-1]

    yield make
    for db in made:
        await load.settled(db)
        await db.close()


@pytest.fixture(scope="session")
async def steady(base: tuple[Victim, TestDatabase], tormented: Victim) -> AsyncIterator[Database]:
    """One `Database` that lives through all tests of this session, and what they do to its server."""
    patient = settings(lock_timeout=20, pool_timeout=20, command_timeout=30)  # queues take their time on a busy machine
    async with Database(**tormented.moved(base[1]).urls, settings=patient) as database:
        yield database


@pytest.fixture
async def db(steady: Database, victim: Victim) -> AsyncIterator[Database]:
    """A `Database` on the server; at the end of the test none of its connections is checked out."""
    yield steady
    await load.settled(steady)


@pytest.fixture
async def alone(steady: Database, victim: Victim, database: TestDatabase) -> None:
    """Nobody else is connected as the service."""
    await steady.close()
    assert await victim.until_quiet(database.service.user) == 0


@pytest.fixture
async def project(db: Database) -> UUID:
    """A project of the test's own."""
    return (await load.new_project(db)).id


@pytest.fixture
async def proxy(victim: Victim) -> AsyncIterator[Proxy]:
    """A proxy before the server."""
    async with Proxy(victim.socket) as proxy:
        yield proxy


@pytest.fixture
def proxied(make_db: MakeDatabase, database: TestDatabase, proxy: Proxy) -> Database:
    """A `Database` whose service's login goes through the proxy."""
    return make_db(proxy.before_all(database))


@pytest.fixture
async def idle_in_transaction(victim: Victim) -> Callable[[], Any]:
    """Counts the backends that are idle in a transaction."""

    async def count() -> int:
        rows = await victim.fetch("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'")
        return rows[0]["count"]

    return count
