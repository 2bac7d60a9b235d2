"""export, import and erase as an operator types them."""

import json
from pathlib import Path

from derwin_db.testing import TestServer

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
