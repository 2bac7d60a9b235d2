"""`derwin-db projects`: what an operator does with projects, as text and as JSON."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from derwin_db import Database, repos
from derwin_db.cli.asking import confirm_project
from derwin_db.models import Project
from derwin_db.testing import TestDatabase
from derwin_db.testing.factories import create_artifact, create_run, create_spend, create_ticket
from tests.cli.conftest import Json, Operate

WHY = ("--reason", "INC-7")


@pytest.fixture
def slug() -> str:
    return f"p-{uuid4().hex[-20:]}"


class TestCreate:
    def test_with_all_that_can_be_said(self, shown: Json, slug: str, tmp_path: Path) -> None:
        settings = tmp_path / "settings.json"
        settings.write_text('{"ticket_adapter": {"kind": "jira"}}')
        said = ("--name", "Acme", "--type", "crm", "--mode", "author", "--compliance-mode", "hipaa")
        where = ("--repo-url", "https://example.org/acme", "--settings", str(settings))
        made = shown("projects", "create", slug, *said, *where, *WHY)
        assert (made["slug"], made["name"], made["type"], made["mode"]) == (slug, "Acme", "CRM", "AUTHOR")
        assert (made["compliance_mode"], made["repo_url"]) == ("HIPAA", "https://example.org/acme")
        assert made["settings"]["ticket_adapter"]["kind"] == "jira"

    def test_says_so_and_logs_the_reason(self, operate: Operate, slug: str) -> None:
        result = operate("projects", "create", slug, "--type", "ERP", *WHY)
        assert (result.exit_code, result.stdout) == (0, f"{slug} is made.\n")
        assert "admin door: INC-7 (committed" in result.stderr
        assert "projects.create" in result.stderr

    async def test_keeps_the_reason_in_the_log_of_the_mode(self, operate: Operate, slug: str, db: Database) -> None:
        await asyncio.to_thread(operate, "projects", "create", slug, "--type", "ERP", *WHY)
        async with db.project(slug) as session:
            (entry,) = (await repos.project_mode_logs.list(session)).items
        assert entry.reason == "INC-7"

    def test_a_slug_that_is_taken(self, operate: Operate, project: Project) -> None:
        result = operate("projects", "create", project.slug, "--type", "ERP", *WHY)
        assert (result.exit_code, "conflict: A project with this slug exists already" in result.stderr) == (1, True)

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (["No Slug", "--type", "ERP"], 1, "invalid_input: slug"),
            (["p-1"], 2, "Missing option '--type'"),
            (["p-1", "--type", "SHOP"], 2, "'SHOP' is not one of"),
            (["p-1", "--type", "ERP", "--repo-url", "javascript:1"], 1, "invalid_input: repo_url"),
            (["p-1", "--type", "ERP", "--name", ""], 1, "invalid_input: name"),
            (["p-1", "--type", "ERP", "--settings", "/nowhere/settings.json"], 2, "does not exist"),
        ],
    )
    def test_what_is_wrong_is_named(self, operate: Operate, arguments: list[str], code: int, words: str) -> None:
        result = operate("projects", "create", *arguments, *WHY)
        assert (result.exit_code, words in result.stderr) == (code, True), result.output

    @pytest.mark.parametrize("text", ["", "{", "[1]", '{"ticket_adapter": {"kind": 1}}', '{"more": 1}', "[" * 100_000, "\0"])
    def test_settings_that_are_none(self, operate: Operate, slug: str, text: str) -> None:
        result = operate("projects", "create", slug, "--type", "ERP", "--settings", "-", *WHY, stdin=text)
        assert (result.exit_code, "invalid_input: " in result.stderr) == (1, True), result.output


class TestReason:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["list"],
            ["create", "p-1", "--type", "ERP"],
            ["update", "p-1", "--name", "x"],
            ["archive", "p-1", "--yes"],
            ["set-mode", "p-1", "AUTHOR"],
            ["erase", "p-1", "--yes"],
        ],
        ids=lambda arguments: arguments[0],
    )
    def test_is_wanted_where_nobody_can_be_asked(self, operate: Operate, arguments: list[str]) -> None:
        result = operate("projects", *arguments)
        assert (result.exit_code, "say --reason" in result.stderr) == (1, True)
        told = json.loads(operate("projects", *arguments, "--json").stdout)
        assert told["error"]["code"] == "scope_error"

    @pytest.mark.parametrize("reason", ["", "  ", "a\nb", "x" * 501])
    def test_is_a_line_of_text(self, operate: Operate, reason: str) -> None:
        result = operate("projects", "list", "--reason", reason)
        assert (result.exit_code, "1 to 500 characters" in result.stderr) == (1, True)


class TestList:
    def test_shows_a_table_and_the_way_on(self, operate: Operate, project: Project, other_project: Project) -> None:
        result = operate("projects", "list", "--limit", "1", *WHY)
        heading, row, _, further = result.stdout.splitlines()
        assert heading.split() == ["SLUG", "NAME", "TYPE", "MODE", "COMPLIANCE", "MODE", "CREATED", "AT"]
        assert (row.split()[0], further.split()[:3]) == (other_project.slug, ["There", "are", "more:"])
        second = operate("projects", "list", "--limit", "1", *further.split()[-2:], *WHY)
        assert second.stdout.splitlines()[1].split()[0] == project.slug

    def test_filters(self, shown: Json, project: Project) -> None:
        found = shown("projects", "list", "--type", "OTHER", "--mode", "observe", "--limit", "500", *WHY)["projects"]
        assert project.slug in [row["slug"] for row in found]
        assert shown("projects", "list", "--type", "MOBILE", *WHY) == {"projects": [], "next_cursor": None}

    def test_one_cell_keeps_what_a_name_holds(self, operate: Operate, slug: str) -> None:
        operate("projects", "create", slug, "--type", "ERP", "--name", "[red]\x9b31m\u202e日本", *WHY)
        result = operate("projects", "list", "--limit", "1", *WHY)
        assert "[red]\\x9b31m\\u202e日本" in result.stdout

    def test_a_cursor_that_is_none(self, operate: Operate) -> None:
        result = operate("projects", "list", "--cursor", "nonsense", *WHY)
        assert (result.exit_code, "invalid_cursor: " in result.stderr) == (1, True)


class TestShow:
    async def test_tells_what_there_is(self, shown: Json, operate: Operate, project: Project, db: Database) -> None:
        async with db.project(project.id) as session:
            await create_run(session)
            await create_ticket(session)
            await create_artifact(session)
            spend = await create_spend(session)
        value = await asyncio.to_thread(shown, "projects", "show", project.slug)
        assert (value["slug"], value["runs"]["QUEUED"], value["tickets"]["OPEN"], value["artifacts"]) == (project.slug, 1, 1, 1)
        assert value["spent_usd"] == f"{spend.amount_usd}"
        result = await asyncio.to_thread(operate, "projects", "show", str(project.id))
        lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
        assert (lines["slug"], lines["runs"], lines["artifacts"]) == (project.slug, "1 QUEUED", "1")

    @pytest.mark.parametrize(("named", "code"), [("nobody", "project_not_found"), ("No Slug", "scope_error")])
    def test_none_that_is_there(self, operate: Operate, named: str, code: str) -> None:
        result = operate("projects", "show", named)
        assert (result.exit_code, result.stderr.partition(":")[0]) == (1, code)


class TestUpdate:
    def test_changes_what_is_named(self, shown: Json, project: Project) -> None:
        shown("projects", "update", project.slug, "--repo-url", "https://example.org", *WHY)
        changed = shown("projects", "update", project.slug, "--name", "New", "--type", "API", "--no-repo-url", *WHY)
        assert (changed["name"], changed["type"], changed["repo_url"]) == ("New", "API", None)
        assert changed["compliance_mode"] == project.compliance_mode

    @pytest.mark.parametrize("arguments", [[], ["--repo-url", "https://example.org", "--no-repo-url"]])
    def test_wants_one_change_of_each(self, operate: Operate, project: Project, arguments: list[str]) -> None:
        assert operate("projects", "update", project.slug, *arguments, *WHY).exit_code == 2

    def test_none_that_is_there(self, operate: Operate) -> None:
        result = operate("projects", "update", "nobody", "--name", "x", *WHY)
        assert (result.exit_code, "project_not_found" in result.stderr) == (1, True)


class TestSetMode:
    async def test_logs_who_and_why(self, operate: Operate, project: Project, db: Database) -> None:
        result = await asyncio.to_thread(operate, "projects", "set-mode", project.slug, "author", "--actor", "ada", *WHY)
        assert result.stdout == f"{project.slug} is in the mode AUTHOR.\n"
        async with db.project(project.id) as session:
            last = (await repos.project_mode_logs.list(session)).items[0]
        assert (last.to_mode, last.actor, last.reason) == ("AUTHOR", "ada", "INC-7")

    def test_is_done_by_this_user_where_nobody_is_named(self, shown: Json, project: Project) -> None:
        assert shown("projects", "set-mode", project.slug, "AUTHOR", *WHY)["mode"] == "AUTHOR"

    def test_a_mode_that_is_none(self, operate: Operate, project: Project) -> None:
        assert operate("projects", "set-mode", project.slug, "FAST", *WHY).exit_code == 2


class TestArchive:
    def test_leaves_it_out_of_the_list(self, shown: Json, project: Project) -> None:
        assert shown("projects", "archive", project.slug, "--yes", *WHY)["archived_at"]
        assert project.slug not in [row["slug"] for row in shown("projects", "list", "--limit", "500", *WHY)["projects"]]
        assert project.slug in [row["slug"] for row in shown("projects", "list", "--archived", *WHY)["projects"]]

    def test_wants_yes_where_nobody_can_be_asked(self, operate: Operate, shown: Json, project: Project) -> None:
        result = operate("projects", "archive", project.slug, *WHY)
        assert (result.exit_code, "--yes" in result.stderr) == (1, True)
        assert shown("projects", "show", project.slug)["archived_at"] is None


class TestErase:
    def test_reports_what_went(self, shown: Json, operate: Operate, project: Project) -> None:
        gone = shown("projects", "erase", str(project.id), "--yes", *WHY)
        assert (gone["slug"], gone["erased"]["projects"], gone["ledger_usd"]) == (project.slug, 1, None)
        again = operate("projects", "erase", project.slug, "--yes", *WHY)
        assert (again.exit_code, "project_not_found" in again.stderr) == (1, True)

    def test_the_short_name_needs_no_reason(self, operate: Operate, project: Project) -> None:
        result = operate("erase", project.slug, "--yes")
        assert (result.exit_code, f"admin door: erase {project.slug} (committed" in result.stderr) == (0, True)

    async def test_what_must_be_kept_is_kept(self, operate: Operate, project: Project, db: Database) -> None:
        async with db.project(project.id) as session:
            await create_artifact(session)
        result = await asyncio.to_thread(operate, "projects", "erase", project.slug, "--yes", *WHY)
        assert (result.exit_code, "retention_locked" in result.stderr) == (1, True)
        allowed = await asyncio.to_thread(operate, "projects", "erase", project.slug, "--yes", "--despite-retention", *WHY)
        assert allowed.exit_code == 0


class TestAtATerminal:
    def test_reason_and_slug_are_asked_for(
        self, at_terminal: Callable[..., tuple[int, str]], shown: Json, project: Project
    ) -> None:
        code, screen = at_terminal(
            "projects", "archive", str(project.id), answers=[("Reason:", "INC-7"), ("to go on:", project.slug)]
        )
        assert (code, f"{project.slug} is archived." in screen) == (0, True), screen
        assert "admin door: INC-7 (committed" in screen

    def test_another_slug_changes_nothing(
        self, at_terminal: Callable[..., tuple[int, str]], shown: Json, project: Project
    ) -> None:
        code, screen = at_terminal("projects", "erase", project.slug, *WHY, answers=[("to go on:", "lifeline")])
        assert (code, "Nothing was done." in screen) == (1, True), screen
        assert shown("projects", "show", project.slug)["slug"] == project.slug


class TestWhereItWouldHappen:
    """What is asked before something is taken away says where: there the admin door leads."""

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What somebody at a terminal is asked, who answers nothing."""
        texts: list[str] = []

        def prompt(text: str, **_: Any) -> str:
            texts.append(text)
            return ""

        monkeypatch.setattr("click.prompt", prompt)
        monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
        return texts

    def test_is_the_operator_s_database_whatever_the_owner_s_is(
        self, operate: Operate, shown: Json, migrated: TestDatabase, project: Project, asked, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DERWIN_SCOPE_KEY", shown("roles", "key")["DERWIN_SCOPE_KEY"])
        monkeypatch.setenv("DIRECT_URL", "postgresql://owner@elsewhere.example/other")
        with pytest.raises(SystemExit):
            confirm_project("erase", project.slug, yes=False)
        assert asked == [f"erase {project.slug} in {migrated.operator.place}. Type its slug to go on"]

    def test_is_the_owner_s_database_without_an_operator(
        self, operate: Operate, migrated: TestDatabase, project: Project, asked, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("ADMIN_URL")
        with pytest.raises(SystemExit):
            confirm_project("archive", project.slug, yes=False)
        assert asked == [f"archive {project.slug} in {migrated.owner.place}. Type its slug to go on"]


class TestWithoutTheAdminDoor:
    """A machine that has the service's login alone."""

    def test_says_what_is_missing(self, operate: Operate, project: Project, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
        monkeypatch.delenv("ADMIN_URL")
        monkeypatch.delenv("DIRECT_URL")
        keyless = operate("projects", "show", project.slug)
        assert (keyless.exit_code, "DERWIN_SCOPE_KEY" in keyless.stderr) == (3, True)
        monkeypatch.setenv("DERWIN_SCOPE_KEY", key)
        closed = operate("projects", "list", *WHY)
        assert (closed.exit_code, "set ADMIN_URL" in closed.stderr) == (3, True)
        assert operate("projects", "show", project.slug).exit_code == 0

    @pytest.fixture
    def key(self, shown: Json) -> str:
        return str(shown("roles", "key")["DERWIN_SCOPE_KEY"])
