"""A studio as an operator starts it: a process of its own, its address read from what it prints.

It is forked from one that has imported all of it; `command` is what starts Python too.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from derwin_db.testing import TestDatabase
from derwin_db.testing.server import url_of
from tests.forking import CLI, Process, derwin_db, running

ROOT = Path(__file__).parents[2]
SECONDS_TO_START = 120


@dataclass
class Studio:
    """A running studio."""

    url: str
    port: int
    process: Process

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        return self.url.rstrip("/").rpartition("/")[2]


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without settings of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_URL") and not name.startswith("DERWIN_")}
    kept.pop("PORT", None)
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def environment_of(database: TestDatabase) -> dict[str, str]:
    return clean_environment(
        DATABASE_URL=url_of(database.service), ADMIN_URL=url_of(database.operator), DIRECT_URL=url_of(database.owner)
    )


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", CLI, "studio", *arguments]


def run(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A call that is refused: it ends by itself."""
    return derwin_db("studio", *arguments, environment=environment, timeout=SECONDS_TO_START)


@contextmanager
def started(*arguments: str, environment: dict[str, str]) -> Iterator[Studio]:
    """A studio that ends by Ctrl-C, in order, having printed nothing that it should not."""
    with running(CLI, "studio", "--json", *arguments, environment=environment) as (process, printed):
        watchdog = threading.Timer(SECONDS_TO_START, process.send_signal, (signal.SIGKILL,))
        watchdog.start()
        try:
            line = printed.readline()
            watchdog.cancel()
            assert line.startswith('{"url"'), line + printed.read()
            yield Studio(**json.loads(line), process=process)
        finally:
            watchdog.cancel()
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            code = process.wait(20)
            rest = printed.read()
        assert code == 0, rest
        assert "Traceback" not in rest
