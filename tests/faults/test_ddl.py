"""Faults 28 to 30: changes of the schema under live traffic."""

import asyncio

import asyncpg
import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.models import QATicketUpdate
from tests.faults.load import make_ticket, raised
from tests.faults.victim import Victim

TABLE = "public.qa_tickets"
SEVERITY = "ck_qa_tickets_severity"


@pytest.fixture
async def owner(victim: Victim, database):
    """The owner's connection, with the lock_timeout that a migration takes."""
    connection = await victim.connect(database.owner.database)
    await connection.execute("SET lock_timeout = '200ms'")
    yield connection
    await connection.close()


class Users:
    """Ten callers that read and write tickets until they are told to stop."""

    def __init__(self, db: Database, project, *, callers: int = 10) -> None:
        self.db, self.project, self.callers = db, project, callers
        self.units = 0
        self.errors: list[object] = []

    async def __aenter__(self):
        self._is_on = True
        self._tasks = [asyncio.create_task(self._use()) for _ in range(self.callers)]
        return self

    async def __aexit__(self, *_):
        self._is_on = False
        await asyncio.gather(*self._tasks)

    async def _use(self) -> None:
        async with self.db.project(self.project) as session:
            id = (await make_ticket(session)).id
        while self._is_on:
            error = await raised(self._unit(id))
            if error:
                self.errors.append(error)
            self.units += 1

    async def _unit(self, id) -> None:
        async with self.db.project(self.project) as session:
            await repos.qa_tickets.get(session, id)
            await repos.qa_tickets.list(session, limit=5)
            await repos.qa_tickets.update(session, id, QATicketUpdate(title="x"))

    async def until_more(self, number: int) -> None:
        wanted = self.units + number
        async with asyncio.timeout(10):
            while self.units < wanted:
                await asyncio.sleep(0.005)


async def patiently(connection: asyncpg.Connection, sql: str) -> None:
    """Change the schema as a migration does: give way, and try again."""
    async with asyncio.timeout(30):
        while True:
            try:
                await connection.execute(sql)
            except asyncpg.LockNotAvailableError:
                await asyncio.sleep(0.02)
            else:
                return


class TestAddColumn:
    async def test_nobody_notices(self, db: Database, owner, project):
        async with Users(db, project) as users:
            await users.until_more(30)
            for number in range(5):
                await patiently(owner, f"ALTER TABLE {TABLE} ADD COLUMN extra_{number} int DEFAULT 7")
                await users.until_more(30)
            for number in range(5):
                await patiently(owner, f"ALTER TABLE {TABLE} DROP COLUMN extra_{number}")
                await users.until_more(10)
        assert users.errors == []
        assert users.units > 200


class TestNewLabel:
    async def test_a_check_that_takes_one_more_label_is_changed_unnoticed(self, db: Database, owner, project):
        (old,) = await owner.fetchrow("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1", SEVERITY)
        async with Users(db, project) as users:
            await users.until_more(20)
            for definition in (old.replace("'LOW'", "'LOW', 'NONE'"), old):
                change = f"DROP CONSTRAINT {SEVERITY}, ADD CONSTRAINT {SEVERITY} {definition}"
                await patiently(owner, f"ALTER TABLE {TABLE} {change}")
                await users.until_more(20)
        assert users.errors == []

    async def test_there_is_no_type_that_would_have_to_be_made_anew(self, owner):
        rows = await owner.fetch(
            "SELECT typname FROM pg_type WHERE typtype = 'e' AND typnamespace NOT IN ('pg_catalog'::regnamespace)"
        )
        assert rows == []


class TestColumnTypeChanged:
    async def test_run_does_not_let_it_through(self, db: Database, owner, project):
        async with db.project(project) as session:
            id = (await make_ticket(session)).id

        async def read(session):
            return await repos.qa_tickets.get(session, id)

        await asyncio.gather(*(db.run(project, read) for _ in range(4)))
        await owner.execute(f"ALTER TABLE {TABLE} ALTER COLUMN fingerprint TYPE varchar(900)")
        try:
            results = [await raised(db.run(project, read)) for _ in range(4)]
            assert results == [None] * 4
        finally:
            await owner.execute(f"ALTER TABLE {TABLE} ALTER COLUMN fingerprint TYPE text")
            await db.close()


class TestBehindALongReader:
    async def test_others_wait_no_longer_than_the_lock_timeout(self, db: Database, victim: Victim, database, owner, project):
        """They queue behind the change, and go on when it gives way, while the reader is still there."""

        async def read_slowly() -> None:
            async with db.project(project) as session:
                await session.sql.execute(sa.text(f"SELECT pg_advisory_xact_lock_shared(1) FROM {TABLE} LIMIT 1"))

        async with db.project(project) as session:
            await make_ticket(session)
        gate = await victim.connect(database.owner.database)
        await gate.execute("GRANT EXECUTE ON FUNCTION pg_catalog.pg_advisory_xact_lock_shared(bigint) TO derwin_app")
        await gate.execute("SELECT pg_advisory_lock(1)")
        await owner.execute("SET lock_timeout = '1s'")
        async with Users(db, project, callers=4) as users:
            await users.until_more(60)
            reader = asyncio.create_task(read_slowly())
            await victim.until_active("pg_advisory_xact_lock_shared(1)")
            queued = 0
            while queued < 2:
                change = asyncio.create_task(owner.execute(f"ALTER TABLE {TABLE} ADD COLUMN late int"))
                queued += await somebody_queues_behind(gate, owner.get_server_pid(), change)
                with pytest.raises(asyncpg.LockNotAvailableError):
                    await change
                await users.until_more(8)
                assert not reader.done()
            await gate.close()
            await reader
        assert users.errors == []


async def somebody_queues_behind(gate: asyncpg.Connection, pid: int, change: asyncio.Task) -> bool:
    """Tell whether somebody was seen to wait for the backend with this number, as long as the change goes on."""
    while not change.done():
        if await gate.fetchval("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid)))", pid):
            return True
        await asyncio.sleep(0.005)
    return False
