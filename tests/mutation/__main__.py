"""`make mutate`: change the package in small ways, one at a time, and see which change no test notices.

    python -m tests.mutation --minutes 60
    python -m tests.mutation --minutes 5 --only derwin_db/settings     # one folder
    python -m tests.mutation --measure                                 # which tests run which line: again

First the default suite runs once, to see which tests run each line (`.mutation/`, kept); the package's caches are emptied
before each test. Then mutants are drawn by chance for as long as there is time, on as many copies of the tree as there are
processors; each meets the tests that run its line. What survives is printed with its line before and after, and stands in
`.mutation/survivors.txt`. Ends with 1 below 0.9.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from derwin_db.testing.server import _embedded, url_of
from tests.mutation.covering import Covering
from tests.mutation.mutants import Mutant, equivalents, mutants

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".mutation"
LEAST = 0.9
FIRST, ALL = 12, 600
"""How many tests a mutant meets at first, and how many in all if it survives these."""


@dataclass
class Result:
    """What became of the mutants."""

    until: float
    queue: list[Mutant]
    covering: Covering
    counts: Counter[str] = field(default_factory=Counter)
    survivors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self) -> Mutant | None:
        """Return the next mutant while there is time."""
        with self.lock:
            return self.queue.pop() if self.queue and time.monotonic() < self.until else None

    def add(self, mutant: Mutant, outcome: str, root: Path) -> None:
        """Count it, and tell of it if it lives."""
        with self.lock:
            self.counts[outcome] += 1
            if outcome == "survived":
                before, after = mutant.difference(root)
                self.survivors.append(f"{mutant}\n    - {before}\n    + {after}")
                print(self.survivors[-1], flush=True)


class Copy:
    """A copy of the tree in which one file at a time is another one, and the server that its tests run on."""

    def __init__(self, number: int, url: str) -> None:
        self.root = FOLDER / f"copy-{number}"
        shutil.rmtree(self.root, ignore_errors=True)
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, listed.split("\0")):
            target = self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).exists():
                shutil.copy2(ROOT / name, target)
        self._environment = {**os.environ, "PYTHONPATH": str(self.root), "DERWIN_TEST_DATABASE_URL": url}

    def outcome(self, mutant: Mutant, tests: list[str]) -> str:
        """Make the change, run the tests, and take it back. The tree itself may be worked on meanwhile."""
        changed = mutant.changed(self.root)
        if changed is None:
            return "no change"
        if (str(mutant.file), *mutant.difference(self.root)) in equivalents():
            return "equivalent"
        file = self.root / mutant.file
        original = file.read_text()
        file.write_text(changed)
        try:
            for chosen in (tests[:FIRST], tests[FIRST:ALL]):
                if chosen and self._fails(chosen):
                    return "killed"
            return "survived"
        finally:
            file.write_text(original)

    def _fails(self, tests: list[str]) -> bool:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--timeout=60", "-p", "no:random_order", *tests]
        try:
            done = subprocess.run(
                command, cwd=self.root, env=self._environment, check=False, capture_output=True, text=True, timeout=300
            )
        except subprocess.TimeoutExpired:
            return True
        if "ERROR: not found" in done.stdout + done.stderr:  # a name that is made by chance
            return self._fails(list(dict.fromkeys(name.partition("::")[0] for name in tests)))
        return done.returncode != 0


def work(copy: Copy, result: Result) -> None:
    """Take one mutant after the other."""
    while (mutant := result.next()) is not None:
        result.add(mutant, copy.outcome(mutant, result.covering.tests_of(mutant.file, mutant.line)), copy.root)


def main() -> int:
    """Draw mutants, count what became of them, and name those that survived."""
    parser = argparse.ArgumentParser(description="Mutation testing of the package.")
    parser.add_argument("--minutes", type=float, default=60, help="how long, without the measurement before")
    parser.add_argument("--only", default="derwin_db", help="a folder or a file of the package")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--measure", action="store_true", help="see anew which tests run which line")
    parser.add_argument("--copies", type=int, default=os.cpu_count() or 2)
    parser.add_argument("tests", nargs="*", help="tests that are looked at (default: all)")
    given = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    covering = Covering(ROOT, FOLDER)
    covering.measure(given.tests, anew=given.measure)
    queue = [mutant for mutant in mutants(ROOT) if str(mutant.file).startswith(given.only)]
    total = len(queue)
    random.Random(given.seed).shuffle(queue)
    print(f"{total} mutants of {given.only}, seed {given.seed}", flush=True)
    result = Result(time.monotonic() + 60 * given.minutes, queue, covering)
    with ExitStack() as stack:
        copies = [Copy(number, url_of(stack.enter_context(_embedded()))) for number in range(given.copies)]
        with ThreadPoolExecutor(given.copies) as together:
            list(together.map(lambda copy: work(copy, result), copies))
    killed, survived = result.counts["killed"], result.counts["survived"]
    score = killed / max(killed + survived, 1)
    (FOLDER / "survivors.txt").write_text("\n".join(result.survivors))
    print(f"{killed + survived} of {total} mutants tried: {killed} killed, {survived} survived, score {score:.2f}")
    print(f"not counted: {result.counts['equivalent']} equivalent")
    return 0 if score >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
