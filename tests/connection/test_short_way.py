"""Statements that are prepared go to the driver's protocol at once, and are run again where the driver would run them again."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from derwin_db import Database
from derwin_db.connection.driver import PooledConnection
from derwin_db.testing import TestDatabase

READ = "SELECT * FROM thing ORDER BY 1"


@pytest.fixture
async def owner(own_database: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    """A connection that may change tables; `thing` has a row, and a column of a type that has attributes."""
    connection = await asyncpg.connect(**own_database.owner.connect_arguments())
    await connection.execute(
        "CREATE TYPE pair AS (a int, b int); CREATE TABLE thing (id int, pair pair); GRANT ALL ON thing TO PUBLIC; "
        "INSERT INTO thing VALUES (1, (2, 3))"
    )
    yield connection
    await connection.close()


@pytest.fixture
async def pooled(own_database: TestDatabase, owner: asyncpg.Connection) -> AsyncIterator[PooledConnection]:
    """A connection of the service that has prepared the statement."""
    async with Database(**own_database.urls) as db:
        await db.start()
        pool = db.pools()[0]
        connection = await pool.acquire()
        await connection.fetch(READ)
        yield connection
        pool.drop(connection)


async def test_a_table_that_was_changed_is_read_in_its_new_form(owner: asyncpg.Connection, pooled: PooledConnection) -> None:
    await owner.execute("ALTER TABLE thing ADD COLUMN more text DEFAULT 'x'")
    assert [tuple(row) for row in await pooled.fetch(READ)] == [(1, (2, 3), "x")]
    assert [tuple(row) for row in await pooled.fetch(READ)] == [(1, (2, 3), "x")]


async def test_within_a_transaction_the_change_is_an_error_once(owner: asyncpg.Connection, pooled: PooledConnection) -> None:
    await pooled.execute("BEGIN")
    await owner.execute("ALTER TABLE thing ADD COLUMN more text DEFAULT 'x'")
    with pytest.raises(asyncpg.InvalidCachedStatementError):
        await pooled.fetch(READ)
    await pooled.execute("ROLLBACK; BEGIN")
    assert [tuple(row) for row in await pooled.fetch(READ)] == [(1, (2, 3), "x")]


async def test_a_type_that_was_changed_is_an_error_once(owner: asyncpg.Connection, pooled: PooledConnection) -> None:
    await owner.execute("ALTER TYPE pair ADD ATTRIBUTE c int")
    with pytest.raises(asyncpg.OutdatedSchemaCacheError):
        await pooled.fetch(READ)
    assert [tuple(row) for row in await pooled.fetch(READ)] == [(1, (2, 3, None))]


async def test_loggers_of_the_driver_see_every_statement(pooled: PooledConnection) -> None:
    seen: list[str] = []
    pooled.add_query_logger(lambda record: seen.append(record.query))
    await pooled.fetch(READ)
    await pooled.execute("SELECT 1")
    await asyncio.sleep(0)  # the driver calls them in the loop's next turn
    assert seen == [READ, "SELECT 1"]


@pytest.mark.parametrize("end", ["close", "terminate"])
async def test_a_connection_that_was_closed_says_so(pooled: PooledConnection, end: str) -> None:
    ending = getattr(pooled, end)()
    if ending is not None:
        await ending
    for run in (pooled.fetch(READ), pooled.execute("SELECT 1")):
        with pytest.raises(asyncpg.InterfaceError, match="closed"):
            await run


async def test_two_at_once_are_refused(pooled: PooledConnection) -> None:
    await pooled.fetch("SELECT pg_sleep($1)", 0)
    first = asyncio.create_task(pooled.fetch("SELECT pg_sleep($1)", 0.05))
    await asyncio.sleep(0)
    for second in (pooled.fetch(READ), pooled.execute("SELECT 1")):
        with pytest.raises(asyncpg.InterfaceError, match="another operation is in progress"):
            await second
    assert len(await first) == 1


async def test_beside_what_the_driver_is_preparing_it_is_refused(pooled: PooledConnection) -> None:
    """Its first answer has come, and it has not asked for the second yet."""
    with pooled._stmt_exclusive_section:
        for second in (pooled.fetch(READ), pooled.fetch("SELECT 2")):
            with pytest.raises(asyncpg.InterfaceError, match="another operation is in progress"):
                await second


async def test_records_are_of_the_class_that_was_asked_for(pooled: PooledConnection) -> None:
    class Row(asyncpg.Record):
        pass

    for _ in range(2):
        assert [type(row) for row in await pooled.fetch(READ, record_class=Row)] == [Row]
        assert [type(row) for row in await pooled.fetch(READ)] == [asyncpg.Record]


async def test_an_argument_that_can_not_be_encoded_leaves_the_connection_as_it_is(pooled: PooledConnection) -> None:
    for argument in (1, "no number", 2):
        if isinstance(argument, str):
            with pytest.raises(asyncpg.DataError, match="no number"):
                await pooled.fetch("SELECT $1::int", argument)
        else:
            assert [tuple(row) for row in await pooled.fetch("SELECT $1::int", argument)] == [(argument,)]


async def test_what_was_not_prepared_yet_is_prepared_by_the_driver(
    pooled: PooledConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinary, by_the_driver = asyncpg.Connection.fetch, list[str]()

    def noted(connection: PooledConnection, query: str, *args: Any, **named: Any) -> Any:
        if connection is pooled:  # others look after the pool meanwhile
            by_the_driver.append(query)
        return ordinary(connection, query, *args, **named)

    monkeypatch.setattr(asyncpg.Connection, "fetch", noted)
    for _ in range(3):
        await pooled.fetch(READ)
        await pooled.fetch("SELECT $1::int", 1)
    assert by_the_driver == ["SELECT $1::int"]
