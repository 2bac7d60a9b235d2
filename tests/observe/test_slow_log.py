"""The slow-query log names statements, and tells nothing of what is in them."""

import logging
from collections.abc import Callable

import pytest
from sqlalchemy import text

from derwin_db import Database, repos
from derwin_db.errors import ConfigurationError, DatabaseTimeout
from derwin_db.models import Project
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
        assert 0 < record.seconds < 5
        assert record.project_id == str(project.id)
        assert record.error is None
        assert SECRET not in "".join(str(vars(each)) for each in records())

    async def test_leaves_out_what_is_fast_enough(self, start, project: Project, records) -> None:
        db = await start(slow_query_seconds=0.25)
        async with db.project(project.id) as session:
            await repos.qa_tickets.list(session)
            await session.sql.execute(text("SELECT pg_sleep(0.3)"))
        assert [record.statement for record in records()] == ["session.sql SELECT"]
        assert 0.3 <= records()[0].seconds < 5

    async def test_says_how_a_failed_one_failed(self, start, project: Project, records) -> None:
        db = await start(slow_query_seconds=0.1, statement_timeout=0.2)
        with pytest.raises(DatabaseTimeout):
            async with db.project(project.id) as session:
                await session.sql.execute(text(f"SELECT pg_sleep(9), '{SECRET}'"))
        assert [(record.statement, record.error) for record in records()] == [("session.sql SELECT", "57014")]
        assert SECRET not in str(vars(records()[0]))

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
