"""The fixtures, from where a consumer stands."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from derwin_db.testing import TestServer, plugin

STRICT = """
    [pytest]
    asyncio_mode = strict
    asyncio_default_fixture_loop_scope = function
    filterwarnings = error
"""
AUTO = """
    [pytest]
    asyncio_mode = auto
    asyncio_default_fixture_loop_scope = session
    asyncio_default_test_loop_scope = session
    filterwarnings = error
"""
PLAIN = """
    [pytest]
    filterwarnings = error
"""

SESSIONS = """
    import pytest
    from derwin_db import repos
    from derwin_db.testing.factories import create_ticket, ticket

    {mark}
    class TestSessions:
        async def test_write_and_read(self, project_session, other_project_session):
            row = await create_ticket(project_session)
            assert row.title == "Ticket 1"
            assert await repos.qa_tickets.count(project_session) == 1
            assert await repos.qa_tickets.count(other_project_session) == 0
            assert not await repos.qa_tickets.exists(other_project_session, row.id)

        @pytest.mark.parametrize("time", range(3))
        async def test_are_empty_each_time(self, project_session, other_project_session, time):
            assert await repos.qa_tickets.count(project_session) == 0
            assert await repos.qa_tickets.count(other_project_session) == 0
            assert (await create_ticket(other_project_session)).title == "Ticket 1"

        async def test_may_fail(self, project_session):
            with pytest.raises(Exception):
                await create_ticket(project_session, run_id="00000000-0000-7000-8000-000000000001")

        async def test_may_go_unused(self, project_session, committed_database, derwin_database):
            pass

    {mark}
    class TestDatabases:
        async def test_keeps_what_is_committed_until_the_test_ends(self, committed_database):
            for _ in range(2):
                async with committed_database.project("test-project") as session:
                    await create_ticket(session)
            async with committed_database.project("test-project") as session:
                assert await repos.qa_tickets.count(session) == 2

        async def test_is_another_one_in_each_test(self, committed_database):
            async with committed_database.project("test-project") as session:
                assert await repos.qa_tickets.count(session) == 0

        async def test_has_unprivileged_logins(self, derwin_database):
            from derwin_db import Database
            from sqlalchemy import text

            async with Database(**derwin_database.urls) as db, db.project("other-test-project") as session:
                query = "SELECT current_user, rolsuper FROM pg_roles WHERE rolname = session_user"
                assert (await session.sql.execute(text(query))).one() == ("derwin_app", False)

    @pytest.fixture
    def name(derwin_database):
        return derwin_database.owner.database

    def test_a_database_needs_no_loop(name):
        assert name.startswith("derwin_test_")
"""
MARKED = SESSIONS.format(mark="@pytest.mark.asyncio")
ANYIO = (
    SESSIONS.format(mark="@pytest.mark.anyio")
    + """
    @pytest.fixture
    def anyio_backend():
        return "asyncio"
