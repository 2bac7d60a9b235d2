"""The server that tests run on: what its databases are reached by, and that it leaves nothing behind."""

import asyncio
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import asyncpg
import pytest

from derwin_db.settings import ConnectionInfo
from derwin_db.testing import TestServer
from derwin_db.testing import server as module
from derwin_db.testing.server import TestCluster, url_of


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


@pytest.mark.parametrize(
    ("environment", "docker", "chosen"),
    [
        ({"DERWIN_TEST_CITUS_URL": "cluster", "DERWIN_TEST_DATABASE_URL": "given"}, True, (TestCluster, "cluster", True)),
        ({"DERWIN_TEST_DATABASE_URL": "given"}, True, (TestServer, "given", True)),
        ({"DERWIN_TEST_DATABASE_URL": ""}, True, (TestServer, "docker", False)),
        ({}, False, (TestServer, "embedded", False)),
    ],
)
def test_the_one_that_is_given_comes_first_and_is_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], docker: bool, chosen: tuple[type, str, bool]
) -> None:
    """One that was started for the tests goes as a whole."""
    for name in ("DERWIN_TEST_CITUS_URL", "DERWIN_TEST_DATABASE_URL"):
        host = environment.get(name)
        monkeypatch.setenv(name, f"postgresql://admin@{host}/postgres" if host else "")
    monkeypatch.setattr(module, "docker_answers", lambda: docker)
    for name in ("docker", "embedded"):
        login = ConnectionInfo.parse(f"postgresql://admin@{name}/postgres")
        monkeypatch.setattr(module, f"_{name}", lambda login=login: nullcontext(login))
    closed: list[TestServer] = []

    def close(self: TestServer) -> None:
        closed.append(self)

    for kind in (TestServer, TestCluster):
        monkeypatch.setattr(kind, "close", close)
    with module.choose_server() as server:
        assert closed == []
    assert (type(server), server.owner.host, closed == [server]) == chosen


@pytest.mark.parametrize("runs", [True, False])
def test_docker_is_asked_whether_it_runs(monkeypatch: pytest.MonkeyPatch, runs: bool) -> None:
    def ping() -> None:
        if not runs:
            raise ConnectionError

    asked: list[int] = []
    engine = SimpleNamespace(from_env=lambda timeout: asked.append(timeout) or SimpleNamespace(ping=ping))
    for name in ("testcontainers", "testcontainers.community", "testcontainers.community.postgres"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "docker", engine)
    assert (module.docker_answers(), asked) == (runs, [2])


def test_its_logins_have_a_password_and_no_file_of_one(tmp_path: Path) -> None:
    (tmp_path / "password").touch()
    owner = ConnectionInfo.parse(f"postgresql://admin@db.example/postgres?password_file={tmp_path}/password")
    server = TestServer(owner)
    for login in server.logins:
        assert ConnectionInfo.parse(url_of(login)) == login
        assert login.password


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
