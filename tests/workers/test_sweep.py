"""Sweeps over all projects: one shape, each project in its own scope, and none that keeps another from its turn."""

import asyncio
import json
import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from derwin_db import Database, ProjectSession, repos
from derwin_db.cli import main
from derwin_db.cli.sweep import sweep as command
from derwin_db.errors import DatabaseTimeout, DatabaseUnavailable, InvalidInput
from derwin_db.models import PruneResult, RunStatus
from derwin_db.repos.audit_artifacts import AuditArtifacts
from derwin_db.repos.classification_trust import ClassificationTrusts
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase
from derwin_db.workers import SweepResult, sweep
from derwin_db.workers.sweep import Visited, visit
from tests.workers.conftest import Projects, enqueue, statuses


async def stall(db: Database, project: UUID, number: int) -> None:
    await enqueue(db, project, number)
    async with db.project(project) as session:
        for _ in range(number):
            await repos.qa_runs.claim(session, "gone")
        await session.sql.execute(sa.text("UPDATE public.qa_runs SET heartbeat_at = now() - interval '2 minutes'"))


class TestStalled:
    async def test_are_queued_again_in_all_projects(self, db: Database, projects: Projects) -> None:
        ids = await projects(3)
        await stall(db, ids[0], 2)
        await stall(db, ids[1], 1)
        seen: list[tuple[str, int, int]] = []
        result = await db.sweep("stalled", progress=lambda *told: seen.append(told))
        assert result == SweepResult(requeued=3)
        assert seen == [("stalled", 1, 2), ("stalled", 2, 2)], "a project without any is not visited"
        assert await statuses(db, ids[0]) == [RunStatus.QUEUED] * 2

    async def test_not_before_their_time(self, db: Database, projects: Projects) -> None:
        (project,) = await projects(1)
        await stall(db, project, 1)
        assert await db.sweep("stalled", stalled_after=timedelta(hours=1)) == SweepResult()
        assert await statuses(db, project) == [RunStatus.RUNNING]

    async def test_need_no_admin_door(self, own_database: TestDatabase, db: Database, projects: Projects) -> None:
        (project,) = await projects(1)
        await stall(db, project, 1)
        key = (await db.app_pool(read_only=False)).preamble.seal
        assert key is not None
        settings = Settings(_env_file=None, scope_key=key.current.to_text())
        async with Database(own_database.urls["url"], settings=settings) as alone:
            assert await alone.sweep("stalled") == SweepResult(requeued=1)


