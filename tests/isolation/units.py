"""Attacks by what happens to units of work: ends, cancellation, concurrency, poolers, killed backends (families 17 to 21, 25).

Each is a script on the shared world; it raises AssertionError where a unit of one project meets anything of another.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from derwin_db import ProjectSession, repos
from derwin_db.errors import ConcurrentUse, DerwinError, ProjectNotFound, ScopeError
from derwin_db.models import QARunCreate
from derwin_db.testing.examples import example
from derwin_db.testing.filling import Filled
from tests.isolation.arena import Arena

Run = Callable[[Arena, Any], Awaitable[None]]


@dataclass(frozen=True)
class Script:
    """An attack that needs more than one call in one session."""

    family: int
    name: str
    run: Callable[[Arena], Awaitable[None]]

    @property
    def title(self) -> str:
        return f"{self.family}. {self.name}"


SCRIPTS: list[tuple[int, str, Run]] = []


def script(family: int) -> Callable[[Run], Run]:
    """Register a script that is run for each repository."""

    def register(function: Run) -> Run:
        SCRIPTS.append((family, function.__name__.replace("_", " "), function))
        return function

    return register


def unit_scripts() -> Iterator[Script]:
    for family, name, function in SCRIPTS:
        for table in repos.__all__:

            async def run(arena: Arena, function: Run = function, table: str = table) -> None:
                await function(arena, getattr(repos, table))

            yield Script(family, f"{name}: {table}", run)


async def only(session: ProjectSession, repository: Any, project: Filled) -> None:
    """See to it that the session reads all rows of this project and no others."""
    rows = (await repository.list(session, limit=500)).items
    assert {row.id for row in rows} == set(project.ids(repository.model.__tablename__)), "not the rows of its own project"


async def refused(call: Callable[[], Awaitable[Any]], *kinds: type[BaseException]) -> BaseException:
    try:
        got = await call()
    except kinds as error:
        return error
    raise AssertionError(f"not refused: {got!r}")


# --- family 17: the same session again --------------------------------------------------------------------------------


@script(17)
async def after_a_commit(arena, repository):
    async with arena.shared.narrow.project(arena.a.project_id) as session:
        await only(session, repository, arena.a)
    await refused(lambda: repository.list(session), ScopeError)
    async with arena.shared.narrow.project(arena.b.project_id) as other:
        await only(other, repository, arena.b)
        await refused(lambda: repository.list(session), ScopeError)


@script(17)
async def after_an_exception(arena, repository):
    with contextlib.suppress(KeyError):
        async with arena.shared.narrow.project(arena.a.project_id) as session:
            await only(session, repository, arena.a)
            raise KeyError
    await refused(lambda: repository.list(session), ScopeError)
    async with arena.shared.narrow.project(arena.b.project_id) as other:
        await only(other, repository, arena.b)


@script(17)
async def after_a_failed_statement(arena, repository):
    with contextlib.suppress(ScopeError):
        async with arena.shared.narrow.project(arena.a.project_id) as session:
            await refused(lambda: session.sql.execute(sa.text("SELECT 1 / 0")), Exception)
            await refused(lambda: repository.list(session), DerwinError)
    async with arena.shared.narrow.project(arena.b.project_id) as other:
        await only(other, repository, arena.b)


@script(17)
async def after_a_savepoint_that_is_rolled_back(arena, repository):
    async with arena.shared.narrow.project(arena.a.project_id) as session:
        await refused(lambda: failing_savepoint(session), KeyError)
        await only(session, repository, arena.a)
        async with session.savepoint():
            await only(session, repository, arena.a)
        await only(session, repository, arena.a)


async def failing_savepoint(session):
    async with session.savepoint():
        await session.sql.execute(sa.text("SELECT 1"))
        raise KeyError


@script(17)
async def after_a_deleted_project_elsewhere(arena, repository):
    await refused(lambda: reading(arena.shared.wide, "no-such-project", repository), ProjectNotFound)
    await refused(lambda: reading(arena.alone.wide, arena.b.project_id, repository), ProjectNotFound)


async def reading(database, project, repository):
    async with database.project(project) as session:
        return await repository.list(session)


# --- family 18: left in the middle ------------------------------------------------------------------------------------

STEPS = tuple(range(0, 200, 7))


async def busy(database, project, repository):
    """A unit that begins, reads, writes, streams and uses SQL of its own."""
    async with database.project(project) as session:
        await repository.list(session)
        await repos.qa_runs.enqueue(session, example(QARunCreate, marker="leaving"))
        async with session.savepoint():
            await session.sql.execute(sa.text("SELECT set_config('derwin.left', 'behind', false), pg_advisory_lock(1234567)"))
        async for _row in repos.raw_signals.stream(session):
            await asyncio.sleep(0)
        raise KeyError


@script(18)
async def cancelled_at_any_step(arena, repository):
    for step in STEPS:
        task = asyncio.ensure_future(busy(arena.shared.narrow, arena.a.project_id, repository))
        for _ in range(step):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(KeyError, asyncio.CancelledError):
            await task
        await clean_for_b(arena, repository)


@script(18)
async def timed_out(arena, repository):
    with contextlib.suppress(TimeoutError, KeyError):
        async with asyncio.timeout(0.004):
            await busy(arena.shared.narrow, arena.a.project_id, repository)
    await clean_for_b(arena, repository)


@script(18)
async def an_abandoned_stream(arena, repository):
    async with arena.shared.narrow.project(arena.a.project_id) as session:
        rows = repository.stream(session)
        await anext(rows)
    await clean_for_b(arena, repository)
    with contextlib.suppress(ScopeError):  # what was fetched already is A's; there is no more
        async for row in rows:
            assert row.id in arena.a.ids(repository.model.__tablename__)


async def clean_for_b(arena, repository):
    """Check out for B on the same connection: B only, and nothing left of the unit before."""
    async with arena.shared.narrow.project(arena.b.project_id) as session:
        await only(session, repository, arena.b)
        left = await (await session._connected()).fetchrow(
            "SELECT nullif(current_setting('derwin.left', true), '') AS setting, "
            "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks, "
            "(SELECT count(*) FROM pg_cursors WHERE is_holdable) AS cursors"
        )
        assert tuple(left) == (None, 0, 0), f"left behind: {left}"
    assert arena.shared.narrow.connections_in_use() == 0


# --- family 19: tasks -------------------------------------------------------------------------------------------------


@script(19)
async def one_session_in_two_tasks(arena, repository):
    with contextlib.suppress(ScopeError):
        async with arena.shared.wide.project(arena.a.project_id) as session:
            answers = await asyncio.gather(*(repository.list(session, limit=500) for _ in range(4)), return_exceptions=True)
            for answer in answers:
                if isinstance(answer, BaseException):
                    assert isinstance(answer, ScopeError), answer
                else:
                    assert {row.id for row in answer.items} == set(arena.a.ids(repository.model.__tablename__))
            assert any(isinstance(answer, ConcurrentUse) for answer in answers)


@script(19)
async def two_projects_in_two_tasks(arena, repository):
    async def turn(project):
        for _ in range(5):
            async with arena.shared.wide.project(project.project_id) as session:
                await only(session, repository, project)
                await asyncio.sleep(0)
                await only(session, repository, project)

    await asyncio.gather(turn(arena.a), turn(arena.b), turn(arena.a), turn(arena.b))


ENDS_BY_HAND = ("COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "/**/ ; abort", "SELECT 1; COMMIT", "SELECT 1; ROLLBACK; BEGIN")


@script(17)
async def an_end_by_hand(arena, repository):
    """SQL by hand that ends the transaction is refused, or noticed: the unit never says what is not so, nor reads on."""
    for end in ENDS_BY_HAND:
        called: list[int] = []
        try:
            async with arena.shared.narrow.project(arena.a.project_id) as session:
                raw = (await (await session.sql.connection()).get_raw_connection()).driver_connection
                session.after_commit(lambda called=called: called.append(1))
                await raw.execute(end)
                await repository.list(session)
        except DerwinError:
            pass
        assert session.outcome != "committed", f"{end}: the unit says committed"
        assert not called, f"{end}: a callback ran"
        assert ("SELECT" in end) == (session.outcome == "outcome unknown"), f"{end}: {session.outcome}"
        async with arena.shared.narrow.project(arena.b.project_id) as other:
            await only(other, repository, arena.b)


@script(19)
async def a_task_that_outlives_its_block(arena, repository):
    await outliving(arena, repository, arena.shared.narrow)


async def outliving(arena, repository, database):
    """Whatever A kept of its unit of work, it does not reach the unit of B that has the connection now."""
    table = repository.model.__tablename__
    query = f"SELECT id FROM public.{table}"
    async with database.project(arena.a.project_id) as session:
        await only(session, repository, arena.a)
        sql = session.sql
        connection = await sql.connection()
        raw = (await connection.get_raw_connection()).driver_connection
        prepared = await raw.prepare(query)
        cursor = await raw.cursor(query)
        fetch, begun, declared, transaction = raw.fetch, raw.fetch(query), raw.cursor(query), raw.transaction()
        iterator, begun_iterator = aiter(raw.cursor(query)), aiter(raw.cursor(f"{query} UNION ALL {query}"))
        await anext(begun_iterator)  # and has more of what it fetched
    late = {
        "the session": lambda: repository.list(session),
        "session.sql": lambda: sql.execute(sa.text(query)),
        "the connection": lambda: connection.execute(sa.text(query)),
        "the driver's connection": lambda: raw.fetch(query),
        "its bound method": lambda: fetch(query),
        "a coroutine that waits to be run": lambda: begun,
        "a prepared statement": prepared.fetch,
        "a cursor": lambda: cursor.fetch(1),
        "a cursor that waits to be opened": lambda: declared,
        "an iterator": lambda: anext(iterator),
        "an iterator that has begun": lambda: anext(begun_iterator),
        "a transaction": transaction.start,
    }
    with contextlib.closing(begun):
        async with database.project(arena.b.project_id) as other:
            await other._connected()  # what it only reads would hold no connection
            await only(other, repository, arena.b)
            for name, call in late.items():
                try:
                    got = await call()
                except Exception:  # of its own, SQLAlchemy's or the driver's
                    continue
                rows = getattr(got, "all", lambda got=got: got)()
                ids = {row[0] for row in rows} if isinstance(rows, list | tuple) else set()
                raise AssertionError(f"{name} still works: {len(ids & set(arena.b.ids(table)))} rows of B")
            await only(other, repository, arena.b)


@script(19)
async def nested_units(arena, repository):
    async with arena.shared.wide.project(arena.a.project_id) as outer, arena.shared.wide.project(arena.b.project_id) as inner:
        await only(inner, repository, arena.b)
        await only(outer, repository, arena.a)
        await only(inner, repository, arena.b)
