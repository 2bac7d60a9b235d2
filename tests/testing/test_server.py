"""The server that tests run on: what its databases are reached by, and that it leaves nothing behind."""

import asyncio
from dataclasses import replace

import asyncpg

from derwin_db.settings import ConnectionInfo
from derwin_db.testing import TestServer


def through_a_pooler(login: ConnectionInfo) -> ConnectionInfo:
    return replace(login, is_pooled=True)


def test_databases_are_reached_another_way_by_all_but_the_owner(server: TestServer) -> None:
    """A pooler keeps sessions of the database that is copied, which a copy does not take."""
    led = TestServer(server.owner)
    led.lead_through(through_a_pooler)
    try:
        database = led.empty()
        assert [login.is_pooled for login in (database.owner, database.service, database.operator)] == [False, True, True]

        async def copied() -> None:
            kept = await asyncpg.connect(**database.owner.connect_arguments())
            copy = await asyncio.to_thread(led.clone, database)
            assert copy.service.is_pooled
            assert kept.is_closed() or await asks(kept) is None

        asyncio.run(copied())
    finally:
        led.close()
    assert asyncio.run(left(led)) == 0


async def asks(connection: asyncpg.Connection) -> int | None:
    try:
        return await connection.fetchval("SELECT 1")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return None


async def left(server: TestServer) -> int:
    owner = await asyncpg.connect(**server.owner.connect_arguments())
    try:
        count = await owner.fetchval(
            "SELECT count(*) FROM pg_roles WHERE rolname = ANY ($1)", [one.user for one in server.logins]
        )
        return count + await owner.fetchval("SELECT count(*) FROM pg_database WHERE datname = ANY ($1)", server._made)
    finally:
        await owner.close()
