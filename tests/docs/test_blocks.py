"""The Python blocks of the documentation run, page by page, and print what the page shows.

The blocks of a page go on where the one before ended: together they are one script or, where they hold tests, one module for
pytest with the page's TOML as its configuration. The README's stand alone: tests/contract/test_readme.py runs them. A page that
builds a service file by file is followed by tests/docs/test_fenced_tables.py.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from derwin_db import repos
from tests.docs.blocks import PAGES, README, ROOT, blocks, languages, texts
from tests.forking import program

WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]
BY_ITSELF = ROOT / "docs" / "how-to" / "fenced-tables.md"
"""Its blocks are files of a service, with commands between them."""
RUN_HERE = [page for page in WITH_PYTHON[1:] if page != BY_ITSELF]
PLUGINS = ["-p", "derwin_db.testing.plugin", "-p", "no:cacheprovider", "-p", "no:schemathesis"]


class TestPages:
    @pytest.mark.parametrize("page", RUN_HERE, ids=lambda page: str(page.relative_to(ROOT)))
    def test_run_as_written(self, page: Path, environment: dict[str, str], tmp_path: Path) -> None:
        script = tmp_path / "test_page.py"
        script.write_text("\n\n".join(texts(page, "python")))
        has_tests = "def test_" in script.read_text()
        (tmp_path / "pyproject.toml").write_text("\n".join(texts(page, "toml")))
        if has_tests:
            result = subprocess.run(
                [sys.executable, "-W", "error", "-m", "pytest", *PLUGINS, str(script)],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
        else:
            result = program(script.read_text(), environment=environment, cwd=tmp_path, warnings="error")
        assert result.returncode == 0, result.stdout + result.stderr
        if has_tests:
            assert f"{script.read_text().count('def test_')} passed" in result.stdout
        else:
            assert result.stdout == "".join(texts(page, "text"))

    def test_have_every_block_run(self) -> None:
        assert WITH_PYTHON[0] == README
        assert {page.stem for page in WITH_PYTHON[1:]} >= {
            "fastapi",
            "testing",
            "observability",
            "pgbouncer",
            "supabase",
            *repos.__all__,
        }
        assert [str(block) for page in PAGES for block in blocks(page, "python") if block.reason is not None] == []
        assert {language for page in PAGES for language in languages(page)} == _KNOWN

    def test_are_formatted_like_the_code(self, tmp_path: Path) -> None:
        for page in WITH_PYTHON:
            for number, block in enumerate(texts(page, "python")):
                name = "_".join(page.relative_to(ROOT).with_suffix("").parts)
                (tmp_path / f"{name}_{number}.py").write_text(block)
        ruff = [str(Path(sys.executable).parent / "ruff"), "format", "--check", "--line-length", "128", str(tmp_path)]
        result = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout


_KNOWN = {"python", "text", "toml", "console", "ini", "mermaid"}
"""What a block may be: all but diagrams are run, compared or read by a test."""
