"""The promises of migrations, at length: many starters, one that is killed at each statement, up and down, live traffic."""

import asyncio
import os
import signal
import time
from dataclasses import dataclass, replace
from uuid import UUID

from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.engine import Engine

from derwin_db import Database, repos
from derwin_db.deploy.migrations import MigrationSettings, alembic_config, downgrade, status, upgrade
from derwin_db.models import RAGCorpusCreate
from derwin_db.seed import seed_demo, seed_lifeline
from derwin_db.sql import PROJECT_TABLES
from derwin_db.testing import TestDatabase, TestServer
from tests.deploy.catalog import catalog
from tests.deploy.conftest import run_sql, settings_of
from tests.faults.load import Traffic

FENCED = "b7e24a8c6d10"
"""The last revision that needs no pgvector."""


@dataclass(frozen=True)
class Target:
    """A server, and the revision that it can be brought to."""

    server: TestServer
    revision: str

    def empty(self) -> MigrationSettings:
        """Settings of a new database."""
        return settings_of(self.server.empty().owner)

    def whole(self) -> dict[str, list[str]]:
        """The catalog of a database that was migrated undisturbed."""
        settings = self.empty()
        upgrade(settings, self.revision)
        return catalog(settings.connection)


def start_many(target: Target, *, starters: int, rounds: int) -> dict[str, int]:
    """Let processes migrate one database at once; all succeed, and it is as one alone would have left it."""
    whole = target.whole()
    for _ in range(rounds):
        settings = target.empty()
        processes = [_fork(settings, target.revision) for _ in range(starters)]
        assert {_code(process) for process in processes} == {0}
        assert catalog(settings.connection) == whole
        target.server.drop(_of(settings))
    return {"starters": starters * rounds, "failed": 0}


def kill_at_each_statement(target: Target) -> dict[str, int]:
    """Kill a starter before its first statement, the next before its second, until one gets through."""
    whole, killed = target.whole(), 0
    while True:
        settings = target.empty()
        code = _code(_fork(settings, target.revision, kill_at=killed + 1))
        if code == 0:
            return {"killed": killed, "completed by the next starter": killed}
        assert code == -signal.SIGKILL
        upgrade(settings, target.revision)
        assert status(settings).current == target.revision
        assert catalog(settings.connection) == whole, f"killed at statement {killed + 1}"
        target.server.drop(_of(settings))
        killed += 1


def _fork(settings: MigrationSettings, revision: str, *, kill_at: int = 0) -> int:
    """Begin a migration in a process of its own, which kills itself before that statement. Returns its id."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        left = kill_at

        @event.listens_for(Engine, "before_cursor_execute")
        def count(*_: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        upgrade(settings, revision)
        code = 0
    finally:
        os._exit(code)


def _code(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _of(settings: MigrationSettings) -> TestDatabase:
    return TestDatabase(settings.connection, settings.connection, settings.connection)


def down_and_up(target: Target) -> dict[str, int]:
    """Go up, down and up again by single revisions: the catalog at each is what it was."""
    settings = target.empty()
    script = ScriptDirectory.from_config(alembic_config(settings))
    steps = [step.revision for step in reversed(list(script.iterate_revisions(target.revision, "base")))]
    seen = {}
    for step in steps:
        upgrade(settings, step)
        seen[step] = catalog(settings.connection)
    for step in reversed(steps[:-1]):
        downgrade(settings, step)
        assert catalog(settings.connection) == seen[step], step
    downgrade(settings, "base")
    for step in steps:
        upgrade(settings, step)
        assert catalog(settings.connection) == seen[step], step
    return {"revisions": len(steps), "whose catalog is another after down and up": 0}


def rows_survive(server: TestServer) -> dict[str, int]:
    """Take the demo's rows down to the bytes of before pgvector and up again: every row is what it was."""
    database = server.migrated()
    settings = settings_of(database.owner)

    async def fill() -> None:
        async with Database(**database.urls) as db:
            await seed_lifeline(db)
            await seed_demo(db)

    asyncio.run(fill())
    before = _digests(database)
    downgrade(settings, FENCED)
    upgrade(settings)
    assert _digests(database) == before
    return {"tables": len(before), "rows": sum(count for count, _ in before.values()), "changed": 0}


def _digests(database: TestDatabase) -> dict[str, tuple[int, str]]:
    tables = ("projects", *PROJECT_TABLES)
    queries = {table: f"SELECT count(*), md5(string_agg(t::text, '' ORDER BY t.id)) FROM public.{table} t" for table in tables}
    return {table: tuple(run_sql(database.owner, query)[0]) for table, query in queries.items()}


async def under_traffic(db: Database, database: TestDatabase, project: UUID, *, rounds: int) -> dict[str, float]:
    """Take a revision that rewrites a column down and up while a service reads and writes, that table included."""
    settings = replace(settings_of(database.owner), lock_attempts=100)
    given = {"classification": "ui_bug", "fix_summary": "f", "diff": "d", "embedding": [0.5] * 1536}
    rows = [RAGCorpusCreate(problem=f"{number}", **given) for number in range(500)]
    async with db.project(project) as session:
        await repos.rag_corpus.add_many(session, rows)
    is_on, waits = True, [0.0]

    async def read() -> None:
        while is_on:
            began = time.monotonic()
            async with db.project(project, read_only=True) as session:
                assert await repos.rag_corpus.count(session) == 500
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.005)

    async with Traffic(db, project, writers=4) as traffic:
        readers = [asyncio.create_task(read()) for _ in range(4)]
        for _ in range(rounds):
            await asyncio.to_thread(downgrade, settings, FENCED)
            await asyncio.to_thread(upgrade, settings)
        is_on = False
        await asyncio.gather(*readers)
    await traffic.check()
    assert not traffic.refused
    assert max(waits) < 1, waits
    assert traffic.longest_gap < 1
    return {
        "revisions down and up": rounds,
        "reads": len(waits) - 1,
        "writes": len(traffic.acknowledged),
        "errors": 0,
        "longest read in seconds": round(max(waits), 2),
        "longest pause of writes": round(traffic.longest_gap, 2),
    }
