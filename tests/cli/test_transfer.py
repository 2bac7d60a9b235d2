"""export, import and erase as an operator types them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from derwin_db import Database
from derwin_db.models import Project
from derwin_db.testing import TestServer
from derwin_db.testing.factories import create_run, create_spend
from derwin_db.transfer import Report
from tests.cli.conftest import Operate

from .test_commands import environment_of, run


class TestTransfer:
    def test_out_erased_and_in_again(self, server: TestServer, tmp_path: Path) -> None:
        environment = environment_of(server.migrated())
        file = tmp_path / "lifeline.jsonl.zst"
        assert run("seed", environment=environment).returncode == 0
        out = json.loads(run("export", "lifeline", "--output", str(file), "--json", environment=environment).stdout)
        assert out["rows"]["project_profiles"] == 1
        assert "--yes" in run("erase", "lifeline", environment=environment).stderr
        erased = json.loads(run("erase", "lifeline", "--yes", "--json", environment=environment).stdout)
        assert (erased["erased"]["project_profiles"], erased["ledger_usd"]) == (1, None)
        assert run("export", "lifeline", "--output", str(file) + ".2", environment=environment).returncode == 1
        assert json.loads(run("import", str(file), "--json", environment=environment).stdout)["rows"] == out["rows"]
        assert run("psql", "-At", "-c", "SELECT slug FROM projects", environment=environment).stdout.strip() == "lifeline"

    def test_a_file_that_is_no_export(self, server: TestServer, tmp_path: Path) -> None:
        file = tmp_path / "thesis.tex"
        file.write_text("mine")
        result = run("import", str(file), environment=environment_of(server.migrated()))
        assert (result.returncode, "no export" in result.stderr) == (1, True)

    def test_that_has_no_name(self, operate: Operate) -> None:
        result = operate("export", "lifeline", "--output", "")
        assert (result.exit_code, "--output wants the name of a file" in result.stderr) == (2, True), result.stderr

    def test_that_comes_by_standard_input(self, operate: Operate) -> None:
        result = operate("import", "-", stdin=b"mine")
        assert (result.exit_code, "no export" in result.stderr) == (1, True), result.stderr


class TestWords:
    """What is said to a person of what went out, what is gone, and what came back."""

    @pytest.mark.parametrize("spends", [False, True])
    async def test_count_what_moved_and_name_what_stays(
        self, operate: Operate, db: Database, project: Project, tmp_path: Path, spends: bool
    ) -> None:
        async with db.project(project.id) as session:
            for _ in range(3):
                await create_run(session)
            if spends:
                await create_spend(session)
        file, slug, rows = tmp_path / "file", project.slug, 4 + spends  # one says with which mode it began
        said = [
            (await asyncio.to_thread(operate, *words)).stdout
            for words in (("export", slug, "--output", str(file)), ("erase", slug, "--yes"), ("import", str(file)))
        ]
        assert said[0] == f"{slug}: {rows} rows in {file}\n"
        lines = said[1].splitlines()
        assert (lines[0], sorted(line.split() for line in lines[1:-1])) == (
            f"Erased {slug}:", [["project_mode_logs", "1"], ["projects", "1"], ["qa_runs", "3"]]
        )  # fmt: skip
        stays = "The ledger stays: 1.000000 US dollars; the slug stays taken with it." if spends else "Nothing stays."
        assert lines[-1] == stays
        kept = "; 1 ledger rows were on the books already" if spends else ""
        assert said[2] == f"{slug}: {rows} rows are back{kept}.\n"

    def test_name_the_tables_that_no_export_reads(
        self, operate: Operate, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def export_project(*_: Any, **__: Any) -> Report:
            return Report(project.slug, project.id, {"qa_runs": 1234}, ["releases", "notes"])

        monkeypatch.setattr("derwin_db.transfer.export_project", export_project)
        said = operate("export", project.slug, "--output", str(tmp_path / "file")).stdout
        assert said == f"{project.slug}: 1,234 rows in {tmp_path}/file. Left out, not fenced: releases, notes\n"
