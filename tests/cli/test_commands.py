"""The command line as an operator types it: processes of their own, against a database of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from derwin_db import sql
from derwin_db.cli import main
from derwin_db.deploy.migrations import script_folder
from derwin_db.settings import ConnectionInfo
from derwin_db.testing import TestDatabase, TestServer
from derwin_db.testing.server import url_of
from tests.deploy.conftest import FIRST
from tests.forking import derwin_db, program

ROOT = Path(__file__).parents[2]
PASSWORD = "Kanarienvogel-7"  # must never be printed

Run = Callable[..., subprocess.CompletedProcess[str]]


def run(*arguments: str, environment: dict[str, str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.endswith("_URL") and not key.startswith("DERWIN_")}
    return derwin_db(*arguments, environment={**clean, **environment}, stdin=stdin)


def environment_of(database: TestDatabase) -> dict[str, str]:
    return {
        "DATABASE_URL": url_of(database.service),
        "ADMIN_URL": url_of(database.operator),
        "DIRECT_URL": url_of(database.owner),
    }


@pytest.fixture(scope="module")
def seeded(server: TestServer) -> dict[str, str]:
    environment = environment_of(server.migrated())
    assert run("seed", environment=environment).returncode == 0
    return environment


@pytest.fixture(scope="module")
def demo(server: TestServer) -> tuple[TestDatabase, dict[str, int]]:
    """A database with the demo's history at three times its size, to be copied, and what was said of it."""
    database = server.migrated()
    result = run("seed", "--demo", "--scale", "3", "--json", environment=environment_of(database))
    assert result.returncode == 0, result.stderr
    return database, json.loads(result.stdout)["demo"]


def count(table: str, environment: dict[str, str]) -> int:
    return int(run("psql", "-At", "-c", f"SELECT count(*) FROM {table}", environment=environment).stdout)


class TestFirstMinute:
    def test_status_of_an_empty_database(self, server: TestServer) -> None:
        result = run("status", "--json", environment=environment_of(server.empty()))
        assert result.returncode == 0
        seen = json.loads(result.stdout)
        assert (seen["current"], seen["head"], seen["projects"]) == (None, sql.HEAD_REVISION, 0)
        assert len(seen["pending"]) == len(list((script_folder() / "versions").glob("*.py")))

    def test_seed_before_migrate_says_what_to_do(self, server: TestServer) -> None:
        result = run("seed", environment=environment_of(server.empty()))
        assert result.returncode == 3
        assert "derwin-db migrate" in result.stderr
        assert "Traceback" not in result.stderr

    def test_migrate_then_seed_twice(self, server: TestServer) -> None:
        environment = environment_of(server.empty())
        for options, said in ((["--to", FIRST], f"is at revision {FIRST}."), ([], f"{sql.HEAD_REVISION} (the newest).")):
            assert run("migrate", *options, environment=environment).stdout.rstrip().endswith(said)
        for _ in range(2):
            result = run("seed", environment=environment)
            assert (result.returncode, result.stdout.splitlines()[0]) == (0, "lifeline | ERP | AUTHOR")
        seen = json.loads(run("status", "--json", environment=environment).stdout)
        assert (seen["current"], seen["pending"], seen["projects"]) == (sql.HEAD_REVISION, [], 1)


class TestSeed:
    def test_leaves_one_project_with_profile_policy_and_logs(self, seeded: dict[str, str]) -> None:
        query = (
            "SELECT (SELECT count(*) FROM project_profiles), (SELECT count(*) FROM policies WHERE is_active), "
            "(SELECT count(*) FROM project_mode_logs), (SELECT count(*) FROM profile_evolution_logs)"
        )
        result = run("psql", "-At", "-c", query, environment=seeded)
        assert result.stdout.strip() == "1|1|2|1"

    def test_demo_adds_a_history_once(self, server: TestServer, demo: tuple[TestDatabase, dict[str, int]]) -> None:
        environment, added = environment_of(server.clone(demo[0])), demo[1]
        assert count("qa_tickets", environment) == added["tickets"]
        again = run("seed", "--demo", "--scale", "3", "--json", environment=environment)
        assert (again.returncode, json.loads(again.stdout)["demo"]) == (0, added), again.stderr
        assert count("qa_tickets", environment) == added["tickets"]

    def test_demo_scales(self, server: TestServer, demo: tuple[TestDatabase, dict[str, int]]) -> None:
        assert (demo[1]["signals"], count("raw_signals", environment_of(server.clone(demo[0])))) == (1800, 1800)


class TestPsql:
    def test_is_the_owner_and_hands_arguments_on(self, seeded: dict[str, str]) -> None:
        result = run("psql", "-At", "-c", "SELECT slug, type, mode FROM projects", environment=seeded)
        assert (result.returncode, result.stdout.strip()) == (0, "lifeline|ERP|AUTHOR")

    def test_returns_the_exit_code_of_psql(self, seeded: dict[str, str]) -> None:
        assert run("psql", "-c", "SELECT nothing", environment=seeded).returncode == 1


