"""`derwin-db runs`, `spend`, `hold` and `release`, as text and as JSON."""

import asyncio
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from derwin_db import Database, repos
from derwin_db.cli import holding, spend
from derwin_db.errors import DatabaseTimeout
from derwin_db.models import ArtifactKind, Project
from derwin_db.testing.factories import create_artifact, create_run, create_spend, create_ticket
from tests.cli.conftest import Json, Operate
from tests.conftest import NewProject

WHY = ("--reason", "INC-7")


class TestRuns:
    async def test_are_listed(self, operate: Operate, shown: Json, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            for _ in range(3):
                await create_run(session)
            claimed = await repos.qa_runs.claim(session, "worker-1")
            assert claimed is not None
            await repos.qa_runs.fail(session, claimed.id, "e" * 200, worker="worker-1")
        found = await asyncio.to_thread(shown, "runs", "list", project.slug, "--status", "failed", "--status", "RUNNING")
        assert [(row["id"], row["error"]) for row in found["runs"]] == [(str(claimed.id), "e" * 200)]
        listed = (await asyncio.to_thread(operate, "runs", "list", project.slug, "--limit", "2")).stdout.splitlines()
        assert (len(listed), listed[0].split()[:2], listed[1].split()[1]) == (5, ["ID", "STATUS"], "QUEUED")
        rest = (await asyncio.to_thread(operate, "runs", "list", project.slug, *listed[-1].split()[-2:])).stdout
        assert "e" * 59 + "…" in rest

    async def test_that_stalled_are_queued_again(self, shown: Json, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            run = await create_run(session)
            await repos.qa_runs.claim(session, "worker-1")
            await session.sql.execute(text("UPDATE qa_runs SET heartbeat_at = now() - interval '30 minutes'"))
        requeue = ("runs", "requeue", project.slug)
        assert await asyncio.to_thread(shown, *requeue, "--older-than", "1h") == {"requeued": 0}
        assert await asyncio.to_thread(shown, *requeue, "--older-than", "15m") == {"requeued": 1}
        async with db.project(project.id) as session:
            assert (await repos.qa_runs.get(session, run.id)).status == "QUEUED"

    def test_since_a_day_or_a_time(self, shown: Json, project: Project) -> None:
        for since in ("2026-11-01", "2026-11-01T08:00Z", "2026-11-01T08:00:00+02:00"):
            assert shown("runs", "list", project.slug, "--since", since)["runs"] == []

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (["list", "nobody"], 1, "project_not_found"),
            (["requeue", "nobody"], 1, "project_not_found"),
            (["requeue", "No Slug"], 1, "scope_error"),
            (["list", "p-1", "--since", "2026-11-01T08:00"], 2, "with its offset"),
            (["list", "p-1", "--since", "yesterday"], 2, "with its offset"),
            (["list", "p-1", "--limit", "501"], 2, "1<=x<=500"),
            (["list", "p-1", "--cursor", "x"], 1, "invalid_cursor"),
            (["requeue", "p-1", "--older-than", "10"], 2, "with its unit"),
            (["requeue", "p-1", "--older-than", "-5m"], 2, "with its unit"),
            (["requeue", "p-1", "--older-than", "999999999d"], 1, "invalid_input: older_than"),
        ],
    )
    def test_what_is_wrong_is_named(self, operate: Operate, arguments: list[str], code: int, words: str) -> None:
        result = operate("runs", *arguments)
        assert (result.exit_code, words in result.stderr) == (code, True), result.output


