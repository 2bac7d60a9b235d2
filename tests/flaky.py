"""`make flaky`: the default suite again and again, in another order each time, on a machine that has no time for it.

    python -m tests.flaky --runs 20
    python -m tests.flaky --runs 3 tests/repos tests/faults     # a part of it

Processes that only burn CPU bring the load above 8 on two cores. Each run prints its seed, by which it can be repeated
(`pytest --random-order-seed=SEED`), and what failed. Ends with 1 if anything did.
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
from contextlib import contextmanager
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


def run(seed: int, tests: list[str], log: Path) -> list[str]:
    """Run the tests once, in the order of this seed. Returns the names of those that failed."""
    order = ["--random-order", "--random-order-bucket=class", f"--random-order-seed={seed}"]
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "-n", "auto", *order, *tests]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    log.write_text(done.stdout)
    counts = _COUNTS.findall(done.stdout)
    print(counts[-1] if counts else f"ended with {done.returncode}", end=", ")
    return _FAILED.findall(done.stdout) or ([f"pytest ended with {done.returncode}"] if done.returncode else [])


def main() -> int:
    """Run, count, and say what failed how often."""
    parser = argparse.ArgumentParser(description="The default suite in random order, under load.")
    parser.add_argument("tests", nargs="*", help="files, folders and options of pytest (default: all)")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--burners", type=int, default=4 * (os.cpu_count() or 2), help="processes that burn CPU")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(2**32), help="of the first run; the next one takes the next"
    )
    given = parser.parse_args()
    failed: Counter[str] = Counter()
    green = 0
    logs = Path(tempfile.mkdtemp(prefix="derwin-flaky-"))
    with burners(given.burners):
        for number in range(given.runs):
            seed, began, log = given.seed + number, time.monotonic(), logs / f"{number + 1}.log"
            print(f"run {number + 1} of {given.runs}, seed {seed}: ", end="", flush=True)
            names = run(seed, given.tests, log)
            print(f"{time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f}", flush=True)
            for name in names:
                print(f"    {name}   ({log})", flush=True)
            failed.update(names)
            green += not names
    print(f"\n{green} of {given.runs} green")
    for name, count in failed.most_common():
        print(f"{count:4} {name}")
    return 0 if green == given.runs else 1


if __name__ == "__main__":
    sys.exit(main())
