"""Commands in this process, as an operator's: they take their settings from the environment, and have streams of their own."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from derwin_db.cli import main
from derwin_db.testing import TestDatabase
from tests.forking import CLI

from .test_commands import environment_of

LOGGERS = ("derwin_db.admin", "derwin_db.retention", "derwin_db.migrations", "derwin_db.embedded")

Operate = Callable[..., Result]
Json = Callable[..., Any]


@pytest.fixture
def operate(migrated: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operate]:
    """Runs a command on the database of all tests. What it logs goes to its own standard error."""
    for name in ("DATABASE_URL", "ADMIN_URL", "DIRECT_URL", "READ_URL", "DERWIN_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    for name, url in environment_of(migrated).items():
        monkeypatch.setenv(name, url)
    before = {name: (logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in LOGGERS}

    def forget() -> None:
        for name, (level, handlers) in before.items():
            logging.getLogger(name).setLevel(level)
            logging.getLogger(name).handlers[:] = handlers

    def run(*arguments: str, stdin: str | bytes = "") -> Result:
        try:
            return CliRunner().invoke(main, arguments, input=stdin)
        finally:
            forget()

    yield run
    forget()


@pytest.fixture
def shown(operate: Operate) -> Json:
    """Runs a command with --json and returns what it prints."""

    def run(*arguments: str, **options: Any) -> Any:
        result = operate(*arguments, "--json", **options)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


@pytest.fixture
def at_terminal(operate: Operate) -> Callable[..., tuple[int, str]]:
    """Runs a command at a terminal of its own, and answers its questions: each answer after the text that it belongs to."""

    def run(*arguments: str, answers: list[tuple[str, str]]) -> tuple[int, str]:
        command = [sys.executable, "-c", CLI, *arguments]
        result = subprocess.run(
            [sys.executable, "-m", "tests.cli.terminal", json.dumps([command, answers])],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        code, _, printed = result.stdout.partition("\n")
        return int(code), printed

    return run
