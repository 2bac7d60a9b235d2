"""Both type checkers refuse what would cross projects, and take what is right: only the marked lines are errors."""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FILES = ("refused.py", "accepted.py")

Lines = dict[str, dict[int, str]]
"""By file and line, what a checker says there."""


def marked(name: str) -> set[int]:
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if re.search(r"# E:\s*$", line)}


@pytest.fixture(scope="module")
def mypy() -> Lines:
    """Errors of one run of mypy, with the project's configuration."""
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--no-error-summary", "--no-pretty"]
    done = subprocess.run(
        [*command, *(str(HERE / name) for name in FILES)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    found: Lines = defaultdict(dict)
    for path, line, message in re.findall(r"^(.+?):(\d+): error: (.+)$", done.stdout, re.MULTILINE):
        found[Path(path).name][int(line)] = message
    return found


@pytest.fixture(scope="module")
def pyright() -> Lines:
    """Errors of one run of pyright."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(
        [*command, *(str(HERE / name) for name in FILES)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    found: Lines = defaultdict(dict)
    for item in json.loads(done.stdout)["generalDiagnostics"]:
        if item["severity"] == "error":
            found[Path(item["file"]).name][item["range"]["start"]["line"] + 1] = item["message"]
    return found


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
class TestCheckers:
    def test_refuse_every_marked_line_and_no_other(self, request, checker):
        found = request.getfixturevalue(checker)["refused.py"]

        assert {line: text for line, text in found.items() if line not in marked("refused.py")} == {}
        assert marked("refused.py") - set(found) == set()

    def test_take_what_is_right(self, request, checker):
        assert request.getfixturevalue(checker)["accepted.py"] == {}


class TestMarkers:
    def test_there_are_many(self):
        assert len(marked("refused.py")) >= 50
        assert marked("accepted.py") == set()
