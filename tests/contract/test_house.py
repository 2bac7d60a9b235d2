"""The package keeps its shape: layers, no other configuration, no path to an unscoped statement."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

from derwin_db import repos
from derwin_db.deploy.migrations import script_folder

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "derwin_db").rglob("*.py"))


class TestFolders:
    def test_imports_go_down(self) -> None:
        result = subprocess.run(
            [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout

    def test_the_folder_of_revisions_is_no_package(self) -> None:
        assert not (script_folder() / "__init__.py").exists()

    def test_only_units_of_work_begin_and_end_transactions(self) -> None:
        """Whoever else is here connects for itself."""
        own = {"unit/transaction.py", "unit/lent.py", "unit/backend.py", "isolation/preamble.py", "session.py"}
        others = {
            "connection/ending.py",
            "connection/pool.py",
            "deploy/fences.py",
            "connection/driver.py",
            "connection/facts.py",
            "deploy/migrations.py",
            "deploy/obstacles.py",
            "deploy/targets.py",
            "deploy/logins.py",
            "unit/lent.py",
        }
        allowed = {*own, *others, "deploy/logins.py", "doctor/__init__.py", "doctor/server.py"}
        allowed.add("studio/sql_box.py")  # a limit for its one statement, in a unit of work
        pattern = re.compile(r"\b(BEGIN|COMMIT|SET LOCAL|SET ROLE)\b")
        sources = {str(path.relative_to(ROOT / "derwin_db")): _code(path) for path in SOURCES if "testing" not in path.parts}
        assert {name for name, code in sources.items() if pattern.search(code)} - allowed == set()

    def test_values_are_frozen(self) -> None:
        """A class of data that is changed after it was made has its line here."""
        changed = {"Backend", "_Waiter", "Listing", "Chart", "Report"}
        classes = [node for path in SOURCES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
        markers = {
            node.name: ast.unparse(one) for node in classes for one in node.decorator_list if "dataclass" in ast.unparse(one)
        }
        assert {name for name, marker in markers.items() if "frozen=True" not in marker} == changed

    def test_every_filter_may_be_left_out(self) -> None:
        """Services build on the types of filters; a key that had to be there would be asked for by what reads them."""
        modules = [importlib.import_module(f"derwin_db.repos.{name}") for name in repos.__all__]
        kinds = {kind for module in modules for name, kind in vars(module).items() if name.endswith("Filters")}
        assert len(kinds) > 14
        assert [kind for kind in kinds if kind.__total__] == []

    def test_repositories_start_from_a_scope(self) -> None:
        """sa.select / update / insert in a repository is for the admin door, or carries its scope itself; `text` is nowhere."""
        files = list((ROOT / "derwin_db" / "repos").rglob("*.py"))
        assert len(files) > 14
        for path in files:
            assert "sa.text(" not in path.read_text(), path.name
            assert "set_config" not in path.read_text(), path.name


def _code(path: Path) -> str:
    """The file without docstrings and comments."""
    text = re.sub(r'"""[\s\S]*?"""', "", path.read_text())
    return re.sub(r"#.*", "", text)
