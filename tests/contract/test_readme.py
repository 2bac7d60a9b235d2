"""The README says what happens: its Python blocks run as written and print what it shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from derwin_db.testing import TestServer
from derwin_db.testing.server import url_of
from tests.forking import derwin_db

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
    assert derwin_db("seed", environment=environment).returncode == 0
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

    def test_is_short(self) -> None:
        assert len(TEXT.splitlines()) < 200