class TestDestructive:
    @pytest.mark.parametrize("command", ["rollback", "reset"])
    def test_asks_and_needs_yes_without_a_terminal(self, seeded: dict[str, str], command: str) -> None:
        result = run(command, environment=seeded)
        assert result.returncode == 1
        assert "--yes" in result.stderr
        assert ConnectionInfo.parse(seeded["DIRECT_URL"]).place in result.stderr

    def test_rollback_and_migrate_again(self, server: TestServer) -> None:
        environment = environment_of(server.migrated())
        result = run("rollback", "--yes", "--json", environment=environment)
        assert (result.returncode, len(json.loads(result.stdout)["pending"])) == (0, 1)
        assert run("migrate", environment=environment).returncode == 0

    def test_reset_leaves_a_new_lifeline(self, server: TestServer, demo: tuple[TestDatabase, dict[str, int]]) -> None:
        environment = environment_of(server.clone(demo[0]))
        assert run("reset", "--yes", environment=environment).returncode == 0
        result = run(
            "psql", "-At", "-c", "SELECT (SELECT count(*) FROM qa_tickets), slug FROM projects", environment=environment
        )
        assert result.stdout.strip() == "0|lifeline"


class TestCron:
    def test_prune(self, seeded: dict[str, str]) -> None:
        assert json.loads(run("prune", "--dry-run", "--json", environment=seeded).stdout) == {"pruned": 0, "remaining": 0}
        assert run("prune", environment=seeded).returncode == 0

    @pytest.mark.parametrize("which", [[], ["--project", "lifeline"]])
    def test_trust_refresh(self, seeded: dict[str, str], which: list[str]) -> None:
        result = run("trust", "refresh", "--json", *which, environment=seeded)
        assert json.loads(result.stdout) == {"projects": 1, "scores": 0, "failed": 0}


