"""The pytest plugin: databases and sessions for tests of a service. Nothing is loaded before a fixture is asked for.

The fixtures that are async run in the loop of the test that asks for them, under pytest-asyncio (both modes) and under
anyio's plugin. Under xdist each worker has databases of its own.
"""

import functools
import types
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import pytest

from derwin_db.testing import OTHER_PROJECT, PROJECT

if TYPE_CHECKING:
    from derwin_db import Database, ProjectSession
    from derwin_db.testing.override import Override
    from derwin_db.testing.server import TestDatabase, TestServer

P = ParamSpec("P")
T = TypeVar("T")
LoopScope = Literal["function", "class", "module", "package", "session"]

_ASYNC = "_derwin_async"
_NEEDS_PLUGIN = "install pytest-asyncio, or mark the test with pytest.mark.anyio."


def _async_fixture(function: Callable[..., AsyncIterator[Any]]) -> Callable[..., Any]:
    """Mark an async fixture: `pytest_fixture_setup` hands it to the plugin that runs the test.

    Until then it is an ordinary function; an async one would make pytest-asyncio warn in its strict mode.
    """

    @functools.wraps(function)
    def at_rest(**_: object) -> None:
        raise AssertionError("unreachable: pytest_fixture_setup replaces it")

    setattr(at_rest, _ASYNC, function)
    return at_rest


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(fixturedef: Any, request: pytest.FixtureRequest) -> Any:
    """Show an async fixture of ours to the plugin that runs this test, as one of its own."""
    function = getattr(fixturedef.func, _ASYNC, None)
    if function is None:
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        if "anyio_backend" in request.fixturenames:
            patch.setattr(fixturedef, "func", function)
        else:
            _see_that_it_runs(fixturedef.argname, request)
            patch.setattr(fixturedef, "func", _for_pytest_asyncio(function, request))
        return (yield)


def _see_that_it_runs(name: str, request: pytest.FixtureRequest) -> None:
    """Fail where no plugin is there that runs async fixtures."""
    if "anyio_backend" not in request.fixturenames and not request.config.pluginmanager.has_plugin("asyncio"):
        pytest.fail(f"{name} is async: {_NEEDS_PLUGIN}", pytrace=False)


def _for_pytest_asyncio(function: Any, request: pytest.FixtureRequest) -> Any:
    """A copy is marked: anyio's plugin may run the next test, in which pytest-asyncio is to leave the fixture alone."""
    import pytest_asyncio

    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    pytest_asyncio.fixture(copy, loop_scope=_loop_scope(request) if request.scope == "function" else request.scope)
    return copy


def _loop_scope(request: pytest.FixtureRequest) -> LoopScope:
    """How long the loop of this test lives."""
    if "anyio_backend" in request.fixturenames or not request.config.pluginmanager.has_plugin("asyncio"):
        return "function"
    marker = request.node.get_closest_marker("asyncio")
    given = marker.kwargs.get("loop_scope") or marker.kwargs.get("scope") if marker else None
    chosen: LoopScope = given or request.config.getini("asyncio_default_test_loop_scope")
    return chosen


def pytest_runtest_setup() -> None:
    """Let the factories count from 1 in each test."""
    import sys

    factories = sys.modules.get("derwin_db.testing.factories")
    if factories is not None:
        factories.reset()


def _apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run the function in a thread of its own: it starts an event loop, and the test's may run in this one."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(function, *args, **kwargs).result()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a service name its own chain of revisions."""
    parser.addini("derwin_alembic", "alembic.ini of the service's own revisions: they run after derwin-db's.", default="")


# --- databases --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _derwin_server() -> "Iterator[TestServer]":
    """The server: DERWIN_TEST_DATABASE_URL, else Docker where it answers, else the embedded one."""
    from derwin_db.testing.server import choose_server

    chosen = choose_server()
    yield _apart(chosen.__enter__)
    _apart(chosen.__exit__, None, None, None)


