"""Many starters at once, one that is killed, live traffic, poolers."""

import asyncio
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import asyncpg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from derwin_db.deploy import migrations
from derwin_db.deploy.migrations import MIGRATION_LOCK, MigrationSettings, status, upgrade
from derwin_db.errors import ConfigurationError, DatabaseUnavailable
from derwin_db.settings import ConnectionInfo
from derwin_db.testing.server import url_of
from tests.forking import program

from .catalog import catalog
from .conftest import FENCED, FIRST, INDEXED, At, ServerOf, run_sql, settings_of

STARTER = """
import os, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine

left = int(os.environ["KILL_AT"])

@event.listens_for(Engine, "before_cursor_execute")
def _count(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

from derwin_db.cli import main
main()
"""


def start(databases: Sequence[ConnectionInfo], *arguments: str, kill_at: int = 0) -> list[int]:
    """Services that migrate at their start, at once, each a process of its own, which may be killed at a statement.

    Returns their exit codes; what they complain of is shown where one fails.
    """

    def one(connection: ConnectionInfo) -> int:
        url = url_of(connection)
        environment = {**os.environ, "DIRECT_URL": url, "DATABASE_URL": url, "KILL_AT": str(kill_at)}
        ended = program(STARTER, "migrate", *arguments, environment=environment)
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
        return ended.returncode

    with ThreadPoolExecutor(len(databases)) as threads:
        return list(threads.map(one, databases))


@pytest.fixture
def try_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a migration that did not get a lock try again after a moment, not a second."""
    monkeypatch.setattr(migrations, "random", SimpleNamespace(uniform=lambda *_: 0.02))


@pytest.fixture(scope="module")
def statements(server_of: ServerOf) -> int:
    """How many statements a migration from nothing takes."""
    count = 0

    @event.listens_for(Engine, "before_cursor_execute")
    def one_more(*_: object) -> None:
        nonlocal count
        count += 1

    upgrade(settings_of(server_of("18").empty().owner))
    event.remove(Engine, "before_cursor_execute", one_more)
    return count


class TestStarters:
    @pytest.mark.parametrize("many", [3, pytest.param(8, marks=pytest.mark.long)])
    def test_of_many_at_once_one_migrates_and_all_succeed(self, server_of: ServerOf, many: int) -> None:
        database = server_of("18").empty().owner
        assert start([database] * many) == [0] * many
        assert status(settings_of(database)).pending == []

    def test_of_many_at_once_on_a_database_of_the_first_version(self, at: At) -> None:
        """Each of them may drop the index over all embeddings, before the one that is first migrates."""
        database = at(INDEXED).connection
        run_sql(
            database, "INSERT INTO projects (id, slug, name, type) SELECT gen_random_uuid(), 'old', 'Old', 'ERP' RETURNING id"
        )
        assert start([database] * 3) == [0] * 3
        assert status(settings_of(database)).pending == []

    def test_threads_of_one_process_wait_for_each_other(self, server_of: ServerOf) -> None:
        databases = [server_of("18").empty().owner for _ in range(2)]
        with ThreadPoolExecutor(4) as threads:
            done = list(threads.map(lambda database: upgrade(settings_of(database), FENCED), databases * 2))
        assert [one.current for one in done] == [FENCED] * 4

    @pytest.mark.parametrize("revision", [FENCED, pytest.param("head", marks=pytest.mark.long)])
    def test_databases_of_one_cluster_at_once(self, server_of: ServerOf, revision: str) -> None:
        """Roles are cluster-wide and the lock is per database: creating them is a race that nobody may lose."""
        databases = [server_of("18").empty().owner for _ in range(4)]
        assert start(databases, "--to", revision) == [0] * 4

    @pytest.mark.parametrize(
        "share", [0.3, 0.9, *(pytest.param(share, marks=pytest.mark.long) for share in (0.02, 0.6, 0.8, 0.85, 0.94, 0.97, 1.0))]
    )
    def test_one_killed_at_a_statement_leaves_what_the_next_completes(
        self, server_of: ServerOf, statements: int, share: float
    ) -> None:
        database = server_of("18").empty().owner
        assert start([database], kill_at=max(1, round(statements * share))) == [-signal.SIGKILL]
        settings = settings_of(database)
        assert status(settings).pending != []
        assert upgrade(settings).pending == []
        assert catalog(database) == catalog(server_of("18").migrated().owner)

    def test_waits_for_the_lock_no_longer_than_it_is_told(self, server_of: ServerOf) -> None:
        database = server_of("18").empty().owner

        async def hold_and_try() -> None:
            holder = await asyncpg.connect(**database.connect_arguments())
            await holder.execute(f"SELECT pg_advisory_lock({MIGRATION_LOCK})")
            try:
                with pytest.raises(DatabaseUnavailable, match="Another starter"):
                    await asyncio.to_thread(upgrade, MigrationSettings(database, wait_seconds=0.3))
            finally:
                await holder.close()

        asyncio.run(hold_and_try())


class TestLiveTraffic:
    @pytest.mark.usefixtures("try_again_soon")
    def test_a_revision_that_waits_for_a_lock_holds_up_nobody(self, at: At) -> None:
        """A long reader is in the way: the revision gives up and tries again, and other readers wait a moment at most."""
        database = at(FIRST).connection
        settings = MigrationSettings(database, lock_timeout_ms=200)
        blocks = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid)))"

        async def traffic() -> None:
            reader = await asyncpg.connect(**database.connect_arguments())
            other = await asyncpg.connect(**database.connect_arguments())
            async with reader.transaction():
                await reader.fetch("SELECT count(*) FROM qa_tickets")
                migrating = asyncio.create_task(asyncio.to_thread(upgrade, settings, FENCED))
                for _ in range(3):
                    async with asyncio.timeout(10):
                        while not await other.fetchval(blocks, reader.get_server_pid()):
                            await asyncio.sleep(0.002)
                        await other.fetch("SELECT count(*) FROM qa_tickets")
                assert not migrating.done()
            assert (await migrating).current == FENCED
            await reader.close()
            await other.close()

        asyncio.run(traffic())

    @pytest.mark.usefixtures("try_again_soon")
    def test_gives_up_with_a_sentence(self, at: At) -> None:
        database = at(FIRST).connection
        settings = MigrationSettings(database, lock_timeout_ms=50, lock_attempts=2)

        async def hold() -> None:
            reader = await asyncpg.connect(**database.connect_arguments())
            async with reader.transaction():
                await reader.fetch("SELECT count(*) FROM qa_tickets")
                with pytest.raises(DatabaseUnavailable, match="less traffic"):
                    await asyncio.to_thread(upgrade, settings)
            await reader.close()

        asyncio.run(hold())


class TestPooler:
    def test_a_url_that_names_one_is_refused(self, server_of: ServerOf) -> None:
        url = url_of(server_of("18").empty().owner)
        pooled = ConnectionInfo.parse(f"{url}&pgbouncer=true" if "?" in url else f"{url}?pgbouncer=true")
        with pytest.raises(ConfigurationError, match="transaction pooler"):
            upgrade(settings_of(pooled))
        assert run_sql(pooled, "SELECT to_regclass('public.derwin_alembic_version')")[0][0] is None
