"""What prose names is there: files, modules, make targets, settings, methods. One version of each thing is named everywhere.

Prose is the README, CONTRIBUTING, the pages of docs/, the Makefile, the SQL entities, and every comment and docstring.
"""

import ast
import io
import re
import subprocess
import tokenize
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from derwin_db import repos
from derwin_db.doctor.server import OLDEST_VERSION
from derwin_db.settings import Settings
from tests.docs.blocks import ROOT

LISTED = subprocess.run(
    ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
).stdout.split("\0")
FILES = [name for name in LISTED if name and (ROOT / name).is_file()]
FROZEN = {line.split("  ")[0] for line in (ROOT / "alembic" / "frozen.sha256").read_text().splitlines()}
PAGES = [name for name in FILES if name.endswith(".md") and name != "CHANGELOG.md"]
PROSE = [
    *PAGES,
    *(name for name in FILES if name.endswith((".sql", ".mako", ".example", ".yaml")) or name in {"Makefile", "alembic.ini"}),
    *(name for name in FILES if name.endswith(".py")),
]
CURRENT = [name for name in PROSE if Path(name).name not in FROZEN]
"""Frozen files say what was true when they landed."""

NO_FILES = {"session.sql", "derwin_db.sql"}
"""What looks like a file and is an attribute."""
PLANNED = {name for name in FILES if name == "CONTRIBUTING.md"}
"""Where files are named that a recipe makes: `test_recipes.py` makes them."""


