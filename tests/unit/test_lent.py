"""What is lent of the connection can't end the unit's transaction; where a script did it all the same, the unit says so."""

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.errors import DatabaseUnavailable, ScopeError
from derwin_db.models import Project
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase
from derwin_db.unit.lent import ends_transaction
from tests.repos.rows import a_charge, a_ticket


async def driver_of(session: Any) -> Any:
    return (await (await session.sql.connection()).get_raw_connection()).driver_connection


class TestEndsTransaction:
    @pytest.mark.parametrize(
        "sql",
        [
            "COMMIT",
            " \n\tcommit work",
            ";;COMMIT AND CHAIN",
            "end",
            "Abort",
            "-- a word\nROLLBACK",
            "/* one /* inside */ of another */ rollback and chain",
            "/**/--\r\n;/*;*/END",
            "ROLLBACK WORK",
            "rollback /* TO */ transaction",
            "PREPARE TRANSACTION 'x'",
            "prepare/**/transaction 'x'",
        ],
    )
    def test_of_what_does(self, sql: str) -> None:
        assert ends_transaction(sql)

    @pytest.mark.parametrize(
        "sql",
        [
            "",
            "SELECT 'COMMIT'",
            "SELECT CASE WHEN true THEN 1 END",
            "ROLLBACK TO a",
            "rollback work to savepoint a",
            "ROLLBACK/**/TRANSACTION--\nTO a",
            "PREPARE transactions AS SELECT 1",
            "DO $$ BEGIN NULL; END $$",
            "/* COMMIT",
            "committed",
            "SAVEPOINT a",
        ],
    )
    def test_of_what_does_not(self, sql: str) -> None:
        assert not ends_transaction(sql)


