"""Which tests run a line: measured once, by running the default suite with a context for each test."""

import os
import re
import subprocess
import sys
from collections import defaultdict
from functools import cached_property
from pathlib import Path

from coverage import CoverageData

MANY = 5
"""A module that more test files import than these is everybody's."""

_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


class Covering:
    """The tests of each line. Tests that fail by themselves are none."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root, self._folder, self._data = root, folder, folder / "coverage"
        self._lines: dict[Path, dict[int, list[str]]] = {}
        self._failing: set[str] = set()

    def measure(self, tests: list[str], *, anew: bool) -> None:
        """Run the suite, unless it was run before, and remember what ran what."""
        failing = self._folder / "failing"
        if anew or not (self._data.exists() and failing.exists()):
            options = ["--cov=derwin_db", "--cov-branch", "--cov-context=test", "--cov-report=", "-q", "-rfE", "-n", "auto"]
            options += ["-p", "tests.mutation.uncached"]
            command = [sys.executable, "-m", "pytest", *options, *tests]
            environment = {**os.environ, "COVERAGE_FILE": str(self._data)}
            done = subprocess.run(command, cwd=self._root, env=environment, text=True, check=False, capture_output=True)
            failing.write_text("\n".join(_FAILED.findall(done.stdout)))
            if not self._data.exists():
                raise SystemExit(done.stdout + done.stderr)
        self._failing = set(failing.read_text().split())
        self._read()

    def _read(self) -> None:
        data = CoverageData(str(self._data))
        data.read()
        for file in data.measured_files():
            lines: dict[int, list[str]] = defaultdict(list)
            for line, contexts in data.contexts_by_lineno(file).items():
                names = {context.partition("|")[0] for context in contexts if context}
                lines[line] = sorted(names - self._failing)
            self._lines[Path(file).relative_to(self._root)] = lines

    def tests_of(self, file: Path, line: int) -> list[str]:
        """Return the tests that run the line: test files that are named after its file or import it, its folder's, then others.

        What runs at import, or in a process of its own, is run by no test in particular. Then it is the files that name what
        the line assigns, the tests of the lines that use it, and all of its folder, of the folder that has its name, and of the
        contract.
        """
        own = Path("tests", *file.parts[1:2]).with_suffix("")
        names = self._lines.get(file, {}).get(line, [])
        if not names:
            folders = [str(folder) for folder in (Path("tests", file.stem), own) if (self._root / folder).is_dir()]
            return [*self._about_what_is_assigned(file, line), *self._files_about(file), *folders, "tests/contract"]
        near = [name for name in names if name.startswith(f"{own}/")]
        return [*self._files_about(file), *_spread(near), *_spread([name for name in names if name not in set(near)])]

    @cached_property
    def _test_files(self) -> dict[Path, str]:
        """The text of each test file."""
        return {path: path.read_text() for path in sorted(self._root.glob("tests/**/test_*.py"))}

    def _about_what_is_assigned(self, file: Path, line: int) -> list[str]:
        """Return the test files that have the name which the line assigns, and tests of the lines of its file that have it."""
        lines = (self._root / file).read_text().splitlines()
        assigned = re.match(r"\s*(\w+)\b[^=(]*=", lines[line - 1])
        if assigned is None:
            return []
        name = re.compile(rf"\b{assigned[1]}\b")
        files = [path for path, text in self._test_files.items() if name.search(text)]
        covered = self._lines.get(file, {})
        using = {test for at, text in enumerate(lines, 1) if name.search(text) for test in covered.get(at, [])}
        return [*(str(path.relative_to(self._root)) for path in files), *_spread(sorted(using))]

    def _files_about(self, file: Path) -> list[str]:
        """Return the test files that are named after it, and those that import it, unless that is what many do."""
        module = ".".join(file.with_suffix("").parts)
        words = f"from {module} import ", f"from {module.rpartition('.')[0]} import {file.stem}\n"
        named = [path for path in self._test_files if path.stem == f"test_{file.stem}"]
        importing = [path for path, text in self._test_files.items() if path not in named and any(one in text for one in words)]
        found = [*named, *(importing if len(importing) <= MANY else [])]
        return [str(path.relative_to(self._root)) for path in found]


def _spread(names: list[str]) -> list[str]:
    """Take by turns from each file."""
    by_file: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_file[name.partition("::")[0]].append(name)
    turns = max(map(len, by_file.values()), default=0)
    return [queue[turn] for turn in range(turns) for queue in by_file.values() if turn < len(queue)]
