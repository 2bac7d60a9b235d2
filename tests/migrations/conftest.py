"""Servers of other versions: the embedded 16, and Debian's 15 where it is installed, which has no pgvector."""

import asyncio
import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from derwin_db import embedded
from derwin_db.migrations import MigrationSettings
from derwin_db.settings import ConnectionInfo
from derwin_db.testing import TestServer

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
HAS_15 = (DEBIAN_15 / "initdb").exists()

ServerOf = Callable[[str], TestServer]


@pytest.fixture(scope="session")
def server_of(server: TestServer) -> Iterator[ServerOf]:
    """Gives the server of a version, started at the first use: "18" is the one that all tests share."""
    servers: dict[str, TestServer] = {"18": server}
    with ExitStack() as stack:

        def get(version: str) -> TestServer:
            if version not in servers:
                start = _embedded_16 if version == "16" else _debian_15
                servers[version] = TestServer(stack.enter_context(start()))
            return servers[version]

        yield get


@contextmanager
def _embedded_16() -> Iterator[ConnectionInfo]:
    folder = Path(tempfile.mkdtemp(prefix="derwin-test-16-"))
    try:
        yield replace(embedded.start(folder, postgres_version=16).owner, database="postgres")
    finally:
        embedded.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _debian_15() -> Iterator[ConnectionInfo]:
    """PostgreSQL refuses to run as root: as root it runs as the system user of the embedded server, which exists by now."""
    folder = Path(tempfile.mkdtemp(prefix="derwin-test-15-"))
    user = None
    if os.geteuid() == 0:
        user = "pgserver"
        entry = pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    data = folder / "data"

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, user=user, cwd=folder)

    run(str(DEBIAN_15 / "initdb"), "-U", "postgres", "--auth=trust", "--encoding=utf8", "-D", str(data))
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    run(str(DEBIAN_15 / "pg_ctl"), "-w", "-D", str(data), "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield ConnectionInfo(host=str(folder), port=5432, user="postgres", database="postgres")
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            run(str(DEBIAN_15 / "pg_ctl"), "-w", "-m", "immediate", "-D", str(data), "stop")
        shutil.rmtree(folder, ignore_errors=True)


def settings_of(connection: ConnectionInfo) -> MigrationSettings:
    """Settings that do not wait long."""
    return MigrationSettings(connection, wait_seconds=60, lock_timeout_ms=300)


def run_sql(connection: ConnectionInfo, *statements: str) -> list[asyncpg.Record]:
    """Run statements as this login; return the rows of the last one."""

    async def run() -> list[asyncpg.Record]:
        opened = await asyncpg.connect(**connection.connect_arguments())
        try:
            for statement in statements[:-1]:
                await opened.execute(statement)
            return await opened.fetch(statements[-1])
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
