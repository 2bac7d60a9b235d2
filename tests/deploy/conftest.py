"""Databases to migrate, on servers of several versions."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache

import asyncpg
import pytest

from derwin_db.deploy.migrations import MigrationSettings, upgrade
from derwin_db.settings import ConnectionInfo
from derwin_db.testing import TestDatabase, TestServer

from .servers import debian_15, embedded_16

ServerOf = Callable[[str], TestServer]
At = Callable[[str], MigrationSettings]

FIRST = "a1f0c3d95b27"
FENCED = "b7e24a8c6d10"
"""The last revision that needs no pgvector."""
INDEXED = "d92b6c41e8f5"
"""The last revision of the first version."""


@pytest.fixture(scope="session")
def server_of(server: TestServer) -> Iterator[ServerOf]:
    """Gives the server of a version, started at the first use: "18" is the one that all tests share."""
    servers: dict[str, TestServer] = {"18": server}
    with ExitStack() as stack:

        def get(version: str) -> TestServer:
            if version not in servers:
                start = embedded_16 if version == "16" else debian_15
                servers[version] = TestServer(stack.enter_context(start()))
            return servers[version]

        yield get


@pytest.fixture(scope="session")
def at(server_of: ServerOf) -> At:
    """Gives an empty database at FIRST, FENCED or a later revision: a copy of one that was migrated there once."""
    server = server_of("18")

    @cache
    def made(revision: str) -> TestDatabase:
        database = server.empty() if revision == FIRST else server.clone(made(FIRST if revision == FENCED else FENCED))
        upgrade(settings_of(database.owner), revision)
        return database

    return lambda revision: settings_of(server.clone(made(revision)).owner)


def settings_of(connection: ConnectionInfo) -> MigrationSettings:
    """Settings that do not wait long."""
    return MigrationSettings(connection, wait_seconds=60, lock_timeout_ms=300)


def run_sql(connection: ConnectionInfo, *statements: str) -> list[asyncpg.Record]:
    """Run statements as this login; return the rows of the last one."""
    return run_all(connection, *statements)[-1]


def run_all(connection: ConnectionInfo, *statements: str) -> list[list[asyncpg.Record]]:
    """Run statements as this login; return the rows of each."""

    async def run() -> list[list[asyncpg.Record]]:
        opened = await asyncpg.connect(**connection.connect_arguments())
        try:
            return [await opened.fetch(statement) for statement in statements]
        finally:
            await opened.close()

    return asyncio.run(run())


def ordinary_owner(server_of: ServerOf, name: str, *, with_extension: bool) -> MigrationSettings:
    """Settings of an owner that is no superuser."""
    server = server_of("18")
    database = server.empty().owner
    run_sql(
        database,
        f"CREATE ROLE {name} LOGIN CREATEROLE NOSUPERUSER PASSWORD 'x'",
        f'ALTER DATABASE "{database.database}" OWNER TO {name}',
        f"GRANT derwin_app, derwin_admin, derwin_backfill TO {name} WITH ADMIN OPTION",
        "CREATE EXTENSION vector" if with_extension else "SELECT 1",
        "SELECT 1",
    )
    return settings_of(replace(database, user=name, password="x"))