@cache
def prose(name: str) -> str:
    """The text of a page; of code its comments and docstrings."""
    text = (ROOT / name).read_text()
    if not name.endswith(".py"):
        return text
    comments = [
        token.string for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT
    ]
    docstrings = [
        node.value.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    return "\n".join((*comments, *docstrings))


def named(pattern: str, names: list[str]) -> set[tuple[str, str]]:
    """What a pattern finds, with the file where it is."""
    return {(name, found) for name in names for found in re.findall(pattern, prose(name))}


class TestFiles:
    PATTERN = (
        r"(?<![\w./<>*{-])((?:\.\.?/)*(?:[\w-]+/)*\.?[\w-]+(?:\.v\d+)?"
        r"\.(?:py|md|toml|yml|yaml|ini|mako|sha256|sql))\b(?![\w(*.])"
    )

    @staticmethod
    def is_there(name: str, path: str) -> bool:
        if (ROOT / path).exists() or ((ROOT / name).parent / path).exists():
            return True
        ending = "/" + path.lstrip("./")
        return any(f"/{listed}".endswith(ending) for listed in FILES)

    def test_are_there(self) -> None:
        found = {(name, path) for name, path in named(self.PATTERN, CURRENT) if path not in NO_FILES}
        assert len(found) > 150
        assert {(name, path) for name, path in found if name not in PLANNED and not self.is_there(name, path)} == set()

    def test_one_that_is_not_would_be_seen(self) -> None:
        assert re.findall(self.PATTERN, "see docs/nowhere.md, (robustness.md) and `sql/x.v1.sql`.") == [
            "docs/nowhere.md",
            "robustness.md",
            "sql/x.v1.sql",
        ]
        assert not self.is_there("README.md", "docs/nowhere.md")
        assert self.is_there("README.md", "qa_ticket.py")


class TestModules:
    PATTERN = r"(?<![\w./-])((?:derwin_db|tests|benchmarks|examples)(?:\.[a-zA-Z_]\w*)+)\b(?!\.\w+\.sql)"

    @staticmethod
    @cache
    def loggers_and_spans() -> frozenset[str]:
        found = set()
        for name in FILES:
            if name.startswith("derwin_db/") and name.endswith(".py"):
                found.update(re.findall(r'"(derwin_db(?:\.\w+)+)"', (ROOT / name).read_text()))
        return frozenset({*found, "derwin_db.project", "derwin_db.admin"})  # spans of units of work

    @classmethod
    def is_there(cls, name: str) -> bool:
        parts = name.split(".")
        if parts[-1] in {"py", "md"} or name in cls.loggers_and_spans():
            return True
        for length in range(len(parts), 0, -1):
            path = ROOT.joinpath(*parts[:length])
            if path.is_dir() or path.with_suffix(".py").exists():
                break
        else:
            return False
        if length == len(parts):
            return True
        target = import_module(".".join(parts[:length]))
        for part in parts[length:]:
            if not hasattr(target, part):
                return part in getattr(target, "__annotations__", {})
            target = getattr(target, part)
        return True

    def test_are_there(self) -> None:
        found = named(self.PATTERN, [name for name in CURRENT if name not in PLANNED])
        assert len(found) > 80
        assert {(name, module) for name, module in found if not self.is_there(module)} == set()

    @pytest.mark.parametrize("module", ["derwin_db.nowhere", "derwin_db.database.Nothing", "tests.nowhere"])
    def test_one_that_is_not_would_be_seen(self, module: str) -> None:
        assert not self.is_there(module)


class TestTargets:
    def test_of_make_are_there(self) -> None:
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        found = named(r"(?:`|\$ |`\S+=\S+ )make ([a-z][a-z-]*)", CURRENT)
        assert len({target for _, target in found}) > 10
        assert {(name, target) for name, target in found if target not in targets} == set()


class TestSettings:
    def test_are_there(self) -> None:
        ours = {f"DERWIN_{name.upper()}" for name in Settings.model_fields}
        read = set(
            re.findall(r'"(DERWIN_[A-Z_]+)"', "".join((ROOT / name).read_text() for name in FILES if name.endswith(".py")))
        )
        found = named(r"(?<![A-Z_])DERWIN_[A-Z_]*[A-Z]\b", [name for name in CURRENT if name != "derwin_db/fields/scalars.py"])
        assert len({setting for _, setting in found}) > 15
        assert {(name, setting) for name, setting in found if setting not in ours | read} == set()


class TestMethods:
    def test_of_repositories_are_there(self) -> None:
        found = named(r"(?<!derwin_db\.)\brepos\.(\w+\.\w+)", [name for name in CURRENT if name not in PLANNED])
        files = {"py", "md"}
        assert len(found) > 60
        assert {
            (name, method)
            for name, method in found
            for table, _, verb in [method.partition(".")]
            if table in repos.__all__ and verb not in files and not hasattr(getattr(repos, table), verb)
        } == set()


class TestVersions:
    """The lowest versions that are served: one number everywhere."""

    LOWEST = {"PostgreSQL": "16", "pgvector": "0.8", "Python": "3.11"}

    @pytest.mark.parametrize("product", LOWEST)
    def test_are_one_number(self, product: str) -> None:
        found = named(rf"{product} (\d+(?:\.\d+)?) or newer", CURRENT)
        assert found
        assert {version for _, version in found} == {self.LOWEST[product]}

    def test_of_python_is_that_of_the_package(self) -> None:
        assert f'requires-python = ">={self.LOWEST["Python"]}"' in (ROOT / "pyproject.toml").read_text()

    def test_of_postgresql_is_what_the_doctor_asks_for(self) -> None:
        assert str(OLDEST_VERSION) == self.LOWEST["PostgreSQL"]


class TestNavigation:
    @staticmethod
    def paths(items: list[object]) -> list[str]:
        found = []
        for item in items:
            values = item.values() if isinstance(item, dict) else [item]
            for value in values:
                found += TestNavigation.paths(value) if isinstance(value, list) else [str(value)]
        return found

    def test_has_every_page_once(self) -> None:
        text = (ROOT / "mkdocs.yml").read_text()
        nav = yaml.safe_load(text[text.index("\nnav:") :])["nav"]
        pages = [name.removeprefix("docs/") for name in PAGES if name.startswith("docs/")]
        assert sorted(self.paths(nav)) == sorted(pages)


class TestTables:
    def test_have_as_many_cells_in_each_row(self) -> None:
        tables = [
            (name, table) for name in PAGES for table in re.findall(r"(?:^\|.*\|\n)+", (ROOT / name).read_text(), re.MULTILINE)
        ]
        assert len(tables) > 50
        uneven = {}
        for name, table in tables:
            rows = [re.sub(r"`[^`]*`|\\\|", "", row).count("|") for row in table.splitlines()]
            if len(set(rows)) > 1:
                uneven[name] = table.splitlines()[next(n for n, cells in enumerate(rows) if cells != rows[0])]
        assert uneven == {}


class TestDocstrings:
    def test_use_the_labels_of_the_style_page(self) -> None:
        style = (ROOT / "docs" / "contributing" / "style.md").read_text()
        labels = set(re.findall(r"^\| ([A-Z]\w+) \| ", style, re.MULTILINE))
        code = [name for name in FILES if name.startswith("derwin_db/") and name.endswith(".py")]
        found = named(r"(?m)^ *([A-Z]\w+):$(?=\n\s+\S)", code)
        assert len(found) > 50
        assert {(name, label) for name, label in found if label not in labels} == set()

    def test_have_each_label_on_a_line_of_its_own(self) -> None:
        code = [name for name in FILES if name.startswith("derwin_db/") and name.endswith(".py")]
        assert named(r"(?m)^        (Errors|Cost|Order|Locks|Shape|Units|JsonModel): \S", code) == set()
