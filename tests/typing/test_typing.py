"""Both type checkers refuse what would cross projects, and take what is right: only the marked lines are errors.

mypy takes a second by default, with what `make types` has left in its cache. pyright has none, and runs there.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import get_args

import pytest

from derwin_db import AdminSession, ProjectSession
from tests.isolation.methods import Method, public_methods

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FILES = (HERE / "refused.py", HERE / "accepted.py")
NO_SESSIONS = ("None", '"acme"', "db", "some_id")

Lines = dict[str, dict[int, str]]
"""By file and line, what a checker says there."""


def marked(path: Path) -> set[int]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if re.search(r"# E:\s*$", line)}


def call(method: Method, session: str) -> str:
    """Return a call that is right but for its session: whatever else it needs is of any type."""
    keywords = {name for name in method.required if method.parameters[name].kind is method.parameters[name].KEYWORD_ONLY}
    rest = [f"{name}=anything" if name in keywords else "anything" for name in method.required]
    return f"print(repos.{method.title}({', '.join([session, *rest])}))"


@pytest.fixture(scope="module")
def every_method(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that calls every method of every repository with what is no session of its own, and then with one."""
    lines = [
        "from typing import Any",
        "from uuid import UUID",
        "from derwin_db import AdminSession, Database, ProjectSession, repos",
        "def calls(db: Database, some_id: UUID, anything: Any, session: ProjectSession, admin: AdminSession) -> None:",
    ]
    for method in public_methods():
        own = {"session": ProjectSession, "admin": AdminSession}
        taken = get_args(method.hints["session"]) or (method.hints["session"],)
        right = [name for name, kind in own.items() if kind in taken]
        lines += [f"    {call(method, name)}  # E:" for name in (*NO_SESSIONS, *own) if name not in right]
        lines += [f"    {call(method, name)}" for name in right]
    path = tmp_path_factory.mktemp("typing") / "every_method.py"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def mypy(every_method: Path) -> Lines:
    """Errors of one run of mypy, with the project's configuration."""
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--no-error-summary", "--no-pretty"]
    done = subprocess.run(
        [*command, *(str(path) for path in (*FILES, every_method))], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    found: Lines = defaultdict(dict)
    for path, line, message in re.findall(r"^(.+?):(\d+): error: (.+)$", done.stdout, re.MULTILINE):
        found[Path(path).name][int(line)] = message
    return found


@pytest.fixture(scope="module")
def pyright(every_method: Path) -> Lines:
    """Errors of one run of pyright."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(
        [*command, *(str(path) for path in (*FILES, every_method))], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    found: Lines = defaultdict(dict)
    for item in json.loads(done.stdout)["generalDiagnostics"]:
        if item["severity"] == "error":
            found[Path(item["file"]).name][item["range"]["start"]["line"] + 1] = item["message"]
    return found


@pytest.mark.parametrize("checker", ["mypy", pytest.param("pyright", marks=pytest.mark.long)])
class TestCheckers:
    def test_refuse_every_marked_line_and_no_other(self, request, checker):
        found = request.getfixturevalue(checker)["refused.py"]

        assert {line: text for line, text in found.items() if line not in marked(HERE / "refused.py")} == {}
        assert marked(HERE / "refused.py") - set(found) == set()

    def test_refuse_every_method_without_its_session(self, request, checker, every_method):
        found = request.getfixturevalue(checker)["every_method.py"]
        lines = every_method.read_text(encoding="utf-8").splitlines()

        assert {lines[line - 1]: text for line, text in found.items() if line not in marked(every_method)} == {}
        assert [lines[line - 1] for line in sorted(marked(every_method) - set(found))] == []

    def test_take_what_is_right(self, request, checker):
        assert request.getfixturevalue(checker)["accepted.py"] == {}


class TestMarkers:
    def test_there_are_many(self):
        assert len(marked(HERE / "refused.py")) >= 50
        assert marked(HERE / "accepted.py") == set()

    def test_every_method_is_called(self, every_method):
        methods = list(public_methods())

        assert len(methods) >= 130
        assert len(marked(every_method)) >= len(NO_SESSIONS) * len(methods)
