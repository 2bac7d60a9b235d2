"""The wheel brings its revisions along: an installed service migrates."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from derwin_db.errors import codes
from derwin_db.testing import TestServer
from derwin_db.testing.server import url_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked where it would be installed; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    target = folder / "site"
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(target)
    return target


class TestPage:
    """What a package index shows: the README, where there is no checkout beside it."""

    @pytest.fixture
    def page(self, installed: Path) -> str:
        metadata = next(installed.glob("*.dist-info")) / "METADATA"
        text = metadata.read_text(encoding="utf-8")
        assert "\nDescription-Content-Type: text/markdown\n" in text
        return text.partition("\n\n")[2]

    def test_has_no_picture_or_link_that_leads_into_a_checkout(self, page: str) -> None:
        assert [target for target in re.findall(r"\]\(([^)]*)\)", page) if not target.startswith(("https://", "#"))] == []
        assert "![" not in page
        assert "src=" not in page

    def test_says_all_else_that_the_readme_says(self, page: str) -> None:
        def words(text: str) -> str:
            return re.sub(
                r"\s+", " ", re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text))
            ).strip()

        assert words(page) == words((ROOT / "README.md").read_text(encoding="utf-8"))


class TestWheel:
    def test_migrates_an_empty_database(self, installed: Path, server: TestServer, tmp_path: Path) -> None:
        url = url_of(server.empty().owner)
        script = (
            "import derwin_db, sys; assert derwin_db.__file__.startswith(sys.argv.pop(1)); "
            "from derwin_db.cli import main; main(prog_name='derwin-db')"
        )
        result = subprocess.run(
            [sys.executable, "-c", script, str(installed), "migrate", "--json"],
            env={**os.environ, "PYTHONPATH": str(installed), "DATABASE_URL": url, "DIRECT_URL": url},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert '"pending": []' in result.stdout

    def test_holds_types_sql_and_revisions_and_nothing_of_the_tests(self, installed: Path) -> None:
        assert (installed / "derwin_db" / "py.typed").exists()
        assert (installed / "derwin_db" / "alembic.ini").exists()
        assert sorted(path.name for path in (installed / "derwin_db" / "alembic" / "versions").glob("*.py"))
        assert list((installed / "derwin_db" / "sql").glob("*.sql"))
        assert {path.stem for path in (installed / "derwin_db" / "explained").glob("*.md")} == {*codes(), "index"}
        assert {path.name.partition("-")[0] for path in installed.iterdir()} == {"derwin_db"}
