"""No command ends in a traceback: on streams that are closed, full or unread, with any arguments."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from derwin_db.cli import COMMANDS, main
from tests.forking import CLI, derwin_db

ROOT = Path(__file__).parents[2]
NOWHERE = {"DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d", "DERWIN_DATA_DIR": "/proc/derwin"}


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `derwin-db` in a shell."""
    clean = {key: value for key, value in os.environ.items() if not key.endswith("_URL") and not key.startswith("DERWIN_")}
    text = command.replace("derwin-db", f'"{sys.executable}" -c "{CLI}"', 1)
    return subprocess.run(
        ["bash", "-c", text],
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


class TestStreams:
    @pytest.mark.parametrize(
        ("streams", "code", "words"),
        [
            (">/dev/full", 3, "The output can't be written: No space left on device.\n"),
            (">/dev/full 2>/dev/full", 3, ""),
            (">&-", 0, ""),
            ("<&- >&- 2>&-", 0, ""),
        ],
    )
    @pytest.mark.parametrize("command", ["explain conflict --json", "--help"])
    def test_as_they_may_come(self, command: str, streams: str, code: int, words: str) -> None:
        result = shell(f"derwin-db {command} {streams}")
        assert (result.returncode, result.stderr) == (code, words)

    def test_no_answer_can_come(self) -> None:
        result = shell("derwin-db projects archive acme --reason x <&-", **NOWHERE)
        assert (result.returncode, "say --yes" in result.stderr) == (1, True)

    def test_a_file_does_not_take_the_place_of_a_closed_stream(self, tmp_path: Path) -> None:
        result = shell(f"derwin-db init {tmp_path}/new >&-")
        assert (result.returncode, result.stderr) == (0, "")
        assert "Written:" not in "".join(path.read_text() for path in (tmp_path / "new").iterdir())

    def test_what_the_encoding_lacks_is_written_as_an_escape(self, tmp_path: Path) -> None:
        result = shell(f"derwin-db init {tmp_path}/日本", PYTHONIOENCODING="latin-1")
        assert (result.returncode, f"{tmp_path}/\\u65e5\\u672c" in result.stdout) == (0, True)


HOSTILE = [
    "", " ", "-", "--", "-1", "0", "9" * 25, "acme", "\udcff", "日本", "../..", "/dev/null", "/nowhere/x", "%s{}", "\x1b[31m",
    "a" * 5000, "00000000-0000-0000-0000-000000000000", "NaN", "1e9", "999999999d", "0001-01-01", "2026-11-01T00:00:00+23:59",
]  # fmt: skip
APART = {"init", "psql", "studio"}
"""What writes files, becomes another program, or serves: not called with anything."""


DEFAULTS = {
    "migrate --to": "head",
    "migrate --wait": 600.0,
    "projects create --compliance-mode": "STANDARD",
    "projects create --mode": "OBSERVE",
    "projects list --limit": 50,
    "prune --limit-per-unit": 500,
    "reset --seed": True,
    "roles backup --login": "derwin_backup",
    "roles create --operator": "derwin_operator",
    "roles create --passwords": True,
    "roles create --service": "derwin_service",
    "roles rotate --wait": 120.0,
    "rollback --to": "-1",
    "runs list --limit": 50,
    "runs requeue --older-than": "10m",
    "studio --host": "127.0.0.1",
    "sweep --limit-per-unit": 500,
    "sweep --stalled-after": "60s",
}
"""What an option counts as that is left out. Scripts rely on it."""
BOUNDS = {
    "projects list --limit": (1, 500),
    "prune --limit-per-unit": (1, 500),
    "runs list --limit": (1, 500),
    "seed --scale": (1, 10_000),
    "studio --port": (0, 65535),
    "sweep --limit-per-unit": (1, 500),
}


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.list_commands(click.Context(group)):
        found = group.get_command(click.Context(group), name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from leaves(found, (*path, name))
        else:
            yield (*path, name), found


LEAVES = [pytest.param(path, found, id="-".join(path)) for path, found in leaves(main) if path[-1] not in APART]


class TestArguments:
    @pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.long)], ids=["each", "every"])
    @pytest.mark.parametrize(("path", "found"), LEAVES)
    def test_of_any_kind_are_no_traceback(
        self, path: tuple[str, ...], found: click.Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, every: bool
    ) -> None:
        """Each of them as an argument, and of one of the options in turn; in the long run of every option."""
        monkeypatch.chdir(tmp_path)  # some of the commands write files
        for name, value in NOWHERE.items():
            monkeypatch.setenv(name, value)
        count = sum(isinstance(one, click.Argument) for one in found.params)
        options = [one.opts[0] for one in found.params if isinstance(one, click.Option) and not one.is_flag]
        flags = [flag for flag in ("--yes",) if any(flag in one.opts for one in found.params)]
        for number, value in enumerate(HOSTILE):
            tries = [[*path, *([value] * count), *flags], [*path, *([value] * (count + 1)), "--json"]]
            tries += [
                [*path, *(["acme"] * count), *flags, option, value]
                for option in (options if every else options[number % max(len(options), 1) :][:1])
            ]
            for tried in tries:
                result = CliRunner().invoke(main, tried)
                assert result.exception is None or isinstance(result.exception, SystemExit), tried
                assert "defect" not in result.output, tried

    @pytest.mark.parametrize(("path", "found"), LEAVES)
    def test_that_are_left_out_are_said_in_the_help(self, path: tuple[str, ...], found: click.Command) -> None:
        options = [one for one in found.params if isinstance(one, click.Option)]
        assert [one.name for one in options if isinstance(one.default, str | int | float) and not one.show_default] == []

    def test_that_are_left_out_count_as_ever_and_numbers_have_bounds(self) -> None:
        options = {
            f"{' '.join(path)} {one.opts[0]}": one
            for path, found in leaves(main)
            for one in found.params
            if isinstance(one, click.Option)
        }
        defaults = {name: option.get_default(click.Context(main)) for name, option in options.items()}
        said = {name: default for name, default in defaults.items() if isinstance(default, str | int | float) and default}
        assert said == DEFAULTS
        ranges = {name: option.type for name, option in options.items()}
        assert {name: (one.min, one.max) for name, one in ranges.items() if isinstance(one, click.IntRange)} == BOUNDS

    @pytest.mark.parametrize(("path", "found"), LEAVES)
    def test_every_command_takes_json_and_debug(self, path: tuple[str, ...], found: click.Command) -> None:
        assert {"--json", "--debug"} <= {opt for one in found.params for opt in one.opts}

    def test_a_defect_before_a_command_is_a_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> None:
            raise KeyError("secret")

        monkeypatch.setattr(type(main), "get_command", broken)
        result = CliRunner().invoke(main, ["status"])
        assert (result.exit_code, "defect of derwin-db (KeyError)" in result.stderr, "secret" in result.stderr) == (
            1,
            True,
            False,
        )