"""
)


FEW = ("-k", "test_write_and_read or test_keeps_what_is_committed")
"""One test with sessions and one with a database, where only the way that they start is another one."""
SOME = pytest.mark.parametrize(
    ("chosen", "count"), [pytest.param(FEW, 2, id="few"), pytest.param((), 10, id="all", marks=pytest.mark.long)]
)

Run = Callable[..., subprocess.CompletedProcess[str]]


def passed(result: subprocess.CompletedProcess[str]) -> int:
    assert result.returncode == 0, result.stdout + result.stderr
    found = re.search(r"(\d+) passed", result.stdout)
    assert found, result.stdout
    return int(found.group(1))


class TestFixtures:
    @pytest.mark.long
    def test_under_pytest_asyncio_in_strict_mode(self, consume: Run) -> None:
        assert passed(consume(pytest=STRICT, test_sessions=MARKED)) == 10

    @pytest.mark.long
    def test_under_pytest_asyncio_in_auto_mode_with_one_loop(self, consume: Run) -> None:
        assert passed(consume(pytest=AUTO, test_sessions=SESSIONS.format(mark=""))) == 10

    @pytest.mark.long
    def test_in_loops_of_other_scopes(self, consume: Run) -> None:
        scopes = ("class", "module", "package", "session")
        sources = {f"test_{scope}": SESSIONS.format(mark=f"@pytest.mark.asyncio(loop_scope={scope!r})") for scope in scopes}
        assert passed(consume(pytest=STRICT, **sources)) == 40

    @SOME
    def test_under_anyio(self, consume: Run, chosen: tuple[str, ...], count: int) -> None:
        assert passed(consume("-p", "no:asyncio", *chosen, pytest=PLAIN, test_sessions=ANYIO)) == count

    @pytest.mark.long
    def test_under_anyio_beside_pytest_asyncio(self, consume: Run) -> None:
        assert passed(consume(pytest=STRICT, test_anyio=ANYIO, test_asyncio=MARKED, test_late=ANYIO)) == 30

    @pytest.mark.long
    def test_on_workers_of_xdist(self, consume: Run) -> None:
        assert passed(consume("-n", "2", "--dist", "loadfile", pytest=STRICT, test_one=MARKED, test_two=MARKED)) == 20

    @SOME
    def test_on_a_server_of_their_own(self, consume: Run, chosen: tuple[str, ...], count: int) -> None:
        assert passed(consume(*chosen, pytest=STRICT, test_sessions=MARKED, embedded=True)) == count

    def test_without_an_async_plugin_say_what_is_missing_before_a_server_is_started(self, consume: Run) -> None:
        source = """
            from derwin_db.testing import server

            def refuse():
                raise AssertionError("a server was started")

            server.choose_server = refuse

            def test_sessions(project_session):
                pass
        """
        result = consume("-p", "no:asyncio", "-p", "no:anyio", pytest=PLAIN, test_sessions=source)
        assert (result.returncode, "a server was started" in result.stdout) == (1, False)
        assert "install pytest-asyncio, or mark the test with pytest.mark.anyio" in result.stdout

    def test_named_again_by_a_conftest_leave_no_database_and_no_login_behind(self, consume: Run, server: TestServer) -> None:
        """All of them, in the strict mode."""
        import asyncio

        async def makers() -> set[str]:
            """Whose databases and logins are there: each run has a name of its own, and a server that is given has many."""
            owner = await server._connect()
            names = await owner.fetch("SELECT datname AS name FROM pg_database UNION ALL SELECT rolname FROM pg_roles")
            await owner.close()
            form = re.compile(r"derwin_test_(?:service_|operator_)?([0-9a-f]{8})")
            return {found[1] for row in names if (found := form.match(row["name"]))}

        before = asyncio.run(makers())
        conftest = 'pytest_plugins = ["derwin_db.testing.plugin"]  # as a project does that blocks plugins it does not name'
        assert passed(consume(pytest=STRICT, conftest=conftest, test_sessions=MARKED)) == 10
        deadline = time.monotonic() + 60
        while new := asyncio.run(makers()) - before:  # another worker of this run may be testing the same
            assert time.monotonic() < deadline, new
            time.sleep(0.1)


class TestLoops:
    """How long the loop of a test lives, which its sessions live in."""

    def request(self, *, plugin: bool = True, anyio: bool = False, **marked: str | None) -> Any:
        """What a fixture is told of the test that asks for it: what runs it, and how it is marked."""
        marker = SimpleNamespace(kwargs={name: value for name, value in marked.items() if value}) if marked else None
        return SimpleNamespace(
            fixturenames=["anyio_backend"] if anyio else [],
            config=SimpleNamespace(
                pluginmanager=SimpleNamespace(has_plugin=lambda name: plugin and name == "asyncio"),
                getini=lambda name: f"the default of {name}",
            ),
            node=SimpleNamespace(get_closest_marker=lambda name: marker if name == "asyncio" else None),
        )

    @pytest.mark.parametrize(
        ("given", "scope"),
        [
            ({}, "the default of asyncio_default_test_loop_scope"),
            ({"loop_scope": None}, "the default of asyncio_default_test_loop_scope"),
            ({"loop_scope": "class"}, "class"),
            ({"scope": "module"}, "module"),
            ({"loop_scope": "class", "scope": "module"}, "class"),
            ({"loop_scope": "class", "anyio": True}, "function"),
            ({"loop_scope": "class", "plugin": False}, "function"),
        ],
    )
    def test_are_those_of_the_plugin_that_runs_the_test(self, given: dict[str, Any], scope: str) -> None:
        assert plugin._loop_scope(self.request(**given)) == scope

    def test_are_there_under_one_of_the_two_plugins(self) -> None:
        for given in ({}, {"anyio": True, "plugin": False}, {"anyio": True}):
            plugin._see_that_it_runs("a session", self.request(**given))
        with pytest.raises(pytest.fail.Exception, match="a session is async: install pytest-asyncio"):
            plugin._see_that_it_runs("a session", self.request(plugin=False))


class TestCost:
    def test_of_the_plugin_alone_is_no_import_of_what_it_serves(self, installed: Path) -> None:
        heavy = ("sqlalchemy", "sqlmodel", "pydantic", "asyncpg", "alembic", "fastapi")
        script = f"import sys, derwin_db.testing.plugin; print([name for name in {heavy} if name in sys.modules])"
        result = subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONPATH": str(installed)}, capture_output=True, text=True, check=True
        )
        assert result.stdout.strip() == "[]"

    def test_in_a_project_that_uses_no_fixture_is_no_import_and_no_server(self, consume: Run) -> None:
        source = """
            import sys

            def test_nothing():
                assert "derwin_db.testing.plugin" in sys.modules
                assert not {"sqlalchemy", "asyncpg", "alembic", "derwin_db.testing.server"} & set(sys.modules)
        """
        assert passed(consume(pytest=STRICT, test_nothing=source)) == 1
