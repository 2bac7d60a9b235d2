"""The Python blocks of the documentation run, page by page, and print what the page shows.

The blocks of a page go on where the one before ended: together they are one script or, where they hold tests, one module for
pytest with the page's TOML as its configuration. A seeded database is there, as after `make seed`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from derwin_db.testing import TestServer
from derwin_db.testing.server import url_of

ROOT = Path(__file__).parents[2]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if blocks(page, "python")]


@pytest.fixture
def environment(server: TestServer) -> dict[str, str]:
    """A database as after `make seed`."""
    database = server.migrated()
    urls = {
        "DATABASE_URL": url_of(database.service),
        "ADMIN_URL": url_of(database.operator),
        "DIRECT_URL": url_of(database.owner),
        "DERWIN_TEST_DATABASE_URL": url_of(server.owner),
    }
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **urls}
    seed = "from derwin_db.cli import main; main(['seed'])"
    subprocess.run([sys.executable, "-c", seed], env=environment, check=True, cwd="/", stdout=subprocess.DEVNULL)
    return environment


class TestPages:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
    def test_run_as_written(self, page: Path, environment: dict[str, str], tmp_path: Path) -> None:
        script = tmp_path / "test_page.py"
        script.write_text("\n\n".join(blocks(page, "python")))
        has_tests = "def test_" in script.read_text()
        (tmp_path / "pyproject.toml").write_text("\n".join(blocks(page, "toml")))
        plugins = ["-p", "derwin_db.testing.plugin", "-p", "no:cacheprovider", "-p", "no:schemathesis"]
        result = subprocess.run(
            [sys.executable, "-W", "error", *(["-m", "pytest", *plugins] if has_tests else []), str(script)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        if has_tests:
            assert f"{script.read_text().count('def test_')} passed" in result.stdout
        else:
            assert result.stdout == "".join(blocks(page, "text"))

    @pytest.mark.parametrize("name", ["how-to/fastapi.md", "how-to/testing.md"])
    def test_are_there(self, name: str) -> None:
        assert ROOT / "docs" / name in PAGES

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
    def test_are_formatted_like_the_code(self, page: Path, tmp_path: Path) -> None:
        for number, block in enumerate(blocks(page, "python")):
            path = tmp_path / f"block_{number}.py"
            path.write_text(block)
            ruff = [str(Path(sys.executable).parent / "ruff"), "format", "--check", "--line-length", "128", str(path)]
            result = subprocess.run(ruff, capture_output=True, text=True, check=False)
            assert result.returncode == 0, block
