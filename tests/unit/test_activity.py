"""Which of the server's limits explains that a connection is gone, by the clock alone."""

import asyncio
from dataclasses import replace

import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.errors import DatabaseTimeout, DatabaseUnavailable
from derwin_db.models import Project
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase
from derwin_db.unit import activity
from derwin_db.unit.activity import Activity
from tests.repos.rows import a_ticket
from tests.unit.test_alone import sleeping


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(activity, "time", clock)
    return clock


def test_a_transaction_that_was_idle_for_too_long_is_not_run_again(clock: Clock) -> None:
    seen = Activity()
    clock.now = 29.0
    seen.statement_ended()
    clock.now = 59.0
    error = seen.reason(idle_timeout=30.0, transaction_timeout=60.0)
    assert isinstance(error, DatabaseUnavailable)
    assert (error.sqlstate, error.may_run_again) == ("25P03", False)


def test_one_that_took_too_long_says_so(clock: Clock) -> None:
    seen = Activity()
    clock.now = 10.0
    seen.begin()
    clock.now = 69.0
    seen.statement_ended()
    assert seen.reason(idle_timeout=30.0, transaction_timeout=60.0) is None
    clock.now = 70.0
    error = seen.reason(idle_timeout=30.0, transaction_timeout=60.0)
    assert isinstance(error, DatabaseTimeout)
    assert error.sqlstate == "25P04"
    assert seen.reason(idle_timeout=30.0, transaction_timeout=None) is None, "an older server knows no such limit"


def test_what_was_lost_in_a_statement_after_a_long_pause_was_idle_for_too_long(clock: Clock) -> None:
    """The server had ended it, and this process had not seen that yet."""
    seen = Activity()
    clock.now = 30.0
    seen.statement_begins()
    clock.now = 30.1
    error = seen.reason(idle_timeout=30.0, transaction_timeout=None)
    assert error is not None
    assert error.sqlstate == "25P03"
    seen.statement_ended()
    assert seen.reason(idle_timeout=30.0, transaction_timeout=None) is None


def test_what_was_lost_in_a_long_statement_was_not_idle(clock: Clock) -> None:
    seen = Activity()
    clock.now = 1.0
    seen.statement_begins()
    clock.now = 40.0
    assert seen.reason(idle_timeout=30.0, transaction_timeout=None) is None


@pytest.mark.parametrize(("limit", "enough", "too_little"), [(30.0, 29.5, 29.4), (0.2, 0.1, 0.09)])
def test_a_busy_process_saw_the_last_statement_end_later_than_the_server(
    clock: Clock, limit: float, enough: float, too_little: float
) -> None:
    seen = Activity()
    clock.now = too_little
    assert seen.reason(idle_timeout=limit, transaction_timeout=None) is None
    clock.now = enough
    assert seen.reason(idle_timeout=limit, transaction_timeout=None) is not None


async def test_the_limit_is_the_one_that_the_server_has(migrated: TestDatabase, project: Project) -> None:
    """Twice `command_timeout`, where that is less than what is set."""
    settings = Settings(_env_file=None, idle_in_transaction_timeout=50, command_timeout=20)
    async with Database(**migrated.urls, settings=settings) as db, db.project(project.id) as session:
        on_the_server = await session.sql.scalar(sa.text("SHOW idle_in_transaction_session_timeout"))
    assert (on_the_server, db._session_limits()["idle_timeout"]) == ("40s", 40.0)


@pytest.mark.parametrize("way", ["a repository", "session.sql"])
async def test_a_connection_that_is_lost_in_a_long_statement_was_not_idle(
    clock: Clock, db: Database, project: Project, way: str
) -> None:
    with pytest.raises(DatabaseUnavailable) as lost:
        async with db.project(project.id) as session:
            await repos.qa_tickets.create(session, a_ticket())
            if way == "a repository":
                long = asyncio.create_task(session.fetch(sleeping(30), {}))
            else:
                long = asyncio.create_task(session.sql.execute(sa.text("SELECT pg_sleep(30)")))
            while session._activity._idle_before is None:
                assert not long.done()
                await asyncio.sleep(0.001)
            clock.now = 40.0
            session._connection._transport.abort()
            await long
    assert lost.value.sqlstate != "25P03"
    assert lost.value.may_run_again


@pytest.mark.parametrize(("version", "seconds"), [(160000, None), (170000, 7.0), (180000, 7.0)])
async def test_the_limit_of_a_transaction_is_kept_by_servers_of_17_and_newer(
    migrated: TestDatabase, monkeypatch: pytest.MonkeyPatch, version: int, seconds: float | None
) -> None:
    async with Database(**migrated.urls, settings=Settings(_env_file=None, transaction_timeout=7)) as db:
        app = await db.app_pool(read_only=False)
        monkeypatch.setattr(db, "_app", app._replace(preamble=replace(app.preamble, server_version=version)))
        assert db._session_limits()["transaction_timeout"] == seconds
