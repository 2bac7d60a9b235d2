"""Fault 38: one unit of work in the hands of several tasks."""

import asyncio

import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.errors import ConcurrentUse, DerwinError, ScopeError
from tests.faults.load import entry, keys_of, make_ticket, raised, settled, spend


class TestOneSessionForSeveralTasks:
    async def test_the_second_is_told_so(self, db: Database, project):
        async with db.project(project) as session:
            results = await asyncio.gather(*(raised(repos.qa_tickets.count(session)) for _ in range(5)))
        assert [type(error) for error in results if error] == [ConcurrentUse] * 4
        assert db.connections_in_use() == 0

    async def test_the_first_is_not_harmed(self, db: Database, project):
        async with db.project(project) as session:
            await asyncio.gather(*(raised(repos.spend_ledger.append(session, entry(f"{name}"))) for name in range(5)))
        assert await keys_of(db, project) == ["0"]

    async def test_in_sql_too(self, db: Database, project):
        async def count(session):
            await session.sql.execute(sa.text("SELECT count(*) FROM public.qa_tickets"))

        for _ in range(5):
            with pytest.raises(ConcurrentUse):
                async with db.project(project) as session:
                    await asyncio.gather(*(count(session) for _ in range(5)))
            await settled(db)
        assert await spend(db, project, "after")

    async def test_sql_and_a_repository_at_once(self, db: Database, project):
        async def run() -> None:
            async with db.project(project) as session:
                await repos.qa_tickets.count(session)
                await asyncio.gather(
                    session.sql.execute(sa.text("SELECT pg_sleep(0.1)")), repos.spend_ledger.append(session, entry("a"))
                )

        for _ in range(5):
            assert isinstance(await raised(run()), ConcurrentUse | ScopeError)
            await settled(db)
        assert await keys_of(db, project) == []

    async def test_the_block_ends_while_a_task_is_busy(self, db: Database, project):
        with pytest.raises(ConcurrentUse):
            async with db.project(project) as session:
                await repos.qa_tickets.count(session)
                late = asyncio.create_task(raised(make_ticket(session)))
                await asyncio.sleep(0)
        assert isinstance(await late, DerwinError | None)
        assert db.connections_in_use() == 0
        assert await spend(db, project, "after")

    @pytest.mark.parametrize("error", [None, LookupError(), asyncio.CancelledError()], ids=lambda error: type(error).__name__)
    async def test_a_savepoint_that_ends_while_a_task_is_busy_can_not_be_undone_and_nothing_is_stored(
        self, db: Database, project, error: BaseException | None
    ):
        with pytest.raises(ScopeError, match="An earlier statement of this unit of work failed"):
            async with db.project(project) as session:
                with pytest.raises((ConcurrentUse, asyncio.CancelledError)):
                    async with session.savepoint():
                        await make_ticket(session)
                        late = asyncio.create_task(raised(make_ticket(session)))
                        await asyncio.sleep(0)
                        if error is not None:
                            raise error
                await late
        async with db.project(project) as session:
            assert await repos.qa_tickets.count(session) == 0

    async def test_a_task_that_outlives_the_block_is_told_so(self, db: Database, project):
        async with db.project(project) as session:
            await make_ticket(session)

            async def later() -> None:
                await asyncio.sleep(0.05)
                await make_ticket(session)

            task = asyncio.create_task(raised(later()))
        assert type(await task) is ScopeError
        async with db.project(project) as session:
            assert await repos.qa_tickets.count(session) == 1

    async def test_a_stream_and_other_statements_may_alternate(self, db: Database, project):
        async with db.project(project) as session:
            made = [(await make_ticket(session)).id for _ in range(3)]
            seen = [(await repos.qa_tickets.get(session, row.id)).id async for row in repos.qa_tickets.stream(session)]
        assert sorted(seen) == sorted(made)


class TestOneDatabaseForSeveralLoops:
    def test_a_second_loop_at_the_same_time_is_refused(self, make_urls):
        db = Database(**make_urls)

        async def use() -> None:
            async with db.project("nobody") as session:
                await repos.qa_tickets.count(session)

        async def outer() -> None:
            await raised(use())
            error = await asyncio.to_thread(lambda: asyncio.run(raised(use())))  # type: ignore[arg-type]
            assert type(error) is ScopeError
            await db.close()

        asyncio.run(outer())

    def test_one_loop_after_the_other_works(self, make_urls):
        db = Database(**make_urls)

        async def use() -> str:
            error = await raised(_count(db))
            return type(error).__name__

        names = [asyncio.run(use()) for _ in range(3)]
        asyncio.run(db.close())
        assert names == ["ProjectNotFound"] * 3


async def _count(db: Database) -> int:
    async with db.project("nobody") as session:
        return await repos.qa_tickets.count(session)


@pytest.fixture(scope="module")
def make_urls(base):
    """A running server that no event loop of this session knows."""
    victim = base[0].copy()
    victim.start()
    yield victim.moved(base[1]).urls
    victim.remove()