class TestAll:
    async def test_is_what_is_done_where_nothing_is_named(self, db: Database, projects: Projects) -> None:
        (project,) = await projects(1)
        await stall(db, project, 1)
        assert await db.sweep() == SweepResult(requeued=1)

    async def test_a_project_that_fails_keeps_no_other_from_its_turn(
        self, db: Database, projects: Projects, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        ids = await projects(3)
        refresh, visited = ClassificationTrusts.refresh, []

        async def failing(self: Any, session: ProjectSession, names: Any = None) -> int:
            visited.append(session.project_id)
            if session.project_id == ids[0]:
                raise DatabaseTimeout
            return await refresh(self, session, names)

        monkeypatch.setattr(ClassificationTrusts, "refresh", failing)
        with caplog.at_level(logging.ERROR, "derwin_db.retention"):
            result = await db.sweep("trust")
        assert result.failed == 1
        assert sorted(visited) == ids
        assert str(ids[0]) in caplog.text

    @pytest.mark.parametrize(
        ("sqlstate", "is_theirs_alone"), [("55P03", True), ("40P01", True), ("57P01", False), (None, False)]
    )
    async def test_locks_in_one_project_keep_no_other_from_its_turn_a_server_that_is_away_does(
        self, sqlstate: str | None, *, is_theirs_alone: bool
    ) -> None:
        error, ids, visited = DatabaseUnavailable(), [UUID(int=1), UUID(int=2)], []
        error.sqlstate = sqlstate

        async def work(project: UUID) -> int:
            visited.append(project)
            if project == ids[0]:
                raise error
            return 1

        if is_theirs_alone:
            assert await visit(ids, work, "trust") == Visited(2, 1, [error])
        else:
            with pytest.raises(DatabaseUnavailable):
                await visit(ids, work, "trust")
        assert visited == ids[: 1 + is_theirs_alone]

    async def test_pruning_raises_what_a_project_failed_with_when_all_had_their_turn(
        self, db: Database, projects: Projects, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ids = await projects(3)
        pruned = []

        async def expired(*_: Any) -> dict[UUID, int]:
            return dict.fromkeys(ids, 1)

        async def batch(session: ProjectSession, *_: Any) -> int:
            if session.project_id == ids[0]:
                raise DatabaseTimeout("the first one")
            pruned.append(session.project_id)
            return 0

        monkeypatch.setattr(AuditArtifacts, "expired_by_project", expired)
        monkeypatch.setattr("derwin_db.workers.sweep.prune_batch", batch)
        with pytest.raises(DatabaseTimeout, match="the first one"):
            await db.prune()
        assert pruned == ids[1:]

    async def test_a_project_that_is_deleted_meanwhile_is_left_out(
        self, db: Database, projects: Projects, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ids = await projects(2)
        for project in ids:
            await stall(db, project, 1)
        requeue = type(repos.qa_runs).requeue_stalled

        async def deleting(self: Any, session: ProjectSession, *, older_than: timedelta) -> int:
            if session.project_id == ids[0]:
                async with db.admin(reason="a test") as admin:
                    await repos.projects.delete(admin, ids[1])
            return await requeue(self, session, older_than=older_than)

        monkeypatch.setattr(type(repos.qa_runs), "requeue_stalled", deleting)
        assert await db.sweep("stalled") == SweepResult(requeued=1)

    async def test_what_is_no_length_is_refused_before_any_project_is_visited(self, db: Database) -> None:
        lengths: list[Any] = [timedelta(0), timedelta(-1), timedelta.max, 60]
        for length in lengths:
            with pytest.raises(InvalidInput, match="stalled_after"):
                await db.sweep("stalled", stalled_after=length)

    async def test_what_each_sweep_did_and_where_it_failed_is_told_together(
        self, db: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        error = DatabaseTimeout()
        requeued, refreshed = Visited(4, 5, [error]), Visited(4, 13, [error] * 4)

        def answers(value: Any) -> Any:
            async def answer(*_: Any, **__: Any) -> Any:
                return value

            return answer

        monkeypatch.setattr(sweep, "requeue", answers(requeued))
        monkeypatch.setattr(sweep, "prune", answers((PruneResult(7, 11), [error] * 2)))
        monkeypatch.setattr(sweep, "refresh_trust", answers(refreshed))
        assert await db.sweep() == SweepResult(requeued=5, pruned=7, remaining=11, scores=13, failed=7)

    @pytest.mark.parametrize("what", ["prune", "", None, ["stalled"]])
    async def test_what_is_no_sweep_is_refused(self, db: Database, what: Any) -> None:
        with pytest.raises(InvalidInput, match="stalled, evidence, trust"):
            await db.sweep(what)


@pytest.fixture
def refreshed(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """The projects whose scores were computed."""
    refresh, visited = ClassificationTrusts.refresh, list[UUID]()

    async def noting(self: Any, session: ProjectSession, names: Any = None) -> int:
        scores = await refresh(self, session, names)
        visited.append(session.project_id)
        return scores

    monkeypatch.setattr(ClassificationTrusts, "refresh", noting)
    return visited


class TestCommand:
    @pytest.fixture
    def urls(self, own_database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATABASE_URL", own_database.urls["url"])
        monkeypatch.setenv("ADMIN_URL", own_database.urls["admin_url"])

    def test_prints_what_was_done(self, urls: None) -> None:
        done = CliRunner().invoke(command, ["--json"])
        assert json.loads(done.output) == {"requeued": 0, "pruned": 0, "remaining": 0, "scores": 0, "failed": 0}
        said = CliRunner().invoke(command, ["stalled", "trust"])
        assert (said.exit_code, said.stdout) == (
            0, "0 stalled runs are in the queue again.\n0 trust scores are up to date.\n"
        )  # fmt: skip
        assert CliRunner().invoke(command, ["everything"]).exit_code == 2

    async def test_takes_a_length_with_its_unit(self, urls: None, db: Database, projects: Projects) -> None:
        (project,) = await projects(1)
        await stall(db, project, 1)
        for length, requeued in (("15m", 0), ("90s", 1)):
            done = await asyncio.to_thread(CliRunner().invoke, command, ["stalled", "--json", "--stalled-after", length])
            assert json.loads(done.output)["requeued"] == requeued, length

        refused = await asyncio.to_thread(CliRunner().invoke, command, ["stalled", "--stalled-after", "0s"])
        assert (refused.exit_code, "invalid_input: stalled_after" in refused.stderr) == (1, True)

    @pytest.mark.parametrize("length", ["inf", "nan", "0", "60", "-1s", "1e3s", "1.5m", "infs", ""])
    def test_refuses_what_is_no_length(self, length: str) -> None:
        done = CliRunner().invoke(command, ["stalled", f"--stalled-after={length}"])
        assert (done.exit_code, "with its unit" in done.stderr) == (2, True), done.output

    @pytest.mark.parametrize("arguments", [["trust", "refresh", "--json"], ["sweep", "trust", "--json"]])
    async def test_goes_on_behind_a_project_that_is_erased_meanwhile(
        self,
        urls: None,
        db: Database,
        projects: Projects,
        refreshed: list[UUID],
        monkeypatch: pytest.MonkeyPatch,
        arguments: list[str],
    ) -> None:
        ids = await projects(3)
        listed = sweep.all_projects

        async def erased_behind_the_list(db: Database, *, reason: str) -> list[UUID]:
            found = await listed(db, reason=reason)
            async with db.admin(reason="a test") as admin:
                await repos.projects.delete(admin, found[0])
            return found

        monkeypatch.setattr(sweep, "all_projects", erased_behind_the_list)
        done = await asyncio.to_thread(CliRunner().invoke, main, arguments)
        assert (done.exit_code, json.loads(done.stdout)["failed"]) == (0, 0), done.output
        assert len(refreshed) == len(ids) - 1

    async def test_says_which_project_failed(
        self, urls: None, db: Database, projects: Projects, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        ids = await projects(2)
        refresh = ClassificationTrusts.refresh

        async def failing(self: Any, session: ProjectSession, names: Any = None) -> int:
            if session.project_id == ids[0]:
                raise DatabaseTimeout
            return await refresh(self, session, names)

        monkeypatch.setattr(ClassificationTrusts, "refresh", failing)
        done = await asyncio.to_thread(CliRunner().invoke, main, ["trust", "refresh"])
        assert (done.exit_code, done.stdout) == (
            1, "0 scores of 1 projects are up to date.\n1 projects failed: their errors are in the log.\n"
        )  # fmt: skip
        assert str(ids[0]) in caplog.text
