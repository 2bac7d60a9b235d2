"""`make flaky`: the default suite again and again, in another order each time, on a machine that has no time for it.

    python -m tests.flaky --runs 20
    python -m tests.flaky --runs 20 --together 4                # four at a time: they load the machine themselves
    python -m tests.flaky --runs 3 tests/repos tests/faults     # a part of it

Processes that only burn CPU bring the load above 8 on two cores, and answers of servers come late by chance (`tests/late.py`).
Each run prints its seed, by which its order can be repeated (`pytest --random-order-seed=SEED`), and what failed. Ends with 1
if anything did.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
_COUNTS = re.compile(r"^=* ?(\d+ .*) in [\d.]+s", re.MULTILINE)


@contextmanager
def burners(number: int) -> Iterator[None]:
    """Have so many processes burn CPU."""
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for one in burning:
            one.kill()
            one.wait()


@dataclass(frozen=True)
class Run:
    """One run: its number from 1 and its seed."""

    number: int
    seed: int

    def run(self, tests: list[str], logs: Path) -> list[str]:
        """Run the tests in the order of the seed, and say what came of it. Returns the names of those that failed."""
        began, log = time.monotonic(), logs / f"{self.number}.log"
        order = ["--random-order", "--random-order-bucket=class", f"--random-order-seed={self.seed}"]
        apart = ["-p", "no:cacheprovider", f"--basetemp={logs / f'tmp-{self.number}'}"]  # pytest's own folders keep three runs
        command = [sys.executable, "-m", "pytest", "-q", "-rfE", "-n", "auto", *apart, *order, *tests]
        with log.open("w") as file:
            code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
        said = log.read_text()
        counts = (_COUNTS.findall(said) or [f"pytest ended with {code}"])[-1]
        load = os.getloadavg()[0]
        failed = _FAILED.findall(said) or ([f"pytest ended with {code}"] if code else [])
        lines = [f"run {self.number}, seed {self.seed}: {counts}, {time.monotonic() - began:.0f} s, load {load:.1f}"]
        print("\n".join([*lines, *(f"    {name}   ({log})" for name in failed)]), flush=True)
        return failed


def main() -> int:
    """Run, count, and say what failed how often."""
    parser = argparse.ArgumentParser(description="The default suite in random order, under load.")
    parser.add_argument("tests", nargs="*", help="files, folders and options of pytest (default: all)")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--together", type=int, default=1, help="how many at a time")
    parser.add_argument("--burners", type=int, default=3 * (os.cpu_count() or 2), help="processes that burn CPU")
    parser.add_argument(
        "--late", action=argparse.BooleanOptionalAction, default=True, help="whether answers come late by chance"
    )
    parser.add_argument(
        "--seed", type=int, default=random.randrange(2**32), help="of the first run; the next one takes the next"
    )
    given = parser.parse_args()
    logs = Path(tempfile.mkdtemp(prefix="derwin-flaky-"))
    tests = ["-ptests.late", *given.tests] if given.late else given.tests
    runs = [Run(number + 1, given.seed + number) for number in range(given.runs)]
    with burners(given.burners), ThreadPoolExecutor(given.together) as together:
        outcomes = list(together.map(lambda one: one.run(tests, logs), runs))
    green = outcomes.count([])
    print(f"\n{green} of {given.runs} green")
    for name, count in Counter(name for failed in outcomes for name in failed).most_common():
        print(f"{count:4} {name}")
    return 0 if green == given.runs else 1


if __name__ == "__main__":
    sys.exit(main())
