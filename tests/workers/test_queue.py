"""`derwin.open_runs`: it holds what qa_runs holds, whoever writes, and the functions go round it."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.connection.facts import connect_steadily
from derwin_db.deploy.migrations import downgrade, upgrade
from derwin_db.errors import ConfigurationError
from derwin_db.isolation import preamble
from derwin_db.models import RunStats
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase
from derwin_db.transfer import export_project, import_project
from derwin_db.workers import queue
from derwin_db.workers.queue import CHANNEL, ListedQueue, SealedQueue, queue_of
from tests.deploy.conftest import settings_of
from tests.isolation.fences import make_plain
from tests.workers.conftest import Done, Projects, enqueue, statuses

NOBODY = UUID(int=0)

NOTED = "SELECT project, run, is_running, since FROM derwin.open_runs ORDER BY 1, 2"
OPEN = """
SELECT project_id, id, status = 'RUNNING', coalesce(heartbeat_at, created_at) FROM public.qa_runs
WHERE status IN ('QUEUED', 'RUNNING') ORDER BY 1, 2
"""


async def assert_same(owner: asyncpg.Connection) -> int:
    noted, is_open = await owner.fetch(NOTED), await owner.fetch(OPEN)
    assert [tuple(row) for row in noted] == [tuple(row) for row in is_open]
    return len(noted)


class TestTable:
    async def test_holds_what_is_open_after_every_verb(
        self, db: Database, projects: Projects, owner: asyncpg.Connection
    ) -> None:
        one, other = await projects(2)
        runs = await enqueue(db, one, 6)
        await enqueue(db, other, 2)
        seen = [await assert_same(owner)]
        async with db.project(one) as session:
            for claim in ("a", "b", "c"):
                await repos.qa_runs.claim(session, claim)
        seen.append(await assert_same(owner))
        async with db.project(one) as session:
            await repos.qa_runs.heartbeat(session, runs[0], worker="a")
            await repos.qa_runs.complete(session, runs[0], RunStats(), worker="a")
            await repos.qa_runs.fail(session, runs[1], "no", worker="b")
            await repos.qa_runs.give_back(session, runs[2], worker="c")
            await repos.qa_runs.cancel(session, runs[3])
            await repos.qa_runs.delete(session, runs[4])
        seen.append(await assert_same(owner))
        async with db.project(one) as session:
            await repos.qa_runs.claim(session, "d")
            await repos.qa_runs.requeue_stalled(session, older_than=timedelta(microseconds=1))
        seen.append(await assert_same(owner))
        async with db.admin(reason="a test") as admin:
            await repos.projects.delete(admin, one)
        seen.append(await assert_same(owner))
        assert seen == [8, 8, 4, 4, 2]

    async def test_follows_sql_by_hand_and_forgets_what_is_rolled_back(
        self, db: Database, projects: Projects, owner: asyncpg.Connection
    ) -> None:
        (project,) = await projects(1)
        await enqueue(db, project, 4)
        for statement in (
            "UPDATE public.qa_runs SET id = gen_random_uuid()",
            "UPDATE public.qa_runs SET status = 'RUNNING', heartbeat_at = now() - interval '1 hour'",
            "UPDATE public.qa_runs SET status = 'COMPLETED' WHERE id = (SELECT min(id::text)::uuid FROM public.qa_runs)",
            "DELETE FROM qa_runs WHERE id = (SELECT max(id::text)::uuid FROM qa_runs WHERE status = 'RUNNING')",
            "UPDATE public.qa_runs SET status = 'QUEUED', heartbeat_at = NULL, claimed_by = NULL WHERE status = 'RUNNING'",
            "UPDATE public.qa_runs SET created_at = now() - interval '1 year'",
        ):
            async with db.project(project) as session:
                await session.sql.execute(sa.text(statement))
            await assert_same(owner)
        with pytest.raises(ZeroDivisionError):
            async with db.project(project) as session:
                await session.sql.execute(sa.text("UPDATE public.qa_runs SET status = 'CANCELLED' WHERE status = 'QUEUED'"))
                raise ZeroDivisionError
        assert await assert_same(owner) == 2

    async def test_has_what_an_import_brings(
        self, db: Database, projects: Projects, owner: asyncpg.Connection, tmp_path: Any
    ) -> None:
        (project,) = await projects(1)
        await enqueue(db, project, 2)
        path = tmp_path / "export"
        with path.open("wb") as file:
            await export_project(db, project, file)
        async with db.admin(reason="a test") as admin:
            await repos.projects.delete(admin, project)
        assert await assert_same(owner) == 0
        with path.open("rb") as file:
            await import_project(db, file)
        assert await assert_same(owner) == 2

    async def test_is_filled_with_what_was_open_before_the_revision(
        self, own_database: TestDatabase, db: Database, projects: Projects, owner: asyncpg.Connection
    ) -> None:
        one, other = await projects(2)
        await enqueue(db, one, 3)
        await enqueue(db, other, 1)
        async with db.project(one) as session:
            await repos.qa_runs.claim(session, "w")
        settings = settings_of(own_database.owner)
        await asyncio.to_thread(downgrade, settings, "f3c9a1e07b52")
        await asyncio.to_thread(upgrade, settings)
        assert await assert_same(owner) == 4


class TestCircle:
    async def ask(self, db: Database, last: UUID, most: int = 10, at_once: int | None = None) -> list[UUID]:
        return list(await SealedQueue(db).waiting(last, most, at_once))

    async def test_goes_round_from_the_last_one(self, db: Database, projects: Projects) -> None:
        ids = await projects(5)
        for project in ids[:4]:
            await enqueue(db, project, 2)
        assert await self.ask(db, NOBODY) == ids[:4]
        assert await self.ask(db, ids[1]) == [ids[2], ids[3], ids[0], ids[1]]
        assert await self.ask(db, ids[4]) == ids[:4]
        assert await self.ask(db, ids[2], 2) == [ids[3], ids[0]]
        assert await self.ask(db, UUID(int=2**128 - 1)) == ids[:4]
        assert await self.ask(db, NOBODY, 0) == []

    async def test_leaves_out_who_runs_as_many_as_it_may(self, db: Database, projects: Projects) -> None:
        ids = await projects(2)
        for project in ids:
            await enqueue(db, project, 3)
        async with db.project(ids[0]) as session:
            await repos.qa_runs.claim(session, "a")
        assert await self.ask(db, NOBODY, at_once=1) == [ids[1]]
        assert await self.ask(db, NOBODY, at_once=2) == ids

    async def test_is_empty_where_nothing_waits(self, db: Database, projects: Projects) -> None:
        await projects(2)
        assert await self.ask(db, NOBODY) == []

    async def test_names_who_has_stalled_runs(self, db: Database, projects: Projects) -> None:
        ids = await projects(3)
        for project, age in zip(ids, ("10 seconds", "2 minutes", "3 minutes"), strict=True):
            await enqueue(db, project, 2)
            async with db.project(project) as session:
                await repos.qa_runs.claim(session, "w")
                await session.sql.execute(
                    sa.text(f"UPDATE public.qa_runs SET heartbeat_at = now() - interval '{age}' WHERE status = 'RUNNING'")
                )
        assert list(await SealedQueue(db).stalled(timedelta(minutes=1))) == ids[1:]
        assert list(await SealedQueue(db).stalled(timedelta(minutes=5))) == []

    async def test_survives_a_clock_that_was_set(
        self, db: Database, projects: Projects, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A token that came too late costs its connection, which saw another time, and the next look goes through."""
        (project,) = await projects(1)
        await enqueue(db, project)
        with monkeypatch.context() as patch, pytest.raises(Exception, match="too late"):
            patch.setattr(preamble, "_server_time", lambda _connection: 1_000_000)
            await self.ask(db, NOBODY)
        assert await self.ask(db, NOBODY) == [project]
        assert db.connections_in_use() == 0

    async def test_is_asked_with_the_new_key_after_a_rotation(
        self, db: Database, projects: Projects, owner: asyncpg.Connection
    ) -> None:
        (project,) = await projects(1)
        await enqueue(db, project)
        assert await self.ask(db, NOBODY) == [project]
        await owner.execute("SELECT derwin.rotate_scope_key()")  # the former one ends at once
        assert await self.ask(db, NOBODY) == [project]


