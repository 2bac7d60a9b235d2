"""The slow-query log names statements, and tells nothing of what is in them."""

import logging
from collections.abc import Callable

import pytest
from sqlalchemy import text

from derwin_db import Database, repos
from derwin_db.errors import ConfigurationError, DatabaseTimeout
from derwin_db.models import Project
from derwin_db.observe.events import Endpoint, StatementEvent
from derwin_db.observe.slow_log import SlowLog
from derwin_db.settings import Settings
from derwin_db.testing.factories import ticket

SECRET = "a-value-that-nobody-logs"


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Callable[[], list[logging.LogRecord]]:
    caplog.set_level(logging.DEBUG)
    return lambda: [record for record in caplog.records if record.name == "derwin_db.slow"]


class TestSlowLog:
    async def test_names_the_method_the_time_and_the_project(self, start, project: Project, records) -> None:
        db = await start(slow_query_seconds=0)
        async with db.project(project.id) as session:
            await repos.qa_tickets.create(session, ticket(title=SECRET))
        named = {record.statement: record for record in records()}
        assert set(named) == {"BEGIN", "qa_tickets.create", "COMMIT"}
        record = named["qa_tickets.create"]
        assert record.levelno == logging.WARNING
        assert record.getMessage() == f"qa_tickets.create took {record.seconds:.3f} s"
        assert 0 < record.seconds < 10
        assert record.project_id == str(project.id)
        assert record.error is None
        assert SECRET not in "".join(str(vars(each)) for each in records())

    async def test_leaves_out_what_is_fast_enough(self, start, project: Project, records) -> None:
        db = await start(slow_query_seconds=10)
        async with db.project(project.id) as session:
            await repos.qa_tickets.list(session)
        assert records() == []

    @pytest.mark.parametrize(("seconds", "is_named"), [(0.2499, False), (0.25, True), (0.2501, True)])
    def test_begins_at_the_limit(self, records, seconds: float, is_named: bool) -> None:
        event = StatementEvent("qa_tickets.list", None, None, None, Endpoint("h", 1, "d", "u"), 0, seconds, None, None)
        SlowLog(0.25).ran(event)
        assert [record.seconds for record in records()] == [seconds] * is_named

    async def test_counts_what_the_server_takes(self, start, project: Project, records) -> None:
        db = await start(slow_query_seconds=0)
        async with db.project(project.id) as session:
            await session.sql.execute(text("SELECT pg_sleep(0.3)"))
        *_, record = [record for record in records() if record.statement == "session.sql SELECT"]  # after the dialect's own
        assert 0.3 <= record.seconds < 10

    async def test_says_how_a_failed_one_failed(self, start, project: Project, records) -> None:
        db = await start(slow_query_seconds=0, statement_timeout=0.2)
        with pytest.raises(DatabaseTimeout):
            async with db.project(project.id) as session:
                await session.sql.execute(text(f"SELECT pg_sleep(30), '{SECRET}'"))
        errors = [(record.statement, record.error) for record in records() if record.error is not None]
        assert errors == [("session.sql SELECT", "57014")]
        assert SECRET not in str([vars(record) for record in records()])

    async def test_has_the_admin_door_without_a_project(self, start, records) -> None:
        db = await start(slow_query_seconds=0)
        async with db.admin(reason="a test") as admin:
            await repos.projects.count(admin)
        assert ("projects.count", None) in {(record.statement, record.project_id) for record in records()}

    async def test_has_each_batch_of_a_stream(self, start, project: Project, records) -> None:
        db = await start(slow_query_seconds=0)
        async with db.project(project.id) as session:
            assert [row async for row in repos.qa_tickets.stream(session)] == []
        assert [record.statement for record in records()] == ["BEGIN", *["qa_tickets.stream"] * 2, "COMMIT"]

    async def test_has_savepoints(self, start, project: Project, records) -> None:
        db = await start(slow_query_seconds=0)
        async with db.project(project.id) as session, session.savepoint():
            pass
        assert [record.statement for record in records()] == ["BEGIN", "SAVEPOINT", "RELEASE", "COMMIT"]


class TestSetting:
    async def test_is_off_by_itself(self, db: Database, project: Project, records) -> None:
        assert Settings().slow_query_seconds is None
        assert db.observers == []
        async with db.project(project.id) as session:
            await repos.qa_tickets.list(session)
            assert session._watch is None
        assert records() == []

    def test_comes_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DERWIN_SLOW_QUERY_SECONDS", "0.5")
        assert Settings.load().slow_query_seconds == 0.5

    @pytest.mark.parametrize("value", ["-1", "nan", "soon"])
    def test_is_a_length_of_time(self, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        monkeypatch.setenv("DERWIN_SLOW_QUERY_SECONDS", value)
        with pytest.raises(ConfigurationError, match="DERWIN_SLOW_QUERY_SECONDS"):
            Settings.load()
