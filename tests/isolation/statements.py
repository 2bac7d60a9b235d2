"""Attacks by SQL through `session.sql` (families 11, 12, 14, 15, 16): text for each table, sent in three ways."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import sqlalchemy as sa

from derwin_db import ProjectSession
from derwin_db.errors import APPEND_ONLY_TABLES
from derwin_db.testing.filling import models_by_table
from tests.isolation.arena import World
from tests.isolation.states import Attack, Case
from tests.isolation.texts import APPENDED, POWERS, READS, SCOPES, WRITES, filled_in

LATER = "after B on this connection"

# --- ways to send a statement -----------------------------------------------------------------------------------------


async def raw_connection(session: ProjectSession) -> Any:
    """Return the driver's connection, as anybody can who has `session.sql`."""
    connection = await session.sql.connection()
    return (await connection.get_raw_connection()).driver_connection


async def by_text(session: ProjectSession, sql: str) -> Any:
    result = await session.sql.execute(sa.text(sql.replace("\\:", ":")))
    return unordered(result.all()) if result.returns_rows else result.rowcount


async def by_driver_sql(session: ProjectSession, sql: str) -> Any:
    result = await (await session.sql.connection()).exec_driver_sql(sql)
    return unordered(result.all()) if result.returns_rows else result.rowcount


async def by_asyncpg(session: ProjectSession, sql: str) -> Any:
    return unordered(await (await raw_connection(session)).fetch(sql))


WAYS: dict[str, Callable[[ProjectSession, str], Awaitable[Any]]] = {
    "text()": by_text,
    "exec_driver_sql": by_driver_sql,
    "asyncpg": by_asyncpg,
}


def unordered(rows: Any) -> Any:
    """Return how many rows there are, and which: two copies of a table keep them in places of their own."""
    return len(rows), frozenset(_hashable(tuple(row)) for row in rows)


def _hashable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_hashable(item) for item in value)
    return repr(value) if isinstance(value, dict) else value


def sending(sql: str, table: str, way: str) -> Attack:
    """Return the attack that sends these statements, one after the other, and returns what the last one brings."""

    async def attack(world: World, session: ProjectSession, brought: list[Any]) -> Any:
        text = filled_in(sql, world, table)
        brought.append(text)
        got = None
        for part in [text] if "$$" in text else text.split("; "):
            got = await WAYS[way](session, part)
        return got

    return attack


def forging(sql: str, table: str) -> Attack:
    """Return the attack that changes scope, role or transaction, and then reads and writes what it can."""

    async def attack(world: World, session: ProjectSession, brought: list[Any]) -> Any:
        raw = await raw_connection(session)
        text = filled_in(sql, world, table)
        brought.append(text)
        after = (READS["everything"], WRITES["update of B"], WRITES["delete of B"], READS["by id"])
        parts = [text] if "$$" in text else text.split("; ")
        outcomes = [await _tried(raw, part) for part in (*parts, *(filled_in(one, world, table) for one in after))]
        return [got for got in outcomes if not (isinstance(got, tuple) and got == (0, frozenset()))]

    return attack


async def _tried(raw: Any, sql: str) -> Any:
    """Run the statement in a savepoint, so that the next one finds a transaction that works."""
    is_nested = raw.is_in_transaction() and not sql.startswith(("SAVEPOINT", "ROLLBACK"))
    try:
        if is_nested:
            await raw.execute("SAVEPOINT tried")
        got: Any = unordered(await raw.fetch(sql))
    except asyncpg.PostgresError as error:
        got = error
        if is_nested:
            await _undo(raw)
    return "its scope" if "set_config('derwin.project_id', '" in sql and not isinstance(got, BaseException) else got


async def _undo(raw: Any) -> None:
    try:
        await raw.execute("ROLLBACK TO tried")
    except asyncpg.PostgresError:
        return  # the statement has ended the transaction


def refused(sql: str, table: str) -> Attack:
    """Return the attack that must fail: an AssertionError where it does not."""
    sends = sending(sql, table, "asyncpg")

    async def attack(world: World, session: ProjectSession, brought: list[Any]) -> Any:
        try:
            got = await sends(world, session, brought)
        except asyncpg.PostgresError as error:
            return error
        raise AssertionError(f"{filled_in(sql, world, table)!r} is not refused: {got!r}")

    return attack


def statement_cases() -> Iterator[Case]:
    """Yield all attacks by SQL text, on every table."""
    for table in models_by_table():
        for name, sql in READS.items():
            for way, state in (*((way, "fresh") for way in WAYS), ("asyncpg", LATER), ("text()", "in a savepoint")):
                yield Case(11, f"{name} of {table} by {way}", sending(sql, table, way), state)
        for name, sql in WRITES.items():
            for way, state in (("text()", "fresh"), ("asyncpg", "fresh"), ("exec_driver_sql", LATER)):
                yield Case(12, f"{name} in {table} by {way}", sending(sql, table, way), state)
        for name, sql in SCOPES.items():
            for state in ("fresh", LATER):
                yield Case(14, f"{name}, then {table}", forging(sql, table), state)
        for name, sql in POWERS.items():
            yield Case(15, f"{name}: {table}", refused(sql, table))
        for name, sql in APPENDED.items() if table in APPEND_ONLY_TABLES else ():
            yield Case(16, f"{name} of {table}", refused(sql, table))