ENDS = ("COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "ABORT", "END")


class TestOneStatement:
    @pytest.mark.parametrize("end", ENDS)
    async def test_that_ends_the_transaction_is_refused(self, db: Database, project: Project, end: str) -> None:
        called: list[int] = []
        with pytest.raises(ScopeError, match="ends its own transaction"):
            async with db.project(project.id) as session:
                ticket = await repos.qa_tickets.create(session, a_ticket())
                session.after_commit(lambda: called.append(1))
                await session.sql.execute(sa.text(end))
        assert session.outcome == "rolled back"
        assert not called
        async with db.project(project.id) as session:
            assert not await repos.qa_tickets.exists(session, ticket.id)

    @pytest.mark.parametrize("way", ["execute", "fetch", "fetchrow", "fetchval", "prepare", "executemany"])
    async def test_is_refused_by_the_driver_s_connection_too_and_the_unit_goes_on(
        self, db: Database, project: Project, way: str
    ) -> None:
        async with db.project(project.id) as session:
            raw = await driver_of(session)
            with pytest.raises(ScopeError, match="ends its own transaction"):
                await getattr(raw, way)("COMMIT", *([[]] if way == "executemany" else []))
            ticket = await repos.qa_tickets.create(session, a_ticket())
        async with db.project(project.id) as session:
            assert await repos.qa_tickets.exists(session, ticket.id)

    async def test_is_refused_of_a_cursor_that_is_iterated_over(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            raw = await driver_of(session)
            with pytest.raises(ScopeError, match="ends its own transaction"):
                async for _ in raw.cursor("COMMIT"):
                    pass
            await repos.spend_ledger.append(session, a_charge("a"))
        assert session.outcome == "committed"

    async def test_nor_is_it_begun_by_sqlalchemy(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            with pytest.raises(ScopeError, match="ends its own transaction"):
                async with session.sql.begin():
                    pass
            with pytest.raises(ScopeError, match="ends its own transaction"):
                await session.sql.run_sync(lambda inner: inner.prepare())
            async with session.sql.begin_nested():
                await repos.spend_ledger.append(session, a_charge("a"))
        assert session.outcome == "committed"

    async def test_of_what_else_is_lent_each_works_while_the_unit_is_open(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            raw = await driver_of(session)
            kept = (raw.reload_schema_state, raw.get_settings)
            await raw.reload_schema_state()
            assert raw.get_settings().application_name == "derwin-db"
            assert raw.is_in_transaction()
        for call in kept:
            with pytest.raises(ScopeError, match="not open"):
                done = call()
                await done

    async def test_takes_its_arguments_by_their_names_as_the_driver_does(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            raw = await driver_of(session)
            assert await raw.execute(query="SELECT 1") == "SELECT 1"
            assert await raw.fetchval(query="SELECT 1") == 1
            assert [row[0] for row in await raw.fetchmany(query="SELECT $1::int", args=[[1], [2]])] == [1, 2]
            assert await (await raw.prepare(query="SELECT 1")).fetchval() == 1
            assert [row[0] async for row in raw.cursor(query="SELECT generate_series(1, 3)", prefetch=2)] == [1, 2, 3]

    async def test_that_goes_back_to_a_savepoint_is_not(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            raw = await driver_of(session)
            await raw.execute("SAVEPOINT mine")
            with pytest.raises(Exception, match="division"):
                await raw.execute("SELECT 1 / 0")
            await raw.execute("ROLLBACK TO mine")
            await repos.spend_ledger.append(session, a_charge("a"))
        assert session.outcome == "committed"


class Own(Exception):
    pass


SCRIPTS = [f"SELECT 1; {end}{after}" for end in ENDS for after in ("", "; BEGIN")] + [
    "SELECT 1; COMMIT; SELECT 1 / 0",
    "SELECT 1; COMMIT AND CHAIN; SELECT 1 / 0",
]


class TestScript:
    @pytest.mark.parametrize("leaves", ["well", "by an error"])
    @pytest.mark.parametrize("script", SCRIPTS)
    async def test_that_ended_the_transaction_is_noticed(
        self, own_db: Database, script: str, leaves: str, filled_by: Any
    ) -> None:
        project = await filled_by(own_db)
        called: list[int] = []
        with pytest.raises((ScopeError, Own)):
            async with own_db.project(project) as session:
                await repos.qa_tickets.create(session, a_ticket())
                session.after_commit(lambda: called.append(1))
                raw = await driver_of(session)
                pid = raw.get_server_pid()
                if "1 / 0" in script:
                    with pytest.raises(Exception, match="division"):
                        await raw.execute(script)
                else:
                    await raw.execute(script)
                for verb in (repos.qa_tickets.count, repos.projects.current):
                    with pytest.raises(ScopeError, match="ended its transaction"):
                        await verb(session)
                if leaves == "by an error":
                    raise Own
        assert session.outcome == "outcome unknown"
        assert not called
        async with own_db.project(project) as session:
            assert (await driver_of(session)).get_server_pid() != pid, "the connection went back to the pool"

    async def test_after_one_the_driver_s_connection_that_was_kept_runs_nothing(self, own_db: Database, filled_by: Any) -> None:
        project = await filled_by(own_db)
        with pytest.raises(ScopeError):
            async with own_db.project(project) as session:
                raw = await driver_of(session)
                await raw.execute("SELECT 1; COMMIT; BEGIN")
                with pytest.raises(ScopeError, match="ended its transaction"):
                    await raw.fetchval("SELECT 1")
        assert session.outcome == "outcome unknown"

    async def test_in_a_transaction_that_failed_nobody_can_tell(self, db: Database, project: Project) -> None:
        """A script that goes back to a savepoint can hide a COMMIT: when the transaction began can't be asked before it."""
        with pytest.raises(ScopeError):
            async with db.project(project.id) as session:
                raw = await driver_of(session)
                await raw.execute("SAVEPOINT mine")
                with pytest.raises(Exception, match="division"):
                    await raw.execute("SELECT 1 / 0")
                await raw.execute("ROLLBACK TO mine; SELECT 1")
                with pytest.raises(ScopeError, match="ended its transaction"):
                    await repos.qa_tickets.count(session)
        assert session.outcome == "outcome unknown"

    async def test_that_only_looks_like_it_goes_on(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            raw = await driver_of(session)
            await raw.execute("SELECT CASE WHEN true THEN 1 END; SELECT 'COMMIT'; DO $$ BEGIN NULL; END $$")
            ticket = await repos.qa_tickets.create(session, a_ticket())
        assert session.outcome == "committed"
        async with db.project(project.id) as session:
            assert await repos.qa_tickets.exists(session, ticket.id)

    @pytest.mark.parametrize("body", ["COMMIT", "ROLLBACK"])
    async def test_a_block_inside_the_transaction_can_t_end_it(self, db: Database, project: Project, body: str) -> None:
        with pytest.raises(ScopeError, match="can't end its transaction"):
            async with db.project(project.id) as session:
                await repos.qa_tickets.create(session, a_ticket())
                await session.sql.execute(sa.text(f"DO $$ BEGIN {body}; END $$"))
        assert session.outcome == "rolled back"


class TestIdleForTooLong:
    @pytest.mark.parametrize("way", ["a repository", "session.sql", "the driver", "the commit"])
    async def test_is_said_by_whatever_finds_it_out(self, migrated: TestDatabase, project: Project, way: str) -> None:
        """The server ended the connection without a word that anybody heard: the clock tells why."""
        settings = Settings(_env_file=None, idle_in_transaction_timeout=0.2)
        async with Database(**migrated.urls, settings=settings) as db:
            with pytest.raises(DatabaseUnavailable) as ended:
                async with db.project(project.id) as session:
                    raw = await driver_of(session)
                    async with asyncio.timeout(10):
                        while not raw.is_closed():
                            await asyncio.sleep(0.01)
                    if way == "a repository":
                        await repos.qa_tickets.count(session)
                    elif way == "session.sql":
                        await session.sql.execute(sa.text("SELECT 1"))
                    elif way == "the driver":
                        await raw.fetchval("SELECT 1")
            assert (ended.value.sqlstate, ended.value.may_run_again) == ("25P03", False)


@pytest.fixture
def filled_by() -> Any:
    """Makes a project in a database of the test's own."""

    async def make(db: Database) -> Any:
        from tests.repos.test_projects import a_project

        async with db.admin(reason="a test") as admin:
            return (await repos.projects.create(admin, a_project())).id

    return make


class TestWhatIsNotLent:
    @pytest.mark.parametrize("length", [64, 65])
    async def test_is_named_by_its_first_64_signs(self, db: Database, project: Project, length: int) -> None:
        async with db.project(project.id) as session:
            lent = await driver_of(session)
            with pytest.raises(ScopeError, match=f"^{'x' * 64} of the driver's connection is not lent"):
                getattr(lent, "x" * length)
