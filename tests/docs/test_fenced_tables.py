"""The page on tables of a service's own, followed as it is written: its blocks are the files of a service."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from derwin_db.testing import TestDatabase, TestServer
from tests.docs.blocks import ROOT, texts
from tests.docs.conftest import environment_of
from tests.docs.test_blocks import BY_ITSELF, PLUGINS
from tests.forking import CLI, program

TABLES, ENV, FENCE, ROWS, ISOLATED = texts(BY_ITSELF, "python")
EXAMPLE = ROOT / "examples" / "service"
ALEMBIC = ["-m", "alembic", "-c", "alembic.ini"]

_ROWS = """
import asyncio
from derwin_db import Database
from derwin_db.filters import IS_NULL
from my_service.tables import WebhookCreate, WebhookEvent, webhooks

rows = [WebhookCreate(url=f"https://hooks.example.org/{{n}}", event=WebhookEvent.TICKET_RESOLVED) for n in range(2)]


async def main():
    async with Database() as db:
{block}
    print(hook.event, page.items == [hook], page.total, report.inserted, len(report.failures))


asyncio.run(main())
"""
_ISOLATED = """
from derwin_db.testing import assert_isolated
from my_service.tables import webhooks


async def my_report(session):
    return [row.id for row in (await webhooks.list(session)).items]


{block}
"""
_PYTEST = """
[tool.pytest.ini_options]
derwin_alembic = "alembic.ini"
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "session"
asyncio_default_test_loop_scope = "session"
"""


class Service:
    """A folder with the files of the page, and the commands that are run in it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = {**environment, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
        (folder / "my_service").mkdir()
        (folder / "my_service" / "__init__.py").touch()
        (folder / "my_service" / "tables.py").write_text(TABLES)
        (folder / "migrations" / "versions").mkdir(parents=True)
        (folder / "migrations" / "env.py").write_text(ENV)
        shutil.copy(EXAMPLE / "migrations" / "script.py.mako", folder / "migrations")
        shutil.copy(EXAMPLE / "alembic.ini", folder)

    def run(self, *arguments: str) -> str:
        """Run Python with these arguments."""
        command = [sys.executable, *arguments]
        result = subprocess.run(command, env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def fork(self, code: str, *arguments: str) -> None:
        """Run a program that does the same in a process that has its imports."""
        result = program(code, *arguments, environment=self.environment, cwd=self.folder)
        assert result.returncode == 0, result.stdout + result.stderr

    def add_the_fence(self) -> None:
        """Add to the revision what the page adds to it: the import, and the line behind what Alembic wrote."""
        (revision,) = (self.folder / "migrations" / "versions").glob("*.py")
        imported, line = FENCE.splitlines()[0], FENCE.splitlines()[-1]
        assert (imported.startswith("from "), line.startswith("    fence(")) == (True, True)
        end = "    # ### end Alembic commands ###\n"
        before, after = revision.read_text().split(end, 1)
        assert 'op.create_table(\n        "webhooks"' in before or "op.create_table('webhooks'" in before
        head = before.replace("from alembic import op\n", f"from alembic import op\n{imported}\n", 1)
        assert imported in head
        revision.write_text(f"{head}{end}{line}\n{after}")


@pytest.fixture(scope="module")
def service(server: TestServer, seeded: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """The page's service, migrated by both chains."""
    service = Service(tmp_path_factory.mktemp("service"), environment_of(server, server.clone(seeded)))
    service.run(*ALEMBIC, "revision", "--autogenerate", "-m", "create webhooks")
    service.add_the_fence()
    assert "`derwin-db migrate --then alembic.ini`" in BY_ITSELF.read_text()
    service.fork(CLI, "migrate", "--then", "alembic.ini")
    return service


class TestPage:
    def test_leads_to_a_fenced_table(self, service: Service) -> None:
        service.fork("from alembic.config import main; main(prog='alembic')", "-c", "alembic.ini", "check")
        script = service.folder / "rows.py"
        script.write_text(_ROWS.format(block=textwrap.indent(ROWS, " " * 8)))
        assert service.run("-W", "error", str(script)) == "TICKET_OPENED True 1 2 0\n"

    def test_tells_how_a_query_is_proven_isolated(self, service: Service) -> None:
        (service.folder / "pyproject.toml").write_text(_PYTEST)
        script = service.folder / "test_report.py"
        script.write_text(_ISOLATED.format(block=ISOLATED))
        assert "1 passed" in service.run("-W", "error", "-m", "pytest", *PLUGINS, str(script))