@pytest.fixture(scope="session")
def _derwin_template(_derwin_server: "TestServer", pytestconfig: pytest.Config) -> "TestDatabase":
    """A database at the newest revision with the two projects. Nobody connects to it, so that it can be cloned."""
    import asyncio

    template = _apart(_derwin_server.migrated)
    if chain := pytestconfig.getini("derwin_alembic"):
        from derwin_db.deploy.migrations import MigrationSettings, upgrade_service

        _apart(upgrade_service, MigrationSettings(template.owner), pytestconfig.rootpath / chain)
    _apart(asyncio.run, _create_projects(template))
    return template


async def _create_projects(template: "TestDatabase") -> None:
    from derwin_db import Database, repos
    from derwin_db.testing import factories

    async with Database(**template.urls) as db, db.admin(reason="projects to test with") as admin:
        for slug in (PROJECT, OTHER_PROJECT):
            await repos.projects.create(admin, factories.project(slug=slug))


@pytest.fixture(scope="session")
def derwin_database(_derwin_server: "TestServer", _derwin_template: "TestDatabase") -> "TestDatabase":
    """A migrated database with the projects `test-project` and `other-test-project`; `urls` are the arguments of `Database`.

    One a worker, made once. What a test commits in it stays for the tests after it.
    """
    return _apart(_derwin_server.clone, _derwin_template)


@pytest.fixture
@_async_fixture
async def committed_database(_derwin_server: "TestServer", _derwin_template: "TestDatabase") -> "AsyncIterator[Database]":
    """A started `Database` on a clone of the template, for code that opens its own units. Removed after the test."""
    from derwin_db import Database

    clone = _apart(_derwin_server.clone, _derwin_template)
    async with Database(**clone.urls) as db:
        yield db
    _apart(_derwin_server.drop, clone)


# --- sessions ---------------------------------------------------------------------------------------------------------


def _units_fixture(scope: LoopScope) -> Any:
    """Return the fixture of a `Database` that lives as long as loops of this scope: starting one costs more than a test."""

    @_async_fixture
    async def units(derwin_database: "TestDatabase") -> "AsyncIterator[Database]":
        from derwin_db import Database

        async with Database(**derwin_database.urls) as db:
            yield db

    return pytest.fixture(scope=scope, name=f"_derwin_{scope}_units")(units)


_function_units = _units_fixture("function")
_class_units = _units_fixture("class")
_module_units = _units_fixture("module")
_package_units = _units_fixture("package")
_session_units = _units_fixture("session")


@pytest.fixture
def _derwin_units(request: pytest.FixtureRequest) -> "Database":
    _see_that_it_runs("a session", request)  # before a server is started for it
    db: Database = request.getfixturevalue(f"_derwin_{_loop_scope(request)}_units")
    return db


class _UndoneError(Exception):
    """Ends the block of a session whose work is not to stay."""


@asynccontextmanager
async def _undone(db: "Database", project: str) -> "AsyncIterator[ProjectSession]":
    try:
        async with db.project(project) as session:
            yield session
            raise _UndoneError
    except _UndoneError:
        pass


@pytest.fixture
@_async_fixture
async def project_session(_derwin_units: "Database") -> "AsyncIterator[ProjectSession]":
    """A session of the project `test-project`. What the test does in it is rolled back."""
    async with _undone(_derwin_units, PROJECT) as session:
        yield session


@pytest.fixture
@_async_fixture
async def other_project_session(_derwin_units: "Database") -> "AsyncIterator[ProjectSession]":
    """A session of the project `other-test-project`. What the test does in it is rolled back."""
    async with _undone(_derwin_units, OTHER_PROJECT) as session:
        yield session


# --- services ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def override_scoped() -> "Iterator[Callable[[Any, ProjectSession], Override]]":
    """`override_scoped(app, session)` as `derwin_db.testing.override_scoped`, undone after the test."""
    from contextlib import ExitStack

    from derwin_db.testing.override import override_scoped as override

    with ExitStack() as stack:
        yield lambda app, session: stack.enter_context(override(app, session))
