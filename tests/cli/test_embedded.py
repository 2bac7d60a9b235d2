"""The embedded server from the command line: a folder of its own, found by every process, never somebody else's."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from derwin_db.deploy import embedded
from derwin_db.testing.folder import server_folder
from tests.deploy.servers import SMALL

from .test_commands import run

FIRST_STEPS = (["embedded", "status", "--json"], ["migrate"], ["seed"])


@pytest.fixture(scope="module")
def began() -> Iterator[tuple[Path, list[str]]]:
    """A folder with a seeded server in it, and what the first steps said."""
    with server_folder("derwin-test-cli-", room=SMALL) as parent:
        chosen = parent / "data"
        try:
            yield chosen, [run(*words, environment={"DERWIN_DATA_DIR": str(chosen)}).stdout for words in FIRST_STEPS]
        finally:
            embedded.abandon(chosen)


@pytest.fixture
def folder(began: tuple[Path, list[str]]) -> Path:
    return began[0]


class TestEmbedded:
    def test_from_nothing_to_seeded_with_no_url_at_all(self, began: tuple[Path, list[str]]) -> None:
        folder, (status, _, seeded) = began
        environment, before = {"DERWIN_DATA_DIR": str(folder)}, json.loads(status)
        assert (before["created"], before["running"]) == (False, False)
        assert seeded.startswith("lifeline | ERP | AUTHOR\n")
        result = run("psql", "-At", "-c", "SELECT slug, type, mode FROM projects", environment=environment)
        assert result.stdout.strip() == "lifeline|ERP|AUTHOR"

    def test_stops_and_comes_back_with_its_data(self, folder: Path) -> None:
        environment = {"DERWIN_DATA_DIR": str(folder)}
        run("embedded", "start", environment=environment)
        assert json.loads(run("embedded", "stop", "--json", environment=environment).stdout)["running"] is False
        assert "did not run" in run("embedded", "stop", environment=environment).stdout
        assert json.loads(run("status", "--json", environment=environment).stdout)["projects"] == 1

    def test_the_service_runs_as_the_unprivileged_login(self, folder: Path) -> None:
        environment = {"DERWIN_DATA_DIR": str(folder)}
        query = "SELECT rolname, rolsuper, rolinherit, rolcanlogin FROM pg_roles WHERE rolname LIKE 'derwin_%' ORDER BY 1"
        result = run("psql", "-At", "-c", query, environment=environment)
        assert result.stdout.split() == [
            "derwin_admin|f|f|f",
            "derwin_app|f|f|f",
            "derwin_backfill|f|f|f",
            "derwin_operator|f|f|t",
            "derwin_service|f|f|t",
        ]

    def test_a_login_that_is_missing_is_made_again(self, folder: Path) -> None:
        environment, login = {"DERWIN_DATA_DIR": str(folder)}, "derwin_operator"
        run("embedded", "start", environment=environment)
        assert run("psql", "-c", f"DROP OWNED BY {login}; DROP ROLE {login}", environment=environment).returncode == 0
        run("embedded", "start", environment=environment)
        query = f"SELECT rolcanlogin FROM pg_roles WHERE rolname = '{login}'"
        assert run("psql", "-At", "-c", query, environment=environment).stdout.strip() == "t"

    def test_a_folder_with_something_else_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("mine")
        result = run("migrate", environment={"DERWIN_DATA_DIR": str(tmp_path)})
        assert result.returncode == 3
        assert "holds something else" in result.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        result = run("migrate", environment={"DERWIN_DATA_DIR": str(tmp_path / "file" / "data")})
        assert (result.returncode, "can't be written" in result.stderr) == (3, True)

    def test_a_data_folder_of_another_version(self, tmp_path: Path) -> None:
        (tmp_path / "derwin-embedded").touch()
        (tmp_path / "postgres").mkdir()
        (tmp_path / "postgres" / "PG_VERSION").write_text("11\n")
        result = run("migrate", environment={"DERWIN_DATA_DIR": str(tmp_path)})
        assert (result.returncode, "PostgreSQL 11" in result.stderr) == (3, True)
        assert "Traceback" not in result.stderr
