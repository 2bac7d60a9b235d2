"""What an administrator types, in this process: from `distribute` to `sweep`."""

import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import asyncpg
import click
import pytest

from derwin_db import Database, doctor, repos
from derwin_db.cli import studio
from derwin_db.cli.doctor import metrics_of
from derwin_db.cli.studio import _has_data
from derwin_db.connection.driver import Connection
from derwin_db.connection.schema import Standing
from derwin_db.deploy import embedded
from derwin_db.deploy.citus import Distribution
from derwin_db.deploy.embedded import Logins, Status
from derwin_db.deploy.migrations import MigrationStatus
from derwin_db.doctor import Check, Mended, Report
from derwin_db.settings import ConnectionInfo
from derwin_db.studio.door import LOOPBACK
from derwin_db.testing import TestDatabase
from derwin_db.testing.factories import create_spend, project
from derwin_db.testing.server import url_of
from derwin_db.workers.sweep import SweepResult
from tests.cli.conftest import Json, Operate


@pytest.fixture
def operate_own(operate: Operate, own_database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Operate:
    """Runs a command on a database of the test's own."""
    monkeypatch.setenv("DATABASE_URL", url_of(own_database.service))
    monkeypatch.setenv("ADMIN_URL", url_of(own_database.operator))
    monkeypatch.setenv("DIRECT_URL", url_of(own_database.owner))
    return operate


async def write_nothing(_: Database, **__: object) -> None:
    """Stand for the demo, which takes seconds."""


class TestDistribute:
    def test_without_citus_says_what_to_do(self, operate: Operate) -> None:
        result = operate("distribute", "--yes")
        assert (result.exit_code, "This server has no Citus" in result.stderr) == (3, True)

    def test_of_a_server_that_is_not_there(self, operate: Operate, monkeypatch: pytest.MonkeyPatch) -> None:
        async def let_through(_: object) -> None:
            """What looks for a pooler would meet the same."""

        monkeypatch.setattr("derwin_db.cli.distribute.refuse_transaction_pooler", let_through)
        monkeypatch.setenv("DIRECT_URL", "postgresql://u:Kanarienvogel-7@127.0.0.1:1/d")
        result = operate("distribute", "--yes")
        assert (result.exit_code, "No PostgreSQL answers" in result.stderr) == (4, True)
        assert "Kanarienvogel" not in result.output

    def test_says_how_many_tables_it_distributed(self, operate: Operate, shown: Json, monkeypatch: pytest.MonkeyPatch) -> None:
        async def distribute(connection: Connection, *, progress: Any) -> Distribution:
            progress(await connection.fetchval("SELECT 'projects'"), 1, 1)
            return Distribution(["qa_runs", "qa_tickets"], ["projects"])

        monkeypatch.setattr("derwin_db.cli.distribute.distribute_tables", distribute)
        assert operate("distribute", "--yes").stdout == "Tables distributed: 2; distributed before: 1.\n"
        assert shown("distribute", "--yes") == {"distributed": ["qa_runs", "qa_tickets"], "before": ["projects"]}

    def test_what_the_server_refuses_is_a_sentence(self, operate: Operate, monkeypatch: pytest.MonkeyPatch) -> None:
        async def distribute(connection: Connection, **_: object) -> None:
            await connection.execute("SET LOCAL statement_timeout = 'Kanarienvogel'")

        monkeypatch.setattr("derwin_db.cli.distribute.distribute_tables", distribute)
        result = operate("distribute", "--yes")
        assert (result.exit_code, result.stderr.partition(":")[0]) == (1, "invalid_input")
        assert "Kanarienvogel" not in result.output


class TestDoctor:
    WRONG = Report(
        ok=False,
        checks=(
            Check("server", ok=True, detail="PostgreSQL 18"),
            Check("policies", ok=False, detail="off", fix="make them"),
            Check("views", ok=False, detail="open", fix="ALTER VIEW"),
            Check("schema", ok=False, detail="ahead"),
        ),
    )
    MENDED = (Mended("policies", ("one", "other")), Mended("triggers", (), "a lock"))

    @pytest.fixture
    def examined(self, monkeypatch: pytest.MonkeyPatch) -> list[Report]:
        """The reports of the examinations to come; the last of them stays."""
        reports = [self.WRONG]

        async def examine() -> Report:
            return reports.pop(0) if len(reports) > 1 else reports[0]

        async def mend(_: Report) -> list[Mended]:
            return list(self.MENDED)

        monkeypatch.setattr(doctor, "examine", examine)
        monkeypatch.setattr(doctor, "mend", mend)
        return reports

    def test_says_what_is_wrong_and_what_mends_it(self, operate: Operate, shown: Json, examined: list[Report]) -> None:
        result = operate("doctor")
        assert (result.exit_code, result.stdout.splitlines()) == (
            1,
            [
                "ok    server: PostgreSQL 18",
                "FAIL  policies: off",
                "      mend: `derwin-db doctor --fix`, or by hand: make them",
                "FAIL  views: open",
                "      mend: ALTER VIEW",
                "FAIL  schema: ahead",
                "Something has to be mended.",
            ],
        )
        assert "mended" not in json.loads(operate("doctor", "--json").stdout)

    def test_says_what_it_mended_and_what_not(self, operate: Operate, examined: list[Report]) -> None:
        result = operate("doctor", "--fix")
        assert (result.exit_code, result.stdout.splitlines()[:5]) == (
            1,
            [
                "mended  policies: one; other",
                "not mended  triggers: a lock",
                "ok    server: PostgreSQL 18",
                "FAIL  policies: off",
                "      mend: make them",
            ],
        )
        told = json.loads(operate("doctor", "--fix", "--json").stdout)
        assert [one["name"] for one in told["mended"]] == ["policies", "triggers"]

    def test_looks_again_once_something_was_mended(self, operate: Operate, examined: list[Report]) -> None:
        examined.append(Report(ok=True, checks=self.WRONG.checks[:1]))
        result = operate("doctor", "--fix")
        assert (result.exit_code, result.stdout.splitlines()[-2:]) == (0, ["ok    server: PostgreSQL 18", "All is well."])

    def test_mends_nothing_where_all_is_well(self, operate: Operate, examined: list[Report]) -> None:
        examined[:] = [Report(ok=True, checks=())]
        assert operate("doctor", "--fix").stdout == "All is well.\n"

    def test_has_a_metric_for_what_is_well_and_for_what_is_not(self) -> None:
        lines = metrics_of(self.WRONG).splitlines()
        assert {'derwin_doctor_check_ok{check="server"} 1', 'derwin_doctor_check_ok{check="views"} 0'} <= set(lines)


class TestEmbedded:
    @pytest.mark.parametrize(
        ("is_created", "pid", "version", "state"),
        [
            (True, 4711, 18, "runs (pid 4711). Data folder: {}, PostgreSQL 18."),
            (True, None, 18, "does not run. Data folder: {}, PostgreSQL 18."),
            (False, None, None, "is not made yet: `derwin-db migrate` makes it. Data folder: {}."),
        ],
    )
    def test_status_says_what_it_does_and_where(
        self,
        operate: Operate,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        is_created: bool,
        pid: int | None,
        version: int | None,
        state: str,
    ) -> None:
        monkeypatch.setattr(embedded, "status", lambda _: Status(tmp_path, is_created, pid, version))
        assert operate("embedded", "status").stdout == f"The embedded server {state.format(tmp_path)}\n"

    @pytest.mark.parametrize(("ran", "said"), [(True, "is stopped."), (False, "did not run.")])
    def test_stop_says_whether_it_ran(
        self, operate: Operate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ran: bool, said: str
    ) -> None:
        monkeypatch.setattr(embedded, "stop", lambda _: ran)
        monkeypatch.setattr(embedded, "status", lambda _: Status(tmp_path, is_created=True, pid=None, version=18))
        assert operate("embedded", "stop").stdout == f"The embedded server {said}\n"


AT_HEAD = MigrationStatus("bbbb", "bbbb", [])
BEFORE = MigrationStatus(None, "bbbb", ["aaaa", "bbbb"])
AHEAD = MigrationStatus("cccc", "bbbb", [], Standing.COMPATIBLE)


class TestMigrations:
    """Where a command says that the database is."""

    @pytest.mark.parametrize(
        ("seen", "revision"),
        [
            (AT_HEAD, "bbbb (nothing pending)"),
            (BEFORE, "none (2 pending: aaaa, bbbb)"),
            (AHEAD, f"cccc ({AHEAD.standing})"),
        ],
    )
    def test_status(
        self, operate_own: Operate, own_database: TestDatabase, monkeypatch, seen: MigrationStatus, revision: str
    ) -> None:
        monkeypatch.setattr("derwin_db.cli.status.migration_status", lambda _: seen)
        assert operate_own("status").stdout.splitlines() == [
            f"database  {own_database.owner.place}",
            f"revision  {revision}",
            "projects  0",
            *[AHEAD.schema.sentence] * seen.is_ahead,
        ]

    @pytest.mark.parametrize(
        ("after", "said"), [(AT_HEAD, "{} is at revision bbbb (the newest)."), (AHEAD, AHEAD.schema.sentence)]
    )
    def test_migrate(self, operate: Operate, migrated: TestDatabase, monkeypatch, after: MigrationStatus, said: str) -> None:
        monkeypatch.setattr("derwin_db.cli.migrate.upgrade", lambda *_: after)
        assert operate("migrate").stdout == f"{said.format(migrated.owner.place)}\n"

    @pytest.mark.parametrize(
        ("to", "after", "asked", "said"),
        [
            ((), BEFORE, "the revision before", "none; pending: aaaa, bbbb."),
            (("--to", "aaaa"), AT_HEAD, "aaaa", "bbbb; pending: none."),
        ],
    )
    def test_rollback(
        self,
        operate: Operate,
        migrated: TestDatabase,
        monkeypatch,
        to: tuple[str, ...],
        after: MigrationStatus,
        asked: str,
        said: str,
    ) -> None:
        monkeypatch.setattr("derwin_db.cli.rollback.downgrade", lambda *_: after)
        place = migrated.owner.place
        assert operate("rollback", *to).stderr.startswith(f"Roll back to {asked} in {place}: say --yes")
        assert operate("rollback", *to, "--yes").stdout == f"{place} is at revision {said}\n"


class TestPrune:
    @pytest.mark.parametrize(("flag", "more"), [((), ""), (("--dry-run",), " (A dry run.)")])
    def test_says_whether_it_removed_anything(self, operate_own: Operate, flag: tuple[str, ...], more: str) -> None:
        assert operate_own("prune", *flag).stdout == f"0 artifacts pruned, 0 expired ones left.{more}\n"


class TestReset:
    def test_of_a_service_s_tables_too_goes_down_and_up_in_order(
        self, operate: Operate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done: list[str] = []
        original = operate("status", "--json").stdout

        def noting(name: str) -> Any:
            def note(*_: object) -> Any:
                done.append(name)
                return type("Status", (), {"current": "head"})

            return note

        for name in ("downgrade_service", "downgrade", "upgrade", "upgrade_service"):
            monkeypatch.setattr(f"derwin_db.cli.reset.{name}", noting(name))
        result = operate("reset", "--yes", "--no-seed", "--then", "alembic.ini")
        assert done == ["downgrade_service", "downgrade", "upgrade", "upgrade_service"]
        assert result.stdout.endswith(" is new and holds no project.\n")
        assert operate("status", "--json").stdout == original


class TestRoles:
    async def test_create_leaves_passwords_and_says_what_it_made_again(
        self, operate_own: Operate, owner: asyncpg.Connection, own_database: TestDatabase
    ) -> None:
        await owner.execute("DROP POLICY derwin_scope ON qa_runs")
        logins = ("--service", own_database.service.user, "--operator", own_database.operator.user)
        result = await asyncio.to_thread(operate_own, "roles", "create", "--no-passwords", *logins)
        assert "Made again, because they were missing or changed: " in result.stdout
        assert "qa_runs" in result.stdout
        assert "To paste into .env" not in result.stdout
        async with Database(**own_database.urls):
            """Starts: the logins have the passwords that they had, and the fences are whole."""

    @pytest.mark.parametrize("flag", ["--passwords", "--no-passwords"])
    def test_create_prints_urls_that_can_be_used_as_they_are(
        self, shown: Json, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flag: str
    ) -> None:
        """Whatever the database's name is, and wherever the owner's password comes from."""
        given: dict[str, str | None] = {}

        async def done(work: Callable[[object], Awaitable[list[str]]]) -> list[str]:
            return await work(None)

        async def nothing(_: object, **named: str | None) -> list[str]:
            given.update(named)
            return []

        (tmp_path / "password").touch()
        monkeypatch.setattr("derwin_db.cli.roles.as_owner", done)
        monkeypatch.setattr("derwin_db.cli.roles.remake_fences", nothing)
        for work in ("take_temporary_from_public", "create_logins"):
            monkeypatch.setattr(f"derwin_db.cli.roles.logins.{work}", nothing)
        monkeypatch.setenv("DIRECT_URL", f"postgresql://owner@db.example/my%20db?password_file={tmp_path}/password")
        made = shown("roles", "create", flag)
        for login, name in (("service", "DATABASE_URL"), ("operator", "ADMIN_URL")):
            info = ConnectionInfo.parse(made["urls"][name])
            file = None if flag == "--passwords" else str(tmp_path / "password")
            assert (info.user, info.database) == (made[login]["login"], "my db")
            assert (info.password, info.password_file) == (made[login]["password"], file)
            assert given[f"{login}_password"] == info.password
        assert (given["service_password"] == given["operator_password"]) is (flag == "--no-passwords")

    async def test_backup_shows_its_password_once(
        self, operate: Operate, migrated: TestDatabase, owner: asyncpg.Connection
    ) -> None:
        login = f"cli_backup_{uuid4().hex[:8]}"
        result = await asyncio.to_thread(operate, "roles", "backup", "--login", login)
        said, _, password = result.stdout.strip().rpartition(": ")
        assert said == f"{login}  may read everything; its password, shown once"
        dumping = await asyncpg.connect(**replace(migrated.owner, user=login, password=password).connect_arguments())
        assert await dumping.fetchval("SELECT count(*) >= 0 FROM public.qa_tickets")
        await dumping.close()
        await owner.execute(f"DROP ROLE {login}")

    def test_on_a_server_that_is_not_there(self, operate: Operate, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DIRECT_URL", "postgresql://u:Kanarienvogel-7@127.0.0.1:1/d")
        result = operate("roles", "key")
        assert (result.exit_code, "No PostgreSQL answers" in result.stderr) == (4, True)

    @pytest.mark.parametrize("command", [["key"], ["rotate"], ["rotate", "--finish"], ["rotate", "--now", "--yes"]])
    async def test_before_the_migrations_says_so(
        self, operate_own: Operate, owner: asyncpg.Connection, command: list[str]
    ) -> None:
        await owner.execute("DROP SCHEMA derwin CASCADE")
        result = await asyncio.to_thread(operate_own, "roles", *command)
        assert (result.exit_code, "Run `derwin-db migrate`" in result.stderr) == (3, True)

    def test_as_a_login_that_may_not(self, operate: Operate, migrated: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DIRECT_URL", url_of(migrated.service))
        result = operate("roles", "backup", "--login", "cli_backup_refused")
        assert (result.exit_code, "DIRECT_URL has to be the owner's" in result.stderr) == (3, True)


class TestStatus:
    async def test_of_tables_that_can_t_be_counted_is_no_zero(self, operate_own: Operate, owner: asyncpg.Connection) -> None:
        await owner.execute("ALTER TABLE projects RENAME TO other; CREATE VIEW projects AS SELECT 1 FROM other WHERE 1 / 0 = 1")
        result = await asyncio.to_thread(operate_own, "status")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "defect" not in result.stderr


class TestStudio:
    def test_tables_are_looked_for_where_it_is_typed(
        self, operate: Operate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "without_a_repository.py").touch()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.path", [place for place in sys.path if place])
        result = operate("studio", "--tables", "without_a_repository")
        assert (result.exit_code, "it makes no derwin_db.tables.Repository" in result.stderr) == (2, True)

    def test_tables_of_a_module_that_another_one_imports_are_no_missing_ones(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        made = "{0} = object.__new__(own.Repository)\nown.repositories['{0}'] = {0}\n"
        for name, first in (("notes", ""), ("releases", "import studio_notes\n")):
            (tmp_path / f"studio_{name}.py").write_text(f"{first}from derwin_db.repos import own\n{made.format(name)}")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr("derwin_db.repos.own.repositories", {})
        try:
            studio._load_tables(("studio_releases", "studio_notes", "studio_notes"))
        finally:
            for name in ("studio_releases", "studio_notes"):
                sys.modules.pop(name, None)

    def test_without_a_url_it_shows_a_demo_the_first_time(
        self, operate: Operate, own_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logins = Logins(own_database.owner, own_database.service, own_database.operator)
        monkeypatch.setattr(embedded, "start", lambda _: logins)
        monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)  # as after Ctrl-C
        monkeypatch.setattr("derwin_db.seed.seed_demo", write_nothing)
        for name in ("DATABASE_URL", "ADMIN_URL", "DIRECT_URL"):
            monkeypatch.delenv(name)
        said = operate("studio", "--port", "0").stdout
        assert said == "No project has data yet: writing Lifeline and a demo history.\nStopped.\n"

    @pytest.mark.parametrize(
        ("code", "why"),
        [("def", "SyntaxError: "), ("1 / 0", "ZeroDivisionError: "), ("import nil", "ModuleNotFoundError: ")],
    )
    def test_a_module_that_breaks_is_the_service_s_own(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, why: str
    ) -> None:
        (tmp_path / "studio_broken.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(click.UsageError, match=rf"^--tables studio_broken: {why}"):
            studio._load_tables(("studio_broken",))

    @pytest.mark.parametrize(
        ("host", "named", "is_loopback"),
        [
            ("127.0.0.1", "127.0.0.1", True),
            ("::1", "[::1]", True),
            ("0.0.0.0", "127.0.0.1", False),
            ("::", "[::1]", False),
            ("db.example", "db.example", False),
        ],
    )
    @pytest.mark.parametrize("opens", [False, True])
    def test_says_where_this_machine_finds_it_and_lets_that_in(
        self, monkeypatch: pytest.MonkeyPatch, capsys, host: str, named: str, is_loopback: bool, opens: bool
    ) -> None:
        url = f"http://{named}:4711/token/"
        given: dict[str, Any] = {}
        opened: list[Any] = []

        def create_app(_: object, *, on_start: Any, **options: Any) -> None:
            given.update(options)
            on_start()

        def thread(*, args: Any, **_: Any) -> Any:
            opened.extend(args)
            return SimpleNamespace(start=lambda: None)

        class Server:
            def __init__(self, _: object) -> None: ...

            def run(self, **_: object) -> None:
                raise KeyboardInterrupt

        monkeypatch.setattr("derwin_db.studio.create_app", create_app)
        monkeypatch.setattr("derwin_db.studio.new_token", lambda: "token")
        monkeypatch.setattr("derwin_db.database.Database", lambda: None)
        monkeypatch.setattr(studio, "threading", SimpleNamespace(Thread=thread))
        uvicorn = SimpleNamespace(Config=lambda *_, **__: None, Server=Server)
        listening: Any = SimpleNamespace(getsockname=lambda: (host, 4711))
        studio._serve(uvicorn, listening, host, is_loopback=is_loopback, opens=opens, takes_sql=False, as_json=False)
        assert url in capsys.readouterr().out.split()
        assert opened == [url] * opens
        assert (given["token"], given["takes_addresses"], host in given["hosts"]) == ("token", not is_loopback, True)
        assert (socket.gethostname() in given["hosts"]) is (not is_loopback or socket.gethostname() in LOOPBACK)

    async def test_looks_past_projects_that_have_nothing(self, own_db: Database) -> None:
        async with own_db.admin(reason="a project with data, and a newer one without") as admin:
            older, _ = [await repos.projects.create(admin, project(slug=slug)) for slug in ("older", "newer")]
        assert not await _has_data(own_db)
        async with own_db.project(older.id) as session:
            await create_spend(session)
        assert await _has_data(own_db)


class TestSweep:
    def test_of_which_a_project_failed_ends_so(self, operate: Operate, monkeypatch: pytest.MonkeyPatch) -> None:
        async def sweep(*_: object, **__: object) -> SweepResult:
            return SweepResult(failed=2)

        monkeypatch.setattr(Database, "sweep", sweep)
        result = operate("sweep", "stalled")
        assert result.exit_code == 1
        assert result.stdout.splitlines()[-1] == "2 projects failed: their errors are in the log."
