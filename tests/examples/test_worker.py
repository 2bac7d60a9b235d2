"""examples/worker.py, run as its docstring says: it serves what is queued until SIGTERM."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from derwin_db import Database, repos
from derwin_db.models import RunStatus
from derwin_db.testing import TestDatabase
from tests.repos.rows import a_run
from tests.repos.test_projects import a_project
from tests.workers.conftest import run_of, until

PROGRAM = Path(__file__).parents[2] / "examples" / "worker.py"


class Site(BaseHTTPRequestHandler):
    """Has a page at /, and nothing anywhere else."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Site)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


async def test_serves_what_is_queued_until_it_is_told_to_stop(own_database: TestDatabase, own_db: Database, site: str) -> None:
    async with own_db.admin(reason="a test") as admin:
        ids = [(await repos.projects.create(admin, a_project())).id for _ in range(2)]
    runs = []
    for project, path in zip(ids, ("/", "/gone"), strict=True):
        async with own_db.project(project) as session:
            runs.append((await repos.qa_runs.enqueue(session, a_run(target_url=site + path))).id)
    url = {"DATABASE_URL": own_database.urls["url"], "ADMIN_URL": own_database.urls["admin_url"]}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", str(PROGRAM), env={**os.environ, **url, "PYTHONPATH": str(PROGRAM.parents[1])},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip

    async def all_ended() -> bool:
        return all([(await run_of(own_db, *pair)).finished_at for pair in zip(ids, runs, strict=True)])

    try:
        await until(all_ended)
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    rows = [await run_of(own_db, *pair) for pair in zip(ids, runs, strict=True)]
    assert [(row.status, row.stats.signals) for row in rows] == [(RunStatus.COMPLETED, 0), (RunStatus.COMPLETED, 1)]
    async with own_db.project(ids[1]) as session:
        (signal_found,) = (await repos.raw_signals.list(session)).items
    assert signal_found.title.endswith("does not answer: HTTP status 404")
