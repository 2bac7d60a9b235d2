"""What commands say to who sits in front of them, in this process: questions, errors, bars, cells, and what psql is handed."""

import io
import json
import logging
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner

from derwin_db import Database
from derwin_db.cli import asking, export, main, psql, runs, seed
from derwin_db.cli.arguments import PATIENCE
from derwin_db.cli.output import command, confirm, json_option, log_to_stderr, progress
from derwin_db.cli.tables import pairs, table
from derwin_db.deploy import embedded
from derwin_db.errors import ConfigurationError
from derwin_db.models import ProjectCreate, ProjectType
from derwin_db.seed import DemoCounts
from derwin_db.settings import ConnectionInfo
from tests.cli.conftest import Operate

HERE = ConnectionInfo.parse("postgresql://owner@127.0.0.1:5432/derwin")


class Terminal(io.StringIO):
    """A stream that says that somebody reads it."""

    def isatty(self) -> bool:
        return True


class TestConfirm:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What somebody at a terminal is asked; the answer is taken from `answers`."""
        texts: list[str] = []

        def answer(text: str, *, default: bool) -> bool:
            assert default is False
            texts.append(text)
            return len(texts) > 1

        monkeypatch.setattr("click.confirm", answer)
        monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
        return texts

    def test_at_a_terminal_asks_and_takes_no_for_an_answer(self, asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            confirm("Remove all", HERE, yes=False)
        confirm("Remove all", HERE, yes=False)  # the second answer is yes
        assert (ended.value.code, capsys.readouterr().out) == (1, "Nothing was done.\n")
        assert asked == ["Remove all in database 'derwin' on 127.0.0.1:5432. Sure?"] * 2

    def test_yes_asks_nothing(self, asked: list[str]) -> None:
        confirm("Remove all", HERE, yes=True)
        assert asked == []


class TestSeconds:
    @pytest.mark.parametrize("words", [("migrate",), ("roles", "rotate", "--finish")], ids="-".join)
    @pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "1000000.1", "1e300", "soon", ""])
    def test_that_nobody_can_wait_are_wrong_usage(self, words: tuple[str, ...], seconds: str) -> None:
        result = CliRunner().invoke(main, [*words, f"--wait={seconds}"])
        assert (result.exit_code, "a number of seconds is wanted" in result.stderr) == (2, True)

    def test_none_parts_of_one_and_a_million_can_be_waited(self) -> None:
        assert [PATIENCE.convert(value, None, None) for value in ("0", "0.5", 1e6)] == [0.0, 0.5, 1e6]


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "code", "words"),
        [
            (KeyError("secret"), 1, "This is a defect of derwin-db (KeyError)"),
            (PermissionError(13, "Permission denied", "/a/file"), 3, "/a/file: Permission denied."),
            (OSError(28, "No space left on device"), 1, "There is no room for the output."),
            (OSError(122, "Disk quota exceeded", "/a/file"), 1, "There is no room for /a/file."),
            (OSError("secret"), 3, "A file: it can not be used."),
        ],
    )
    @pytest.mark.parametrize("as_json", [False, True])
    def test_that_nobody_foresaw_are_a_sentence(self, error: Exception, code: int, words: str, as_json: bool) -> None:
        @click.command()
        @json_option
        @command
        def failing(as_json: bool) -> None:
            raise error

        result = CliRunner().invoke(failing, ["--json"] * as_json)
        said = json.loads(result.stdout)["error"]["message"] if as_json else result.stderr
        assert (result.exit_code, words in said) == (code, True)
        assert "secret" not in result.output


class TestProgress:
    def test_is_a_bar_at_a_terminal_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown = []
        for stream, as_json in ((Terminal(), False), (Terminal(), True), (io.StringIO(), False)):
            monkeypatch.setattr("sys.stderr", stream)
            with progress("export", as_json=as_json) as bar:
                bar("qa_tickets", 1, 2)
                bar("qa_tickets", 2, 2)
                bar("raw_signals", 1, 1)
            shown.append(["export: qa_tickets" in stream.getvalue(), "export: raw_signals" in stream.getvalue()])
        assert shown == [[True, True], [False, False], [False, False]]


class TestActor:
    def test_is_the_system_s_user_if_it_has_a_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("getpass.getuser", lambda: "ada")
        assert (asking.actor_of(None), asking.actor_of("grace")) == ("ada", "grace")
        for error in (OSError, KeyError):
            monkeypatch.setattr("getpass.getuser", _raising(error))
            assert asking.actor_of(None) == "operator"


class TestLog:
    def test_is_shown_beside_words_and_not_beside_json(self) -> None:
        logger = logging.getLogger("shown in a test")
        seen = []
        for as_json in (True, False):
            log_to_stderr(logger.name, as_json=as_json)
            seen.append((len(logger.handlers), logger.level))
        logger.handlers.clear()
        assert seen == [(0, logging.NOTSET), (1, logging.INFO)]


class TestSeed:
    @pytest.mark.parametrize(("scale", "is_another"), [((), False), (("--scale", "3"), False), (("--scale", "2"), True)])
    def test_says_that_a_history_of_another_scale_stays(
        self, operate: Operate, monkeypatch: pytest.MonkeyPatch, scale: tuple[str, ...], is_another: bool
    ) -> None:
        async def lifeline(_: Database) -> ProjectCreate:
            return ProjectCreate(slug="lifeline", name="Lifeline", type=ProjectType.ERP)

        async def history(_: Database, **named: object) -> DemoCounts:
            return DemoCounts.at(3)

        monkeypatch.setattr("derwin_db.seed.seed_lifeline", lifeline)
        monkeypatch.setattr("derwin_db.seed.seed_demo", history)
        result = operate("seed", "--demo", *scale)
        assert result.exit_code == 0, result.output
        assert ("of another scale is there already" in result.stdout) is is_another

    @pytest.mark.parametrize(("called", "typed"), [("here/bin/derwin-db", "bin/derwin-db"), ("usr/bin/derwin-db", "derwin-db")])
    def test_names_the_next_commands_as_one_types_them(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, called: str, typed: str
    ) -> None:
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        monkeypatch.setattr("sys.argv", [str(tmp_path / called)])
        assert seed._program() == typed


class TestRuns:
    @pytest.mark.parametrize(
        ("error", "cell"), [(None, None), ("no browser", "no browser"), ("e" * 60, "e" * 60), ("e" * 61, "e" * 59 + "…")]
    )
    def test_have_an_error_of_a_line(self, error: str | None, cell: str | None) -> None:
        assert runs._shortened(error) == cell


class TestTables:
    def test_hold_a_cell_for_every_kind_of_value(self) -> None:
        at = datetime(2026, 11, 1, 8, 30, tzinfo=UTC)
        row = {"none": None, "yes": True, "no": False, "count": 1234, "usd": Decimal("1234.50"), "at": at, "text": "a\nb"}
        shown = table([row], empty="-").splitlines()[1].split()
        assert shown == ["-", "yes", "no", "1,234", "1,234.50", "2026-11-01", "08:30:00Z", "a\\nb"]
        assert pairs([("a", 1), ("b", "x")]).split() == ["a", "1", "b", "x"]
        assert table([], empty="There is none.") == "There is none."

    def test_have_numbers_and_amounts_to_the_right(self) -> None:
        rows = [
            {"count": 1, "usd": Decimal("0.5"), "yes": True, "text": "a"},
            {"count": 1000, "usd": Decimal(10), "yes": False, "text": "b"},
        ]
        assert table(rows, empty="").splitlines() == [
            "COUNT  USD  YES  TEXT",
            "    1  0.5  yes  a",
            "1,000   10  no   b",
        ]

    def test_are_as_wide_as_the_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = [{"text": "word " * 40}]
        assert len(table(rows, empty="").splitlines()) == 2
        monkeypatch.setattr("sys.stdout", Terminal())
        monkeypatch.setenv("COLUMNS", "50")
        lines = table(rows, empty="").splitlines()
        assert (len(lines) > 4, max(map(len, lines)) <= 50) == (True, True)


class TestPsql:
    @pytest.fixture
    def handed(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """What the program that takes this process's place is handed."""
        given: list[Any] = []
        monkeypatch.setattr("os.execvpe", lambda *arguments: given.extend(arguments))
        return given

    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            (
                "postgresql://ada:secret@127.0.0.1:5432/derwin",
                {"PGHOST": "127.0.0.1", "PGPORT": "5432", "PGUSER": "ada", "PGPASSWORD": "secret", "PGSSLMODE": "prefer"},
            ),
            (
                "postgresql://ada@a.example,b.example:5433/derwin?target_session_attrs=read-write",
                {
                    "PGHOST": "a.example,b.example",
                    "PGPORT": "5432,5433",
                    "PGTARGETSESSIONATTRS": "read-write",
                    "PGSSLMODE": "verify-full",
                    "PGSSLROOTCERT": "system",
                },
            ),
        ],
    )
    def test_gets_arguments_as_they_are_and_secrets_past_them(
        self, handed: list[Any], monkeypatch: pytest.MonkeyPatch, url: str, expected: dict[str, str]
    ) -> None:
        for name in ("PGPASSWORD", "PGSSLMODE", "PGSSLROOTCERT", "DATABASE_URL", "ADMIN_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("DATABASE_URL", url)
        monkeypatch.setenv("DIRECT_URL", url)
        CliRunner().invoke(psql.psql, ["-At", "--help", "-c", "SELECT 1"])
        program, arguments, environment = handed
        assert (program.endswith("psql"), arguments) == (True, ["psql", "-At", "--help", "-c", "SELECT 1"])
        assert {name: environment.get(name) for name in expected} == expected
        assert "PGSSLKEY" not in environment
        assert "secret" not in str(arguments)

    @pytest.mark.parametrize(
        ("given", "password", "expected"),
        [
            ({"host": ""}, None, {"PGHOST": "localhost", "PGSSLMODE": "prefer", "PGSSLROOTCERT": None}),
            ({"host": "h"}, None, {"PGHOST": "h", "PGSSLMODE": "verify-full", "PGSSLROOTCERT": "system"}),
            (
                {"host": "h", "sslmode": "verify-ca", "sslrootcert": "/ca"},
                None,
                {"PGSSLMODE": "verify-ca", "PGSSLROOTCERT": "/ca"},
            ),
            ({"host": "h", "sslmode": "require"}, None, {"PGSSLMODE": "require", "PGSSLROOTCERT": None}),
            ({"host": "h", "sslmode": "verify-ca"}, None, {"PGSSLMODE": "verify-ca", "PGSSLROOTCERT": None}),
            ({"host": "localhost", "sslcert": "/c"}, None, {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "system"}),
            ({"host": "h", "sslcert": "/both"}, None, {"PGSSLCERT": "/both", "PGSSLKEY": "/both"}),
            ({"host": "h", "sslcert": "/c", "sslkey": "/k"}, None, {"PGSSLCERT": "/c", "PGSSLKEY": "/k"}),
            ({"host": "h", "password": "old"}, "fetched", {"PGPASSWORD": "fetched"}),
            ({"host": "h", "password": "of the URL"}, None, {"PGPASSWORD": "of the URL"}),
        ],
    )
    def test_goes_where_the_url_leads_as_this_package_does(
        self, given: dict[str, str], password: str | None, expected: dict[str, str | None]
    ) -> None:
        """libpq takes `system` with verify-full alone."""
        info = ConnectionInfo(**{"port": 5432, "user": "ada", "database": "derwin", **given})  # type: ignore[arg-type]
        environment = psql.environment_of(info, password)
        assert {name: environment.get(name) for name in expected} == expected

    @pytest.mark.parametrize(
        ("place", "taken"),
        [
            ("127.0.0.1", "/brought/psql"),
            ("127.0.0.1/?sslmode=require", "/usr/bin/psql"),
            ("db.example", "/usr/bin/psql"),
            ("db.example/?sslmode=verify-ca", "/usr/bin/psql"),
            ("db.example/?sslmode=disable", "/brought/psql"),
        ],
    )
    def test_is_one_that_knows_tls_where_that_is_wanted(self, monkeypatch: pytest.MonkeyPatch, place: str, taken: str) -> None:
        """The one that comes with the embedded server does not."""
        host, _, options = place.partition("/")
        monkeypatch.setattr(embedded, "client_program", lambda name: Path("/brought") / name)
        monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
        info = ConnectionInfo.parse(f"postgresql://ada@{host}/derwin{options}")
        assert psql._program(info) == taken
        monkeypatch.setattr("shutil.which", lambda _: None)
        assert psql._program(info) == "/brought/psql"

    def test_is_the_system_s_without_the_embedded_server_or_missing(
        self, handed: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", "postgresql://ada@127.0.0.1:5432/derwin")
        monkeypatch.setattr(embedded, "client_program", _raising(ConfigurationError))
        monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
        CliRunner().invoke(psql.psql, ["-l"])
        assert handed[:2] == ["/usr/bin/psql", ["psql", "-l"]]
        monkeypatch.setattr("shutil.which", lambda _: None)
        result = CliRunner().invoke(psql.psql, ["-l"])
        assert (result.exit_code, "install the PostgreSQL client" in result.stderr, len(handed)) == (3, True, 3)


class TestExport:
    def test_is_not_written_to_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(export, "sys", SimpleNamespace(stdout=Terminal()))
        result = CliRunner().invoke(export.export, ["acme"])
        assert (result.exit_code, "say --output" in result.stderr) == (2, True)


def _raising(error: type[Exception]) -> Any:
    def fail(*_: object) -> None:
        raise error

    return fail
