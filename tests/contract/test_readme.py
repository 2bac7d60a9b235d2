"""The README says what happens: its Python blocks run as written and print what it shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from derwin_db.cli import COMMANDS
from derwin_db.errors import DerwinError
from derwin_db.testing import TestServer
from derwin_db.testing.server import url_of

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SHOWN = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def environment(server: TestServer) -> dict[str, str]:
    """A seeded database, as after `make seed`."""
    database = server.migrated()
    urls = {
        "DATABASE_URL": url_of(database.service),
        "ADMIN_URL": url_of(database.operator),
        "DIRECT_URL": url_of(database.owner),
    }
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **urls}
    subprocess.run(
        [sys.executable, "-c", "from derwin_db.cli import main; main()", "seed"], env=environment, check=True, cwd="/"
    )
    return environment


class TestExamples:
    def test_all_blocks_run_in_their_order(self, environment: dict[str, str]) -> None:
        printed = []
        for block in BLOCKS:
            result = subprocess.run(
                [sys.executable, "-c", block], env=environment, cwd="/", capture_output=True, text=True, check=False
            )
            assert result.returncode == 0, result.stderr
            printed.append(result.stdout)
        assert len(BLOCKS) >= 2
        assert printed[0] == SHOWN[0]
        assert "HIGH" in printed[1]


class TestTables:
    def test_every_error_is_in_the_table(self) -> None:
        def names(kind: type[DerwinError]) -> set[str]:
            return {kind.__name__}.union(*(names(child) for child in kind.__subclasses__()))

        assert {name for name in names(DerwinError) if f"`{name}`" not in TEXT and name != "DerwinError"} == set()

    def test_every_command_is_in_the_table(self) -> None:
        assert {name for name in COMMANDS if not re.search(rf"`{name}\b", TEXT)} == set()

    def test_every_file_it_names_is_there(self) -> None:
        for path in re.findall(r"`(derwin_db/[\w/]+\.py|alembic/\w+/|\.env\.example)`", TEXT):
            assert (ROOT / path).exists(), path

    def test_every_target_it_names_is_there(self) -> None:
        makefile = (ROOT / "Makefile").read_text()
        for target in set(re.findall(r"make ([a-z-]+)", re.sub(r"make check test", "make check make test", TEXT))):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE) or target in {"that", "it"}, target
