"""The Pythons of this machine that the package serves."""

import os
import shutil
import subprocess
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13")


def _candidates(version: str) -> list[str]:
    """Return where a Python of this version may be: on the PATH, or among pyenv's, whose shims run only the chosen one."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = shutil.which(f"python{version}")
    return [*([found] if found else []), *map(str, sorted(root.glob(f"versions/{version}.*/bin/python")))]


def _is(python: str, version: str) -> bool:
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == version


def pythons() -> dict[str, str]:
    """Return the interpreters that are here, by version."""
    found = {}
    for version in VERSIONS:
        for python in _candidates(version):
            if _is(python, version):
                found[version] = python
                break
    return found
