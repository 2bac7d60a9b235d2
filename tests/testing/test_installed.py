"""The wheel as a consumer gets it: installed with its extras into an environment of its own, from the package index."""

import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from derwin_db.testing import TestServer
from derwin_db.testing.server import url_of
from tests.docs.blocks import ROOT, texts
from tests.testing.pythons import VERSIONS, pythons

Run = Callable[..., subprocess.CompletedProcess[str]]

SETTINGS = """
    [pytest]
    asyncio_mode = auto
    asyncio_default_fixture_loop_scope = function
"""
SERVICE = """
    from typing import Annotated

    import httpx
    from derwin_db import Database, Page, ProjectSession, repos
    from derwin_db.fastapi import Paging, install_error_handlers, scoped
    from derwin_db.models import QATicket
    from derwin_db.testing.factories import create_ticket
    from fastapi import FastAPI, HTTPException

    def nobody(project: str) -> str:
        raise HTTPException(403)

    db = Database("postgresql://nobody@127.0.0.1:1/nothing")
    ReadScoped = Annotated[ProjectSession, scoped(db, authorize=nobody, read_only=True)]
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/projects/{project}/tickets")
    async def tickets(session: ReadScoped, paging: Paging) -> Page[QATicket]:
        return await repos.qa_tickets.list(session, **paging)

    async def test_tickets(project_session, override_scoped):
        row = await create_ticket(project_session)
        override_scoped(app, project_session)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            answer = await client.get("/projects/any/tickets")
        assert [item["id"] for item in answer.json()["items"]] == [str(row.id)]
"""
SEED = """
    import asyncio
    from derwin_db import Database
    from derwin_db.seed import seed_lifeline

    async def main():
        async with Database() as db:
            await seed_lifeline(db)

    asyncio.run(main())
"""


PYTHONS = pythons()


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder outside of pytest's, which each start of pytest closes to the system user that the server runs as."""
    with tempfile.TemporaryDirectory(prefix="derwin-installed-") as folder:
        yield Path(folder)


@pytest.mark.long
class TestInstalled:
    @pytest.mark.parametrize("version", [version for version in VERSIONS if version in PYTHONS])
    def test_serves_a_project_that_has_nothing_else(self, consume: Run, wheel: Path, place: Path, version: str) -> None:
        environment = place / "environment"
        subprocess.run([PYTHONS[version], "-m", "venv", str(environment)], check=True)
        python = str(environment / "bin" / "python")
        wanted = [f"{wheel}[embedded,fastapi]", "pytest", "pytest-asyncio", "httpx"]
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-compile", *wanted], check=True)
        data = {**os.environ, "DERWIN_DATA_DIR": str(place / "data")}
        environ = {name: value for name, value in data.items() if name != "PYTHONPATH" and not name.endswith("_URL")}
        try:
            for words in (["--help"], ["embedded", "start"], ["migrate"], ["seed"]):
                command = [str(environment / "bin" / "derwin-db"), *words]
                done = subprocess.run(command, cwd=place, env=environ, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stdout + done.stderr
        finally:
            subprocess.run([command[0], "embedded", "stop"], cwd=place, env=environ, check=True, capture_output=True)
        result = consume(python=python, site="", embedded=True, pytest=SETTINGS, test_service=SERVICE)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "1 passed" in result.stdout

    def test_traces_with_the_extra_alone(self, wheel: Path, server: TestServer, tmp_path: Path) -> None:
        """The page's own example, in an environment of `derwin-db[otel]` and nothing else."""
        page = ROOT / "docs" / "how-to" / "observability.md"
        environment, database = tmp_path / "environment", server.migrated()
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        python = str(environment / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "-q", f"{wheel}[otel]"], check=True)
        urls = {"DATABASE_URL": url_of(database.service), "ADMIN_URL": url_of(database.operator)}
        environ = {"PATH": os.environ["PATH"], **urls}
        for script in (SEED, "\n".join(texts(page, "python"))):
            command = [python, "-c", textwrap.dedent(script)]
            done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.split() == texts(page, "text")[-1].split()
