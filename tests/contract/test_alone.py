"""Every read runs alone under every plan, and gives what it gives in a transaction: its scope is there before its first row.

That a condition without a column comes first is how the planner works, not a promise of the manual. So each statement that
a verb sends is run with each of the planner's settings turned off, with pairs of them, under generic and custom plans, on
both versions of the embedded server. By default three of these 56 ways run under each kind of plan, on the newer one: nothing
off, and for every other statement pairs that leave the planner other scans, joins, sorts and groupings. The policies raise
where no scope is set, so a wrong order is never an empty answer.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from itertools import combinations
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import pytest

from derwin_db import Database, ProjectSession, repos
from derwin_db.isolation.preamble import Preamble, TransactionMode
from derwin_db.query.statement import TOKEN_LENGTH, Statement
from derwin_db.testing import TestServer
from tests.contract.test_plans import filters_of
from tests.contract.verbs import PROJECT_CALLS
from tests.deploy.servers import embedded_16
from tests.repos.filling import REPOSITORIES, fill
from tests.repos.test_projects import a_project

PLANNER = (
    "enable_seqscan",
    "enable_indexscan",
    "enable_indexonlyscan",
    "enable_bitmapscan",
    "enable_sort",
    "enable_hashagg",
    "enable_hashjoin",
    "enable_mergejoin",
    "enable_nestloop",
    "enable_material",
)
OFF = ((), *((name,) for name in PLANNER), *combinations(PLANNER, 2))
Ways = dict[str, tuple[tuple[str, ...], ...]]
"""By the kind of plan: what of the planner is turned off."""

SAMPLE: Ways = {
    "force_custom_plan": ((), ("enable_indexscan", "enable_bitmapscan"), ("enable_hashjoin", "enable_nestloop")),
    "force_generic_plan": ((), ("enable_seqscan", "enable_indexonlyscan"), ("enable_sort", "enable_hashagg")),
}
ALL: Ways = dict.fromkeys(SAMPLE, OFF)
WAYS = pytest.mark.parametrize("ways", [SAMPLE, pytest.param(ALL, marks=pytest.mark.long)], ids=["sample", "all"])


class Read(NamedTuple):
    """A statement that a verb sent, and with which arguments, in both its forms."""

    project: UUID
    statement: Statement[Any]
    arguments: list[Any]
    alone: list[Any]


class Alone:
    """A filled database, and one connection that statements run on with a scope of their own."""

    def __init__(self, db: Database, preamble: Preamble, raw: Any) -> None:
        self.db = db
        self.raw = raw
        self._preamble = preamble

    async def run(self, read: Read) -> list[Any]:
        """Run it as a unit that only reads does."""
        form = read.statement.alone
        read.alone[form.scope_at] = self._preamble.scope_of_one(self.raw, read.project)
        return [tuple(record) for record in await self.raw.fetch(form.sql, *read.alone)]

    async def run_short(self, read: Read) -> list[Any]:
        """Run it as a unit that only reads does on a distributed server: the scope is the end of its argument."""
        form = read.statement.alone
        assert form.short is not None
        scope = self._preamble.scope_of_one(self.raw, read.project)
        arguments = [*read.alone]
        arguments[form.scope_at] = f"{'.' * 1024}{scope}"
        assert len(scope) == TOKEN_LENGTH
        return [tuple(record) for record in await self.raw.fetch(form.short, *arguments)]

    async def run_in_transaction(self, read: Read) -> list[Any]:
        await self._preamble.for_project(self.raw, read.project, TransactionMode.READ_ONLY)
        try:
            return [tuple(record) for record in await self.raw.fetch(read.statement.sql, *read.arguments)]
        finally:
            await self.raw.execute("ROLLBACK")

    async def each(self, ways: Ways) -> AsyncGenerator[tuple[int, str]]:
        """Set the planner each of these ways, one after the other, and number them."""
        try:
            for cache, off in ways.items():
                for number, names in enumerate(off):
                    way = "; ".join([f"SET plan_cache_mode = {cache}", *(f"SET {name} = off" for name in names)])
                    await self.raw.execute(f"RESET ALL; {way}")
                    yield number, way
        finally:
            await self.raw.execute("RESET ALL")


@contextmanager
def servers(version: int, shared: TestServer) -> Iterator[TestServer]:
    if version == 18:
        yield shared
        return
    with embedded_16() as owner:
        server = TestServer(owner)
        try:
            yield server
        finally:
            server.close()


@pytest.fixture(scope="module", params=[18, pytest.param(16, marks=pytest.mark.long)])
async def alone(request: pytest.FixtureRequest, server: TestServer) -> AsyncIterator[Alone]:
    entered = servers(request.param, server)
    chosen = await asyncio.to_thread(entered.__enter__)
    database = await asyncio.to_thread(chosen.migrated)
    async with Database(**database.urls) as db:
        source = await db.app_pool(read_only=False)
        raw = await source.pool.acquire()
        assert raw.get_server_version().major == request.param
        yield Alone(db, source.preamble, raw)
        source.pool.drop(raw)
    await asyncio.to_thread(chosen.drop, database)
    await asyncio.to_thread(entered.__exit__, None, None, None)


async def new_project(db: Database) -> UUID:
    async with db.admin(reason="a test") as admin:
        return (await repos.projects.create(admin, a_project())).id


@pytest.fixture(scope="module")
async def reads(alone: Alone) -> list[Read]:
    """Every statement that reads and is sent by a read or another verb."""
    found: dict[str, Read] = {}
    original = ProjectSession._arguments

    def note(self: ProjectSession, statement: Any, values: Any, *, is_alone: bool = False) -> Any:
        if statement.reads and " FROM " in statement.sql.replace("\n", " "):  # not what only asks for the time
            both = (original(self, statement, values, is_alone=form) for form in (False, True))
            found.setdefault(statement.sql, Read(self.project_id, statement, *both))
        return original(self, statement, values, is_alone=is_alone)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProjectSession, "_arguments", note)
        await _read_everything(alone.db)
        for call in PROJECT_CALLS:
            project = await new_project(alone.db)
            async with alone.db.project(project) as session:
                made = await call.prepare(session)
            async with alone.db.project(project) as session:
                await call.run(session, made)
    return list(found.values())


async def _read_everything(db: Database) -> None:
    project = await new_project(db)
    await fill(db, project)
    async with db.project(project) as session:
        for repo in REPOSITORIES.values():
            row = (await repo.list(session, limit=20)).items[0]
            for read in (repo.get, repo.find, repo.exists):
                await read(session, row.id)
            for filters in filters_of(repo, row):
                page = await repo.list(session, limit=1, **filters)
                if page.next_cursor:
                    await repo.list(session, limit=1, cursor=page.next_cursor, **filters)
                await repo.count(session, **filters)


class TestEveryRead:
    async def test_is_a_good_many(self, reads: list[Read]) -> None:
        assert len(reads) > 150
        assert {read.statement.name.partition(".")[0] for read in reads} == set(REPOSITORIES)

    @WAYS
    async def test_gives_the_same_alone_under_every_plan(self, alone: Alone, reads: list[Read], ways: Ways) -> None:
        expected = [await alone.run_in_transaction(read) for read in reads]
        assert sum(map(bool, expected)) > 100
        pairs = list(zip(reads, expected, strict=True))
        async with aclosing(alone.each(ways)) as each:
            async for number, way in each:
                whole = ways is ALL or "= off" not in way
                for read, wanted in pairs if whole else pairs[number % 2 :: 2]:
                    got = await alone.run(read)
                    same = got == wanted or ("ORDER BY" not in read.statement.sql and sorted(got) == sorted(wanted))
                    assert same, f"{read.statement.name} with {way}: {read.statement.alone.sql}"

    async def test_of_one_table_gives_the_same_with_its_scope_in_offset(self, alone: Alone, reads: list[Read]) -> None:
        short = [read for read in reads if read.statement.alone.short is not None]
        assert len(short) > 50
        assert {"get", "exists", "count"} <= {read.statement.name.partition(".")[2] for read in short}
        expected = [sorted(await alone.run_in_transaction(read), key=repr) for read in short]
        async with aclosing(alone.each(SAMPLE)) as each:
            async for _, way in each:
                for read, wanted in zip(short, expected, strict=True):
                    assert sorted(await alone.run_short(read), key=repr) == wanted, f"with {way}: {read.statement.alone.short}"

    async def test_of_one_table_without_a_scope_is_an_error(self, alone: Alone, reads: list[Read]) -> None:
        for read in reads:
            if read.statement.alone.short is not None:
                blind = read.statement.alone.short.replace("set_config('derwin.project_id'", "set_config('derwin.nothing'")
                with pytest.raises(asyncpg.PostgresError) as caught:
                    await alone.raw.fetch(blind, *read.alone)
                assert caught.value.sqlstate == "DW010", read.statement.name

    async def test_of_another_project_finds_nothing(self, alone: Alone, reads: list[Read]) -> None:
        """With the scope of another project and the arguments of this one: both fences have to be passed."""
        other = await new_project(alone.db)
        for read in reads:
            rows = await alone.run(read._replace(project=other))
            said = {None, 0, *(value for value in read.arguments if isinstance(value, UUID))}
            assert all(set(row) <= said for row in rows), f"{read.statement.name}: {rows[:2]}"

    async def test_without_a_scope_is_an_error(self, alone: Alone, reads: list[Read]) -> None:
        """As if the policies came before the condition that sets it."""
        for read in reads:
            form = read.statement.alone
            blind = form.sql.replace("set_config('derwin.project_id'", "set_config('derwin.nothing'")
            assert blind != form.sql
            with pytest.raises(asyncpg.PostgresError) as caught:
                await alone.raw.fetch(blind, *read.alone)
            assert caught.value.sqlstate == "DW010", read.statement.name


class TestWrongOrder:
    async def test_is_run_again_in_a_transaction_and_counted(self, alone: Alone, caplog: pytest.LogCaptureFixture) -> None:
        project = await new_project(alone.db)
        await fill(alone.db, project)
        statement = repos.qa_tickets._count_statement(())
        form = statement.alone
        before = alone.db.backend.misplaced
        try:
            statement._alone = form._replace(sql=form.sql.replace("'derwin.project_id'", "'derwin.nothing'"))
            async with alone.db.project(project) as session:
                assert await repos.qa_tickets.count(session) > 0
        finally:
            statement._alone = form
        assert alone.db.backend.misplaced == before + 1
        assert "qa_tickets.count was planned past its scope" in caplog.text
