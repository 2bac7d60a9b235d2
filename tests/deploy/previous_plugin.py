"""A pytest plugin for the tests of a former release: their database is migrated by newer code. See `previous`.

It is copied beside that release, and imports its package, not this one's.
"""

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from derwin_db.connection import facts
from derwin_db.deploy import migrations
from derwin_db.testing import server
from derwin_db.testing.server import url_of

NEW_CODE = os.environ["DERWIN_NEW_CODE"]


def upgrade(settings: Any, *_: Any) -> None:
    """Migrate with the newer code, as an operator would: `derwin-db migrate` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": NEW_CODE, "DIRECT_URL": url_of(settings.connection)}
    command = [sys.executable, "-c", "from derwin_db.cli import main; main(['migrate'])"]
    subprocess.run(command, cwd=NEW_CODE, env=environment, check=True, capture_output=True)


server.migrations = SimpleNamespace(upgrade=upgrade, MigrationSettings=migrations.MigrationSettings)

if not hasattr(facts, "schema_of"):
    # This release starts on its own revision alone. What is asked here is what it does with the newer schema when it runs.
    facts.ServerFacts.require_fences = lambda _self: None


def pytest_report_header() -> str:
    """Say what is tested on what."""
    starts = "its start is not asked: it takes its own revision alone" if not hasattr(facts, "schema_of") else "as it is"
    return f"code of {facts.__file__}, the schema of {NEW_CODE}; {starts}"