class TestMessage:
    async def test_is_sent_by_the_commit_that_queues_and_by_no_other(
        self, db: Database, projects: Projects, own_database: TestDatabase
    ) -> None:
        (project,) = await projects(1)
        heard: asyncio.Queue[str] = asyncio.Queue()
        listener: Any = await connect_steadily(own_database.service)
        try:
            await listener.add_listener(CHANNEL, lambda *said: heard.put_nowait(said[3]))
            (run,) = await enqueue(db, project)
            async with asyncio.timeout(10):
                assert await heard.get() == ""
            async with db.project(project) as session:
                await repos.qa_runs.claim(session, "w")
                await repos.qa_runs.heartbeat(session, run, worker="w")
            with pytest.raises(ZeroDivisionError):
                async with db.project(project) as session:
                    await repos.qa_runs.give_back(session, run, worker="w")
                    raise ZeroDivisionError
            async with db.project(project) as session:
                await repos.qa_runs.give_back(session, run, worker="w")
            async with asyncio.timeout(10):
                assert await heard.get() == ""
            await listener.execute("SELECT 1")
            assert heard.empty()
        finally:
            await listener.close()


class TestList:
    """Where each project is tried in turn."""

    @pytest.fixture
    def listed(self, monkeypatch: pytest.MonkeyPatch) -> tuple[ListedQueue, list[float], list[float]]:
        """A queue of three projects, the time that it is, and when they were listed."""
        now, reads = [1000.0], list[float]()

        async def all_projects(_db: Any, *, reason: str) -> list[UUID]:
            assert reason
            reads.append(now[-1])
            return [UUID(int=3), UUID(int=1), UUID(int=2)]

        monkeypatch.setattr(queue, "all_projects", all_projects)
        monkeypatch.setattr(queue, "time", SimpleNamespace(monotonic=lambda: now[-1]))
        nothing: Any = None
        return ListedQueue(nothing), now, reads

    async def test_goes_round_from_the_last_one(self, listed: Any) -> None:
        one, two, three = (UUID(int=number) for number in (1, 2, 3))
        for last, most, expected in (
            (NOBODY, 10, [one, two, three]), (one, 10, [two, three, one]), (three, 2, [one, two]), (two, 0, []),
        ):  # fmt: skip
            assert await listed[0].waiting(last, most, None) == expected
        assert await listed[0].stalled(timedelta(minutes=1)) == [one, two, three]

    async def test_is_read_again_when_it_is_old(self, listed: Any) -> None:
        asked, now, reads = listed
        for age in (0, queue._LIST_SECONDS - 1, queue._LIST_SECONDS + 1, queue._LIST_SECONDS + 2):
            now.append(1000.0 + age)
            await asked.waiting(NOBODY, 1, None)
        assert reads == [1000.0, 1000.0 + queue._LIST_SECONDS + 1]


class TestPlainScope:
    async def test_is_served_through_the_admin_door(
        self, own_database: TestDatabase, owner: asyncpg.Connection, projects: Projects, db: Database, done: Done
    ) -> None:
        """As on Citus: nothing but the admin door looks over all projects, and each project is tried in turn."""
        ids = await projects(3)
        for project in ids[:2]:
            await enqueue(db, project, 2)
        await db.close()
        await make_plain(owner)
        await owner.execute("DROP TRIGGER derwin_note_open_run ON public.qa_runs")
        async with Database(**own_database.urls, settings=Settings(_env_file=None)) as plain:
            assert isinstance(await queue_of(plain), ListedQueue)
            with pytest.raises(ConfigurationError, match="asked through the admin door"):
                await SealedQueue(plain).waiting(ids[0], 1, None)
            async with plain.worker("w", done, poll_seconds=0.1, at_once_per_project=1):
                await done.until(4)
                await enqueue(plain, ids[2])
                await done.until(5)
            assert [len(await statuses(plain, project)) for project in ids] == [2, 2, 1]
            assert sorted(done.projects[:2]) == ids[:2]
