"""A project of somebody else's that has the wheel installed, and runs its own tests with it."""

import os
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from derwin_db.testing import TestServer
from derwin_db.testing.server import url_of

ROOT = Path(__file__).parents[2]

_ALONE = ("-p", "no:cacheprovider", "-p", "no:schemathesis", "-p", "no:hypothesispytest")
"""Plugins that take seconds to load, and are none of the consumer's."""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path) -> Path:
    """The wheel, unpacked: its entry points are found as after an installation."""
    target = wheel.parent / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


@pytest.fixture
def consume(installed: Path, server: TestServer, tmp_path: Path) -> Run:
    """Writes the files of a project, and runs pytest in it with these options."""

    def run(
        *options: str, embedded: bool = False, python: str = sys.executable, site: str | None = None, **files: str
    ) -> subprocess.CompletedProcess[str]:
        for name, text in files.items():
            (tmp_path / f"{name}.{'ini' if name == 'pytest' else 'py'}").write_text(textwrap.dedent(text))
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "DERWIN", "COV_"))}
        environment["PYTHONPATH"] = str(installed) if site is None else site
        if not embedded:
            environment["DERWIN_TEST_DATABASE_URL"] = url_of(server.owner)
        return subprocess.run(
            [python, "-m", "pytest", "-q", *_ALONE, "--rootdir", str(tmp_path), *options],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run