class TestSpend:
    @pytest.fixture
    async def spent(self, db: Database, project: Project) -> Project:
        entries = [
            ("10.5", "ANTHROPIC", "sonnet", datetime(2026, 11, 1, 23, tzinfo=UTC)),
            ("1", "EMBEDDING", "small", datetime(2026, 11, 2, 1, tzinfo=UTC)),
            ("1234", "COMPUTE", None, datetime(2026, 11, 2, 2, tzinfo=UTC)),
        ]
        async with db.project(project.id) as session:
            for amount, source, model, at in entries:
                await create_spend(session, amount_usd=Decimal(amount), source=source, model=model, occurred_at=at)
        return project

    def test_of_a_project_by_model(self, operate: Operate, shown: Json, spent: Project) -> None:
        value = shown("spend", spent.slug)
        assert [tuple(row.values()) for row in value["sums"]] == [
            (None, "1234.000000"), ("sonnet", "10.500000"), ("small", "1.000000"),
        ]  # fmt: skip
        assert (value["by"], value["total_usd"]) == ("model", "1245.500000")
        last = operate("spend", spent.slug).stdout.splitlines()[-1]
        assert last.split() == ["total", "1,245.500000"]

    def test_by_day_within_bounds(self, shown: Json, spent: Project) -> None:
        sums = shown("spend", spent.slug, "--by", "day", "--since", "2026-11-01", "--until", "2026-11-02T02:00Z")["sums"]
        assert [tuple(row.values()) for row in sums] == [("2026-11-01", "10.500000"), ("2026-11-02", "1.000000")]

    def test_by_day_comes_day_after_day(self, shown: Json, spent: Project) -> None:
        assert [row["usd"] for row in shown("spend", spent.slug, "--by", "day")["sums"]] == ["10.500000", "1235.000000"]

    @pytest.fixture
    async def spent_long_ago(self, db: Database, new_project: NewProject) -> datetime:
        """A day on which two projects spent something, and no other test does."""
        day = datetime(2001, 2, 3, tzinfo=UTC)
        one, two = await new_project(), await new_project()
        for project, amount, source in ((one, 4, "ANTHROPIC"), (two, 1, "ANTHROPIC"), (two, 2, "COMPUTE")):
            async with db.project(project.id) as session:
                await create_spend(session, amount_usd=Decimal(amount), source=source, occurred_at=day)
        return day

    def test_of_all_projects(self, operate: Operate, shown: Json, spent: Project, spent_long_ago: datetime) -> None:
        sums = {row["project"]: row["usd"] for row in shown("spend", *WHY)["sums"]}
        assert sums[spent.slug] == "1245.500000"
        within = ("--since", spent_long_ago.isoformat(), "--until", (spent_long_ago + timedelta(days=1)).isoformat())
        parted = shown("spend", "--by", "source", *within, *WHY)
        assert parted["total_usd"] == "7.000000"
        assert parted["sums"] == [{"source": "ANTHROPIC", "usd": "5.000000"}, {"source": "COMPUTE", "usd": "2.000000"}]
        logged = operate("spend", *WHY).stderr
        assert "admin door: INC-7 (committed" in logged

    async def test_of_all_projects_that_are_still_there(
        self, operate: Operate, shown: Json, spent: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that is erased between the look at all of them and its turn has nothing to add."""
        reasons = []

        async def listed(db: Database, *, reason: str) -> list[UUID]:
            reasons.append(reason)
            return [uuid4(), spent.id]

        monkeypatch.setattr(spend, "all_projects", listed)
        parted = await asyncio.to_thread(shown, "spend", "--by", "source", *WHY)
        assert (parted["total_usd"], reasons) == ("1245.500000", ["INC-7"])

    def test_of_nothing(self, operate: Operate, project: Project) -> None:
        assert operate("spend", project.slug).stdout == "Nothing was spent.\n"

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            ([], 1, "say --reason"),
            (["--by", "model"], 1, "say --reason"),
            (["nobody"], 1, "project_not_found"),
            (["p-1", "--by", "project"], 2, "leave the project out"),
            (["p-1", "--by", "kind"], 2, "'kind' is not one of"),
            (["p-1", "--until", "2026-13-01"], 2, "with its offset"),
        ],
    )
    def test_what_is_wrong_is_named(self, operate: Operate, arguments: list[str], code: int, words: str) -> None:
        result = operate("spend", *arguments)
        assert (result.exit_code, words in result.stderr) == (code, True), result.output


class TestHolds:
    async def test_of_a_ticket_s_evidence(self, operate: Operate, shown: Json, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            ticket = await create_ticket(session)
            of_it = [(await create_artifact(session, ticket_id=ticket.id)).id for _ in range(2)]
            other = (await create_artifact(session)).id
        hold = ("hold", project.slug, "--ticket", str(ticket.id))
        tried = await asyncio.to_thread(operate, *hold, "--dry-run")
        assert (tried.exit_code, tried.stdout.splitlines()[-1]) == (0, "2 artifacts would be on hold.")
        assert str(of_it[0]) in tried.stdout
        assert await self.held(db, project) == set()
        done = await asyncio.to_thread(operate, *hold, *WHY)
        assert (done.stdout, "hold of 2 artifacts" in done.stderr, "INC-7" in done.stderr) == (
            "2 artifacts are on hold.\n", True, True,
        )  # fmt: skip
        assert await self.held(db, project) == set(of_it)
        assert (await asyncio.to_thread(shown, "hold", project.slug, "--all", *WHY))["artifacts"] == [str(other)]
        released = await asyncio.to_thread(shown, "release", project.slug, str(other), str(of_it[0]), *WHY)
        assert set(released["artifacts"]) == {str(other), str(of_it[0])}
        assert await self.held(db, project) == {of_it[1]}

    async def test_of_a_kind(self, shown: Json, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            video = await create_artifact(session, kind=ArtifactKind.VIDEO)
            await create_artifact(session, kind=ArtifactKind.LOG)
        held = await asyncio.to_thread(shown, "hold", project.slug, "--kind", "video", *WHY)
        assert held == {"dry_run": False, "artifacts": [str(video.id)]}

    async def test_says_how_far_it_is(
        self, operate: Operate, db: Database, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with db.project(project.id) as session:
            for _ in range(3):
                await create_artifact(session)
        told: list[Any] = []
        monkeypatch.setattr(holding, "_BATCH", 2)
        monkeypatch.setattr(holding, "progress", lambda *_, **__: nullcontext(lambda *how_far: told.append(how_far)))
        await asyncio.to_thread(operate, "hold", project.slug, "--all", *WHY)
        assert told == [("artifacts", 2, 3), ("artifacts", 3, 3)]

    async def test_one_id_that_is_none_changes_nothing(self, operate: Operate, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            one = await create_artifact(session)
        nobody = str(uuid4())
        result = await asyncio.to_thread(operate, "hold", project.slug, str(one.id), nobody, *WHY)
        assert (result.exit_code, f"not_found: No artifact {nobody}" in result.stderr) == (1, True)
        assert await self.held(db, project) == set()

    async def test_keeps_the_project_from_being_erased(self, operate: Operate, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            await create_artifact(session)
        await asyncio.to_thread(operate, "hold", project.slug, "--all", *WHY)
        erased = await asyncio.to_thread(operate, "erase", project.slug, "--yes", "--despite-retention")
        assert (erased.exit_code, "under legal hold" in erased.stderr) == (1, True)

    async def test_what_is_pruned_meanwhile_is_no_error(self, db: Database, project: Project, monkeypatch, operate) -> None:
        async with db.project(project.id) as session:
            first, second = [(await create_artifact(session)).id for _ in range(2)]
        real = repos.audit_artifacts._set_hold

        async def pruned(session, id, *, is_held):
            return await real(session, uuid4() if id == first else id, is_held=is_held)

        monkeypatch.setattr(type(repos.audit_artifacts), "_set_hold", staticmethod(pruned))
        result = await asyncio.to_thread(operate, "hold", project.slug, "--all", *WHY)
        assert (result.exit_code, result.stdout) == (0, "1 artifacts are on hold.\n")
        assert "hold of 1 artifacts" in result.stderr
        monkeypatch.undo()
        assert await self.held(db, project) == {second}

    @pytest.mark.parametrize("command", ["hold", "release"])
    async def test_each_batch_is_logged_when_it_is_done(
        self, db: Database, project: Project, operate: Operate, monkeypatch: pytest.MonkeyPatch, command: str
    ) -> None:
        """Whatever ends the command in its midst, the log says what was done before."""
        async with db.project(project.id) as session:
            ids = [(await create_artifact(session)).id for _ in range(5)]
            for one in ids[: 5 * (command == "release")]:
                await repos.audit_artifacts.hold(session, one)
        monkeypatch.setattr(holding, "_BATCH", 2)
        real, seen = repos.audit_artifacts._set_hold, []

        async def failing(session, id, *, is_held):
            seen.append(id)
            if len(seen) == 5:
                raise DatabaseTimeout
            return await real(session, id, is_held=is_held)

        monkeypatch.setattr(type(repos.audit_artifacts), "_set_hold", staticmethod(failing))
        result = await asyncio.to_thread(operate, command, project.slug, "--all", *WHY)
        logged = [line for line in result.stderr.splitlines() if "INC-7" in line]
        assert (result.exit_code, len(logged)) == (4, 2), result.stderr
        assert all(f"{command} of 2 artifacts of {project.slug}: INC-7" in line for line in logged)
        monkeypatch.undo()
        assert await self.held(db, project) == set(seen[:4] if command == "hold" else seen[4:])

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (["p-1", "--all"], 1, "say --reason"),
            (["p-1", *WHY], 2, "Say which evidence"),
            (["p-1", "--all", "--kind", "LOG", *WHY], 2, "Say which evidence"),
            (["p-1", "not-an-id", *WHY], 2, "is not a valid UUID"),
            (["nobody", "--all", *WHY], 1, "project_not_found"),
            (["No Slug", "--all", *WHY], 1, "scope_error"),
            (["nobody", "--ticket", "00000000-0000-0000-0000-000000000000", *WHY], 1, "project_not_found"),
        ],
    )
    @pytest.mark.parametrize("command", ["hold", "release"])
    def test_what_is_wrong_is_named(self, operate: Operate, command: str, arguments: list[str], code: int, words: str) -> None:
        result = operate(command, *arguments)
        assert (result.exit_code, words in result.stderr) == (code, True), result.output

    @staticmethod
    async def held(db: Database, project: Project) -> set[object]:
        async with db.project(project.id) as session:
            return {row.id async for row in repos.audit_artifacts.stream(session) if row.legal_hold}


def test_lengths_of_time() -> None:
    from derwin_db.cli.arguments import LENGTH

    said = {"90s": timedelta(seconds=90), "15m": timedelta(minutes=15), "2h": timedelta(hours=2), "1d": timedelta(days=1)}
    assert {text: LENGTH.convert(text, None, None) for text in said} == said
