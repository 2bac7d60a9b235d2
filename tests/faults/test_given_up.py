"""A statement that was given up ends on the server too: SQL may turn its timeouts off, and catch its cancel."""

import asyncio
import os
import signal
import time
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.connection.ending import Ender
from derwin_db.errors import DatabaseTimeout, DerwinError
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase
from tests.faults.load import new_project, raised
from tests.forking import running

STUBBORN = """DO $$ BEGIN
    PERFORM set_config('statement_timeout', '0', true), set_config('transaction_timeout', '0', true);
    LOCK TABLE public.qa_tickets IN ACCESS EXCLUSIVE MODE;
    LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;
END $$"""
HELD = (
    "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'public.qa_tickets'::regclass AND granted"
)


@pytest.fixture
async def owner(database: TestDatabase) -> Any:
    connection = await asyncpg.connect(**database.owner.connect_arguments())
    yield connection
    await connection.close()


async def until(owner: Any, number: int, seconds: float = 30) -> None:
    """Wait until so many sessions hold the lock."""
    deadline = time.monotonic() + seconds
    while await owner.fetchval(HELD) != number:
        assert time.monotonic() < deadline, (
            f"after {seconds} s the lock is still held" if number == 0 else "nobody got the lock"
        )
        await asyncio.sleep(0.02)


PROGRAM = """
import asyncio, sys, sqlalchemy as sa
from derwin_db import Database
async def main():
    async with Database(sys.argv[1], direct_url=sys.argv[2]) as db, db.project(sys.argv[3]) as session:
        await session.sql.execute(sa.text(sys.argv[4]))
asyncio.run(main())
"""


async def killed_in(statement: str, database: TestDatabase, project: Any, owner: Any) -> None:
    """Start a client of its own that runs the statement in a unit of work, and kill it as soon as that has its lock."""
    arguments = (database.urls["url"], database.urls["direct_url"], str(project), statement)
    with running(PROGRAM, *arguments, environment=os.environ) as (client, _):
        try:
            await until(owner, 1)
        finally:
            client.send_signal(signal.SIGKILL)
            await asyncio.to_thread(client.wait, 10)


async def hold(db: Database, project: Any) -> None:
    async with db.project(project) as session:
        await session.sql.execute(sa.text(STUBBORN))


class TestGivenUp:
    async def test_by_a_timeout(self, make_db, project, owner):
        db = make_db(command_timeout=1, statement_timeout=0.5, cleanup_timeout=0.5)
        assert isinstance(await raised(hold(db, project)), DatabaseTimeout)
        await until(owner, 0)
        assert (
            await owner.fetchval("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO $$ BEGIN%PERFORM set_config%'")
            == 0
        )

    async def test_by_a_cancellation(self, make_db, project, owner):
        db = make_db(cleanup_timeout=0.3)
        task = asyncio.create_task(hold(db, project))
        await until(owner, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(owner, 0)

    async def test_by_a_database_that_is_closed(self, make_db, project, owner):
        db = make_db(cleanup_timeout=0.5)
        task = asyncio.create_task(hold(db, project))
        await until(owner, 1)
        await db.close()
        await until(owner, 0)
        assert isinstance(await raised(asyncio.wait_for(task, 10)), DerwinError)

    async def test_by_a_client_that_is_gone(self, database, project, owner, db):
        await killed_in(STUBBORN, database, project, owner)
        await until(owner, 0)

    async def test_by_a_client_that_is_gone_when_sql_stopped_the_look_at_it(self, database, project, owner, make_db):
        """Another process of the service ends what has outlived any unit's limits; what is younger goes on."""
        unbounded = STUBBORN.replace(
            "'transaction_timeout', '0', true)",
            "'transaction_timeout', '0', true), set_config('client_connection_check_interval', '0', true)",
        )
        await killed_in(unbounded, database, project, owner)
        db = make_db(stray_timeout=0.001, transaction_timeout=0.5, cleanup_timeout=0.1, command_timeout=1)
        async with db.project(project) as session:  # the look at the fences, at the start, waits for the lock
            assert await repos.qa_tickets.count(session) == 0
        await until(owner, 0)

    async def test_by_nobody_while_a_service_runs(self, make_db, project, owner):
        """SQL by hand turned all limits off, in another unit of a process that goes on: who runs beside it ends it."""
        stubborn = make_db(command_timeout=30, transaction_timeout=60)
        db = make_db(stray_timeout=0.001, transaction_timeout=0.5, cleanup_timeout=0.1)
        await db.start()
        task = asyncio.create_task(raised(hold(stubborn, project)))
        await until(owner, 1)
        deadline = time.monotonic() + 30
        while await owner.fetchval(HELD):
            assert time.monotonic() < deadline, "the lock is still held"
            async with db.project(project, read_only=True) as session:
                await repos.projects.current(session)  # whatever takes a connection now and then
            await asyncio.sleep(0.05)
        assert isinstance(await task, DerwinError)

    async def test_a_transaction_that_a_script_prepared(self, make_db, database, project, owner):
        """Where the server allows that it has no process that could be ended, and its locks outlive all."""
        db = make_db(stray_timeout=0.001, transaction_timeout=0.001, cleanup_timeout=0.1)
        with pytest.raises(DerwinError):
            async with make_db().project(project) as session:
                raw = (await (await session.sql.connection()).get_raw_connection()).driver_connection
                await raw.execute("LOCK TABLE public.qa_tickets IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'it''s kept'")
        assert session.outcome == "outcome unknown"
        assert await owner.fetchval(HELD) == 1
        await asyncio.sleep(0.11)  # older than what a unit's own limits allow
        assert await Ender(database.service, db.settings, role="derwin_app").look() == 1
        assert await owner.fetchval(HELD) == 0

    async def test_by_a_look_that_has_limits_of_its_own(self, database):
        """Where its line falls silent, what it opened ends all the same, long before anybody would take it for a stray."""
        limits = "SELECT current_setting('idle_in_transaction_session_timeout'), current_setting('statement_timeout')"
        ender = Ender(database.service, Settings(_env_file=None), looks_for_strays=True)
        assert [*await ender._beside(lambda opened: opened.fetchrow(limits))] == ["5s", "5s"]

    @pytest.mark.parametrize("privileged", ["owner", "operator"])
    async def test_no_session_of_a_privileged_login(self, database, privileged):
        """Those of an owner may be anybody's, whatever their age."""
        settings = Settings(stray_timeout=0.001, transaction_timeout=0.001, cleanup_timeout=0.001)
        old = await asyncpg.connect(**getattr(database, privileged).connect_arguments())
        await old.execute("BEGIN")
        await old.execute("SELECT pg_sleep(0.01)")  # older than what a unit's own limits allow
        assert await Ender(getattr(database, privileged), settings, looks_for_strays=True).look() == 0
        assert await old.fetchval("SELECT 1") == 1
        await old.close()

    async def test_nobody_else_is_ended(self, make_db, owner):
        """The number of a process may be another's by then."""
        db = make_db()
        project = (await new_project(db)).id
        async with db.project(project) as session:
            connection = await session._connected()
            process = connection.process
            pool = session._pool
            connection.process = process._replace(started_at=process.started_at.replace(year=2001))
            ender = pool._ender
            ender._given_up.add(connection.process)
            async with asyncio.timeout(15):  # it is told that nobody has that number any more, and does not ask on
                await ender._end_given_up()
            assert await repos.qa_tickets.count(session) == 0
