"""`assert_isolated`: for a consumer's own query, the question whether it ever sees or changes another project.

    async def test_my_report_is_isolated(committed_database):
        await assert_isolated(my_report, database=committed_database)

The call gets a `ProjectSession`, and may use repositories and `session.sql` as it likes.
"""

import asyncio
import atexit
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import sqlalchemy as sa

from derwin_db.database import Database
from derwin_db.session import ProjectSession
from derwin_db.testing.filling import Filled, create_filled
from derwin_db.testing.server import TestDatabase, choose_server
from derwin_db.testing.traces import Traces, canonical, digest_query
from derwin_db.testing.unfiltered import without_filters

T = TypeVar("T")

Call = Callable[[ProjectSession], Awaitable[T]]

_SHOWN = 600
"""Characters of a result that a failure shows."""


class _Undo(Exception):
    """Rolls a unit of work back."""


@dataclass(frozen=True)
class _Outcome:
    """What a call returned, or raised."""

    value: Any
    is_error: bool = False


async def assert_isolated(call: Call[Any], *, database: Database | None = None) -> None:
    """Run the call in two filled projects, and fail with a list of what it sees or changes of the other one.

    What is tried: that its result in A names no id and no text of B, and B's none of A; that the result in A is the same
    whether B is there or not, so that no count, sum or order depends on another project; that nothing of B changes when the
    call is committed in A; that all of it holds with the database's policies alone, the repositories' filters taken out.

    Both projects have rows in every table and in every state. The call has to be repeatable: new ids and times may differ,
    the rest of its result may not. It runs six times, five of them rolled back; its own errors are raised as they are.

    Without a database it uses a test server of its own (DERWIN_TEST_DATABASE_URL, Docker or the embedded one), never the
    service's.

    Errors:
        AssertionError; what the call itself raises in A.

    Cost:
        Two projects of 60 rows and about 200 statements, half a second.
    """
    if database is not None:
        return await _check(call, database)
    own = await asyncio.to_thread(_own_database)
    urls: dict[str, Any] = dict(own.urls)
    async with Database(**urls) as opened:
        return await _check(call, opened)


async def _check(call: Call[Any], database: Database) -> None:
    a = await create_filled(database)
    alone = await _outcome(call, database, a)
    if alone.is_error:
        raise alone.value
    b = await create_filled(database)
    known = Traces(a).ids | Traces(a).times | Traces(b).ids | Traces(b).times
    failures: list[str] = []
    for fence, context in (("", contextlib.nullcontext), ("with the policies alone, ", without_filters)):
        with context():
            beside = await _outcome(call, database, a)
            in_b = await _outcome(call, database, b)
        failures += _traces(f"{fence}in project A it returns of B: ", beside, Traces(b))
        failures += _traces(f"{fence}in project B it returns of A: ", in_b, Traces(a))
        before, after = canonical(alone.value, known), canonical(beside.value, known)
        if before != after:
            shown = f"\n      alone:  {_short(before)}\n      beside: {_short(after)}"
            failures.append(f"{fence}its result in A is another one once B is there:{shown}")
    failures += await _changes(call, database, a, b)
    if failures:
        name = getattr(call, "__qualname__", repr(call))
        raise AssertionError("\n  - ".join([f"{name} is not isolated (A is {a.marker}, B is {b.marker}):", *failures]))


async def _outcome(call: Call[Any], database: Database, project: Filled) -> _Outcome:
    """Run the call in the project and roll back."""
    outcome = _Outcome(None)
    try:
        async with database.project(project.project_id) as session:
            try:
                outcome = _Outcome(await call(session))
            except Exception as error:
                outcome = _Outcome(error, is_error=True)
            raise _Undo
    except _Undo:
        return outcome


def _traces(what: str, outcome: _Outcome, traces: Traces) -> list[str]:
    found = traces.found_in(outcome.value)
    return [f"{what}{', '.join(found[:5])}{' ...' * (len(found) > 5)}"] if found else []


async def _changes(call: Call[Any], database: Database, a: Filled, b: Filled) -> list[str]:
    """Commit the call in A, and name the tables in which rows of B are not what they were."""
    before = await _digest(database, b)
    with contextlib.suppress(Exception):  # whether it may be committed is not the question
        async with database.project(a.project_id) as session:
            await call(session)
    after = await _digest(database, b)
    changed = sorted(name for name in before if before[name] != after[name])
    return [f"committed in project A it changes rows of B in: {', '.join(changed)}"] if changed else []


async def _digest(database: Database, project: Filled) -> dict[str, tuple[Any, ...]]:
    """Say of each table how many rows the project has, what is in them, and which transaction wrote them last."""
    query = sa.text(digest_query(project.rows).replace("::", r"\:\:").replace("$1", ":project"))
    async with database.project(project.project_id) as session:
        rows = (await session.sql.execute(query, {"project": project.project_id})).all()
    return {row[0]: tuple(row[1:]) for row in rows}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ... ({len(text)} characters)"


@cache
def _own_database() -> TestDatabase:
    """Start a test server for this process, and return a migrated database on it."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(choose_server()).migrated()
