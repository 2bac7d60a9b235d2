"""`make test-previous`: the tests of units and repositories of the release before, on the schema of this code.

The release is taken out of git into a folder of its own: the newest tag, or what `--release` names, or where there is no tag
the last commit whose code expected another revision. A clone that is shallow fetches what it needs. Its tests run with its own
code; only the database that they test on is migrated by this checkout, in a process of its own (`previous_plugin`).
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ("tests/unit", "tests/repos")
_HEAD = "derwin_db/sql/__init__.py"


def git(*arguments: str) -> str:
    """Run git in this checkout and return what it prints.

    Errors:
        subprocess.CalledProcessError.
    """
    run = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return run.stdout.strip()


def release_before() -> str:
    """Return the newest tag of a version that is not this commit, else the last commit with another head of the schema."""
    here = git("rev-parse", "HEAD")
    is_shallow = git("rev-parse", "--is-shallow-repository") == "true"
    if is_shallow:
        git("fetch", "--quiet", "--tags", "--depth=1", "origin")
    for tag in git("tag", "--list", "v[0-9]*", "--sort=-version:refname").splitlines():
        if git("rev-parse", f"{tag}^{{commit}}") != here:
            return tag
    if is_shallow:
        git("fetch", "--quiet", "--unshallow", "origin", here)
    changed = git("log", "-1", "--format=%H", "-G^HEAD_REVISION = ", "--", _HEAD)
    return git("rev-parse", f"{changed}^")


def commit_of(release: str) -> str:
    """Return the commit; it is fetched alone where it is not here."""
    try:
        return git("rev-parse", "--verify", f"{release}^{{commit}}")
    except subprocess.CalledProcessError:
        git("fetch", "--quiet", "--depth=1", "origin", release)
        return git("rev-parse", "FETCH_HEAD")


def take_out(commit: str, folder: Path) -> None:
    """Write the files of the commit into the folder."""
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


def run_tests(folder: Path, arguments: list[str]) -> int:
    """Run tests of the release, on databases that this code migrates."""
    plugin = folder / "previous_plugin.py"
    plugin.write_text((ROOT / "tests" / "deploy" / "previous_plugin.py").read_text())
    environment = {**os.environ, "PYTHONPATH": str(folder), "DERWIN_NEW_CODE": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-p", "previous_plugin", "-p", "no:cacheprovider", "-q", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--release", default=os.environ.get("PREVIOUS") or None, help="a tag, a branch or a commit")
    parser.add_argument("tests", nargs="*", help=f"what is run (else {' '.join(TESTS)}), and options of pytest behind --")
    options = parser.parse_args()
    try:
        release = options.release or release_before()
        commit = commit_of(release)
    except subprocess.CalledProcessError as error:
        sys.exit(f"The release before can't be had from git: {error.stderr.strip()}")
    with tempfile.TemporaryDirectory(prefix="derwin-previous-") as name:
        folder = Path(name)
        take_out(commit, folder)
        print(f"The tests of {release} ({commit[:10]}) on the schema of this code", flush=True)
        there = [test for test in TESTS if (folder / test).exists()]
        sys.exit(run_tests(folder, ["-n", "auto", *(options.tests or there)]))


if __name__ == "__main__":
    main()
