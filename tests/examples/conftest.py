"""The example service, started as its README says, on a database of its own: real processes and sockets."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from derwin_db import Database
from derwin_db.deploy.migrations import MigrationSettings, upgrade_service
from derwin_db.testing import TestDatabase, TestServer
from derwin_db.testing.server import url_of
from examples.service.demo import CHAIN, fill

ROOT = Path(__file__).parents[2]
SECONDS_TO_START = 180


@pytest.fixture(scope="package")
def database(server: TestServer) -> TestDatabase:
    """The database that the service serves: ours, the service's own table, and the demo's data."""
    database = server.migrated()
    upgrade_service(MigrationSettings(database.owner), CHAIN)
    asyncio.run(_fill(database))
    return database


async def _fill(database: TestDatabase) -> None:
    async with Database(**database.urls) as db:
        await fill(db)


@pytest.fixture(scope="package")
def environment(database: TestDatabase) -> dict[str, str]:
    """The service's settings."""
    urls = {
        "DATABASE_URL": url_of(database.service),
        "ADMIN_URL": url_of(database.operator),
        "DIRECT_URL": url_of(database.owner),
    }
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::ResourceWarning", **urls}


@pytest.fixture(scope="package")
def service(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the running service. It has to end in order, and without a word in its log that it did not expect."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("service") / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "examples.service"],
            env={**environment, "PORT": str(port)},
            cwd="/",
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address, process, log)
            yield address
        finally:
            process.terminate()  # not by SIGINT: what is started in the background of a shell ignores it
            try:
                code = process.wait(timeout=SECONDS_TO_START)
            finally:
                process.kill()
    text = log.read_text()
    assert code in {0, -signal.SIGTERM}, text
    assert "Traceback" not in text, text


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{address}/health/ready", timeout=5, verify=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.fixture
async def ada(service: str) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who may change Lifeline."""
    async with client(service, "lifeline-token") as opened:
        yield opened


@pytest.fixture
async def grace(service: str) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who may change Acme."""
    async with client(service, "acme-token") as opened:
        yield opened


@pytest.fixture
async def otto(service: str) -> AsyncIterator[httpx.AsyncClient]:
    """An operator."""
    async with client(service, "operator-token") as opened:
        yield opened


def client(service: str, token: str | None) -> httpx.AsyncClient:
    """A client with a token. No certificates are loaded, which takes longer than a test: the address is http."""
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return httpx.AsyncClient(base_url=service, headers=headers, timeout=30, verify=False)
