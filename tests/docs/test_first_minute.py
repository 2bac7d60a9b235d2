"""What a newcomer does, in one data folder: the README and the tutorial in their order, everything twice, and in any order."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from derwin_db.deploy import embedded
from derwin_db.testing.folder import server_folder
from tests.docs.blocks import README, ROOT, texts
from tests.forking import CLI, derwin_db, program

Step = Callable[[], str]
TUTORIAL = ROOT / "docs" / "tutorial.md"
PREPARE = "import asyncio; from examples.service.demo import prepare; asyncio.run(prepare())"
STUDIO = "import asyncio; from derwin_db.cli import studio; studio._migrate(); asyncio.run(studio._fill(as_json=False))"


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """That of a newcomer: no URL is set, and the embedded server has a data folder of its own."""
    clean = {key: value for key, value in os.environ.items() if not key.endswith("_URL") and not key.startswith("DERWIN_")}
    with server_folder("derwin-first-") as folder:
        try:
            yield {**clean, "PYTHONPATH": str(ROOT), "DERWIN_DATA_DIR": str(folder / "data")}
        finally:
            embedded.abandon(folder / "data")


@pytest.fixture(scope="module")
def first(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The first command of all."""
    return derwin_db("migrate", environment=environment)


@pytest.fixture(scope="module")
def run(environment: dict[str, str], first: object) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs commands and programs as a newcomer has them."""

    def call(code: str, *arguments: str, cwd: Path | str = "/") -> subprocess.CompletedProcess[str]:
        if code == CLI:
            return derwin_db(*arguments, environment=environment, cwd=cwd)
        return program(code, environment=environment, cwd=cwd, warnings="error::RuntimeWarning")

    return call


def blocks() -> list[str]:
    """The README's programs (its tests take a fixture, and run in test_blocks.py), then the tutorial."""
    programs = [text for text in texts(README, "python") if "def test_" not in text]
    return [*programs, "\n\n".join(texts(TUTORIAL, "python"))]


class TestFirstMinute:
    def test_everything_follows_everything_twice(self, run) -> None:
        def cli(*arguments: str) -> Step:
            return lambda: run(CLI, *arguments)

        seed = [cli("migrate"), cli("seed")]
        pages: list[Step] = [lambda code=code: run(code) for code in blocks()]
        serve, studio, demo = (lambda: run(PREPARE)), (lambda: run(STUDIO)), cli("seed", "--demo")
        first = [*seed, *pages, serve, studio, demo]
        for step in [*first, *reversed(first)]:
            result = step()
            assert result.returncode == 0, result.stdout + result.stderr
        counts = run(CLI, "psql", "-Atc", "SELECT count(*) FROM qa_runs WHERE target_url LIKE '%lifeline%'").stdout.strip()
        assert counts == "24"  # the demo's runs, once

    def test_progress_is_told_from_the_first_second(self, first: subprocess.CompletedProcess[str]) -> None:
        assert first.returncode == 0
        told = first.stderr.splitlines()
        assert told[0].startswith("making an embedded PostgreSQL server in ")
        assert told[1].startswith("starting the embedded PostgreSQL server in ")
        assert [line.split()[0] for line in told[2:]] == ["applied"] * (len(told) - 2)
        assert len(told) > 5

    def test_hints_work_as_printed(self, run) -> None:
        assert run(CLI, "migrate").returncode == 0
        result = run(CLI, "seed")
        hints = [line.strip().split("   ")[0] for line in result.stdout.split("Next:")[1].splitlines() if line.strip()]
        assert len(hints) >= 2
        import shlex

        for hint in hints:
            _, *arguments = shlex.split(hint)
            result = run(CLI, *arguments)
            assert result.returncode == 0, (hint, result.stderr)

    def test_scale_without_demo_is_wrong_usage(self, run) -> None:
        result = run(CLI, "seed", "--scale", "3")
        assert (result.returncode, "--demo" in result.stderr) == (2, True)

    def test_another_scale_and_another_day_add_nothing(self, run) -> None:
        tomorrow = (
            "import asyncio\nfrom datetime import UTC, datetime, timedelta\nfrom derwin_db import Database\n"
            "from derwin_db.seed import seed_demo\n"
            "async def main():\n    async with Database() as db:\n"
            "        print(await seed_demo(db, scale=2, now=datetime.now(UTC) + timedelta(days=1)))\n"
            "asyncio.run(main())"
        )
        count = ("psql", "-Atc", "SELECT count(*) FROM raw_signals UNION ALL SELECT count(*) FROM spend_ledger")
        assert [run(CLI, *arguments).returncode for arguments in (("migrate",), ("seed", "--demo"))] == [0, 0]
        before = run(CLI, *count).stdout
        assert "runs=24" in run(tomorrow).stdout
        assert "of another scale is there" in run(CLI, "seed", "--demo", "--scale", "2").stdout
        assert run(CLI, *count).stdout == before


class TestInit:
    def test_writes_a_service_that_works(self, run, tmp_path: Path) -> None:
        folder = tmp_path / "mine"
        assert run(CLI, "init", str(folder)).returncode == 0
        assert sorted(path.name for path in folder.iterdir()) == [".env", "service.py"]
        for step in ("migrate", "seed"):
            assert run(CLI, step, cwd=folder).returncode == 0
        asks = (
            "import asyncio, sys, httpx\nsys.path.insert(0, '.')\nfrom service import app, db\n"
            "async def main():\n"
            "    async with db, httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url='http://x') as client:\n"
            "        paths = ('/projects/lifeline/tickets', '/projects/no/tickets', '/health/ready', '/openapi.json')\n"
            "        print([(await client.get(path)).status_code for path in paths])\n"
            "asyncio.run(main())"
        )
        result = run(asks, cwd=folder)
        assert result.stdout.strip() == "[200, 404, 200, 200]", result.stderr

    def test_overwrites_nothing(self, run, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("mine")
        result = run(CLI, "init", str(tmp_path))
        assert (result.returncode, ".env" in result.stderr) == (3, True)
        assert [path.name for path in tmp_path.iterdir()] == [".env"]
        assert (tmp_path / ".env").read_text() == "mine"