class TestRoles:
    def test_create_prints_passwords_once_and_they_work(self, server: TestServer) -> None:
        database = server.migrated()
        suffix = database.owner.database.rpartition("_")[2]
        names = (f"cli_service_{suffix}", f"cli_operator_{suffix}")
        environment = environment_of(database)
        result = run("roles", "create", "--service", names[0], "--operator", names[1], "--json", environment=environment)
        made = json.loads(result.stdout)
        assert (made["service"]["login"], made["operator"]["login"]) == names
        assert all(len(made[who]["password"]) > 20 for who in ("service", "operator"))
        pasted = {**environment, **made["urls"]}  # as they are printed
        assert run("seed", environment=pasted).returncode == 0
        assert ConnectionInfo.parse(made["urls"]["DATABASE_URL"]).user == names[0]

    def test_key_is_what_a_service_without_the_owner_needs(self, server: TestServer) -> None:
        database = server.migrated()
        run("seed", environment=environment_of(database))
        alone = {"DATABASE_URL": url_of(database.service)}
        script = "import asyncio; from derwin_db import Database, repos\nasync def main():\n async with Database() as db:\n  async with db.project('lifeline') as s: print((await repos.projects.current(s)).mode)\nasyncio.run(main())"  # noqa: E501
        key = json.loads(run("roles", "key", "--json", environment=environment_of(database)).stdout)
        without = program(script, environment={**os.environ, **alone})
        assert "DERWIN_SCOPE_KEY" in without.stderr
        with_key = program(script, environment={**os.environ, **alone, **key})
        assert with_key.stdout.strip() == "AUTHOR"

    def test_rotate_starts_and_ends_and_drop_removes(self, server: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
        database = server.migrated()
        for name, value in environment_of(database).items():
            monkeypatch.setenv(name, value)

        def told(*arguments: str) -> tuple[int, str]:
            result = CliRunner().invoke(main, ["roles", *arguments])
            return result.exit_code, result.output

        assert told("rotate", "--finish")[0] == 3
        assert told("rotate", "--json") == (0, '{"rotation": "started"}\n')
        assert "--finish" in told("rotate")[1]
        assert told("rotate", "--finish") == (0, "The former key opens nothing any more.\n")
        assert told("rotate", "--now")[0] == 1  # it asks, and there is no terminal
        assert told("rotate", "--now", "--yes", "--json") == (0, '{"rotation": "renewed"}\n')
        assert told("rotate", "--now", "--finish")[0] == 2
        assert told("create", "--service", "cli_leaver", "--operator", "cli_stayer")[0] == 0
        assert told("drop", "cli_leaver") == (0, "cli_leaver is gone.\n")
        assert told("drop", "cli_leaver")[0] == 3
        assert told("drop", "cli_stayer")[0] == 0


class TestErrors:
    @pytest.mark.parametrize(
        ("url", "code", "words"),
        [
            (f"postgresql://u:{PASSWORD}@127.0.0.1:1/d", 4, "No PostgreSQL answers"),
            (f"postgresql://u:{PASSWORD}@x@127.0.0.1/d", 3, "%40"),
            (f"postgresql://u:{PASSWORD}/x@127.0.0.1/d", 3, "%2F"),
            (f"mysql://u:{PASSWORD}@127.0.0.1/d", 3, "postgresql://"),
            (f"postgresql://u:{PASSWORD}@127.0.0.1", 3, "no database"),
            (f"postgresql://u:{PASSWORD}@127.0.0.1:1/d?pgbouncer=true", 3, "transaction pooler"),
            (f"postgresql://u:{PASSWORD}@127.0.0.1:99999/d", 3, "port"),
        ],
    )
    @pytest.mark.parametrize("command", [["migrate"], ["migrate", "--json"]])
    def test_a_url_that_cannot_work_is_one_sentence(self, command: list[str], url: str, code: int, words: str) -> None:
        result = run(*command, environment={"DATABASE_URL": url})
        assert result.returncode == code, result.stderr
        printed = result.stdout + result.stderr
        assert words in printed
        assert "Traceback" not in printed
        assert PASSWORD not in printed

    def test_a_login_that_does_not_exist(self, server: TestServer) -> None:
        url = url_of(server.migrated().owner).replace("postgresql://postgres", f"postgresql://stranger:{PASSWORD}", 1)
        result = run("status", environment={"DATABASE_URL": url})
        assert result.returncode == 3
        assert PASSWORD not in result.stdout + result.stderr

    def test_a_login_that_may_not_become_the_role(self, server: TestServer) -> None:
        database = server.migrated()
        environment = {**environment_of(database), "DATABASE_URL": url_of(database.operator)}
        result = run("seed", environment=environment)
        assert result.returncode == 3
        assert "may not become derwin_app" in result.stderr
        assert "roles create" in result.stderr

    def test_a_database_that_is_behind(self, server: TestServer) -> None:
        environment = environment_of(server.migrated())
        run("rollback", "--yes", environment=environment)
        result = run("seed", environment=environment)
        assert (result.returncode, "Run `derwin-db migrate`" in result.stderr) == (3, True)
        assert json.loads(run("status", "--json", environment=environment).stdout)["current"] in result.stderr

    def test_a_database_that_is_ahead(self, server: TestServer) -> None:
        environment = environment_of(server.migrated())
        run("psql", "-c", "UPDATE derwin_alembic_version SET version_num = 'ffffffffffff'", environment=environment)
        for command in ("migrate", "seed"):
            assert run(command, environment=environment).returncode == 3

    def test_a_setting_that_is_no_number(self) -> None:
        result = run("status", environment={"DATABASE_URL": "postgresql://u@127.0.0.1:1/d", "DERWIN_POOL_SIZE": PASSWORD})
        assert result.returncode == 3
        assert PASSWORD not in result.stdout + result.stderr
        assert "pool_size" in result.stderr.lower()

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["migrate", "--to", "nonsense"], "no such revision"),
            (["rollback", "--to", "nonsense", "--yes"], "no such revision"),
            (["export", "lifeline", "--output", "/nowhere/lifeline.zst"], "/nowhere/lifeline.zst can't be written"),
            (["export", "lifeline", "--output", "/proc/version"], "can't be written"),
            (["export", "no/such", "--output", "/dev/null"], "scope_error"),
            (["import", "/proc/version"], "invalid_input"),
            (["erase", "nobody", "--yes"], "project_not_found"),
            (["trust", "refresh", "--project", "nobody"], "project_not_found"),
            (["studio", "--host", "999.1.1.1", "--i-know"], "Nothing can listen"),
            (["embedded", "start"], "can't be written"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, list) else None,
    )
    def test_no_command_ends_in_a_traceback(self, seeded: dict[str, str], arguments: list[str], words: str) -> None:
        result = run(*arguments, environment={**seeded, "DERWIN_DATA_DIR": "/proc/derwin"})
        assert result.returncode in (1, 3), result
        assert words in result.stderr
        assert "Traceback" not in result.stderr
        assert len(result.stderr.strip().splitlines()) <= 3

    def test_debug_shows_where_it_happened(self, seeded: dict[str, str]) -> None:
        for arguments in (["--debug", "erase", "nobody", "--yes"], ["erase", "nobody", "--yes", "--debug"]):
            result = run(*arguments, environment=seeded)
            assert result.returncode == 1
            assert "Traceback" in result.stderr

    def test_output_that_nobody_reads_is_no_error(self, seeded: dict[str, str]) -> None:
        command = f"{sys.executable} -c 'from derwin_db.cli import main; main()' erd | head -1"
        result = subprocess.run(
            ["bash", "-c", command], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
        )
        assert result.stderr == ""

    def test_an_unknown_command_is_wrong_usage(self) -> None:
        assert run("nothing", environment={}).returncode == 2

    def test_help_lists_every_command_without_loading_it(self) -> None:
        result = run("--help", environment={})
        assert all(name in result.stdout for name in ("migrate", "seed", "doctor", "psql", "embedded"))


class TestWhereTheUrlsComeFrom:
    def test_doctor_says_so(self, seeded: dict[str, str]) -> None:
        report = json.loads(run("doctor", "--json", environment=seeded).stdout)
        detail = next(check["detail"] for check in report["checks"] if check["name"] == "urls")
        assert detail == "from the environment: ADMIN_URL, DATABASE_URL, DIRECT_URL"