class TestCompletion:
    @pytest.mark.parametrize("name", ["bash", "fish", "zsh"])
    def test_prints_a_script(self, name: str) -> None:
        result = CliRunner().invoke(main, ["completion", name])
        assert (result.exit_code, "_DERWIN_DB_COMPLETE" in result.stdout) == (0, True)
        if shutil.which(name):
            checked = subprocess.run([name, "-n"], input=result.stdout, text=True, capture_output=True, check=False)
            assert (checked.returncode, checked.stderr) == (0, "")

    def test_of_another_shell_is_wrong_usage(self) -> None:
        assert CliRunner().invoke(main, ["completion", "tcsh"]).exit_code == 2

    @pytest.mark.parametrize(
        ("typed", "offered"),
        [
            ("derwin-db pr", {"projects", "prune"}),
            ("derwin-db projects set", {"set-mode"}),
            ("derwin-db projects set-mode acme A", {"author", "autonomous"}),
            ("derwin-db spend --by ", {"project", "model", "source", "day"}),
        ],
    )
    def test_offers_commands_and_names(self, typed: str, offered: set[str]) -> None:
        words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split(" ")) - 1), "_DERWIN_DB_COMPLETE": "bash_complete"}
        result = derwin_db(environment={**os.environ, **words})
        assert result.returncode == 0, result.stderr
        found = {line.partition(",")[2] for line in result.stdout.splitlines()}
        assert found == offered or found > offered, found

    def test_is_what_a_shell_asks_for(self) -> None:
        result = shell("derwin-db", _DERWIN_DB_COMPLETE="bash_complete", COMP_WORDS="derwin-db pr", COMP_CWORD="1")
        assert (result.returncode, result.stdout.split()) == (0, ["plain,projects", "plain,prune"])

    def test_of_the_commands_imports_none(self) -> None:
        probe = "import sys; from derwin_db.cli import main; import click; "
        probe += "print(len(main.shell_complete(click.Context(main), '')), 'sqlmodel' in sys.modules)"
        result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
        assert result.stdout.split() == [str(len(COMMANDS)), "False"], result.stderr
