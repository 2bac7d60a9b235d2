"""What a verb keeps others from until its unit ends: how strongly it locks the rows that were there before.

Every new row locks what it refers to in key-share mode. Nothing but UPDATE stands in its way, and two of them share a row.
"""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from derwin_db import Database
from derwin_db.models import Project
from derwin_db.sql import PROJECT_TABLES
from derwin_db.testing import TestDatabase
from tests.contract.verbs import ADMIN_CALLS, PROJECT_CALLS, Call

SHOWN_BY = {"UPDATE": "KEY SHARE", "NO KEY UPDATE": "SHARE", "SHARE": "NO KEY UPDATE", "KEY SHARE": "UPDATE"}
"""Each mode of a lock, the strongest first, and the weakest one that can't be had beside it."""

CHANGES = "NO KEY UPDATE"
"""What a verb takes of rows of its own table, unless more is said here."""

MORE = {
    "ingested_docs.delete": {"ingested_docs": "UPDATE"},
    "qa_runs.claim": {"qa_runs": "UPDATE"},
    "qa_runs.claim limited": {"qa_runs": "UPDATE", "projects": CHANGES},
    "qa_runs.delete": {"qa_runs": "UPDATE"},
    "raw_signals.delete": {"raw_signals": "UPDATE"},
    "qa_tickets.update_many reclassified": {"qa_tickets": "UPDATE"},
    "qa_tickets.update_many reclassified with attempts": {"qa_tickets": "UPDATE", "classification_trust": "UPDATE"},
    "qa_tickets.update reclassified": {"qa_tickets": "UPDATE"},
    "qa_tickets.update reclassified with attempts": {"qa_tickets": "UPDATE", "classification_trust": "UPDATE"},
    "qa_tickets.delete": {"qa_tickets": "UPDATE"},
    "qa_tickets.delete with attempts": {"qa_tickets": "UPDATE", "qa_fix_attempts": "UPDATE", "classification_trust": "UPDATE"},
    "qa_fix_attempts.dispatch": {"qa_tickets": CHANGES},
    "qa_fix_attempts.mark_reverted": {"qa_fix_attempts": CHANGES, "classification_trust": "UPDATE"},
    "rag_corpus.delete": {"rag_corpus": "UPDATE"},
    "audit_artifacts.prune_expired": {"audit_artifacts": "UPDATE"},
    "audit_artifacts.prune_expired with three blobs": {"audit_artifacts": "UPDATE"},
    "policies.activate": {"policies": CHANGES, "projects": CHANGES},
    "spend_ledger.append capped": {"projects": CHANGES},
    "projects.update mode": {"projects": "UPDATE"},
    "projects.delete": {"projects": "UPDATE", "project_mode_logs": "UPDATE"},
}


class Watcher:
    """Sees which locks there are by those that it does not get."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def locks_on(self, project: Project) -> dict[str, str]:
        """Return the strongest lock on rows of the project, by table, where it is more than that of a new row."""
        parts = []
        for table in ("projects", *PROJECT_TABLES):
            rows = f"SELECT FROM {table} WHERE {'id' if table == 'projects' else 'project_id'} = $1"
            free = [f"(SELECT count(*) FROM ({rows} FOR {mode} SKIP LOCKED) AS free)" for mode in SHOWN_BY.values()]
            parts.append(f"SELECT '{table}', (SELECT count(*) FROM ({rows}) AS there), ARRAY[{', '.join(free)}]")
        found = await self._connection.fetch(" UNION ALL ".join(parts), project.id)
        held = {
            table: next((mode for mode, count in zip(SHOWN_BY, free, strict=True) if count < there), None)
            for table, there, free in found
        }
        return {table: mode for table, mode in held.items() if mode not in (None, "KEY SHARE")}


@pytest.fixture
async def watcher(migrated: TestDatabase) -> AsyncIterator[Watcher]:
    connection = await asyncpg.connect(**migrated.owner.connect_arguments(), statement_cache_size=0)
    yield Watcher(connection)
    await connection.close()


def expected(call: Call, held: dict[str, str]) -> dict[str, str]:
    own = call.verb.partition(".")[0]
    return MORE.get(str(call), {own: CHANGES} if own in held else {})


class TestVerbs:
    @pytest.mark.parametrize("call", [call for call in PROJECT_CALLS if not call.reads], ids=str)
    async def test_of_a_project_lock_what_they_have_to(
        self, db: Database, project: Project, watcher: Watcher, call: Call
    ) -> None:
        async with db.project(project.id) as session:
            made = await call.prepare(session)
        async with db.project(project.id) as session:
            await call.run(session, made)
            held = await watcher.locks_on(project)
        assert held == expected(call, held)

    @pytest.mark.parametrize("call", ADMIN_CALLS, ids=str)
    async def test_of_the_admin_door_lock_what_they_have_to(
        self, db: Database, project: Project, watcher: Watcher, call: Call
    ) -> None:
        async with db.admin(reason="a test") as admin:
            await call.run(admin, project.id)
            held = await watcher.locks_on(project)
        assert held == expected(call, held)

    def test_that_lock_more_are_verbs(self) -> None:
        assert MORE.keys() <= {str(call) for call in (*PROJECT_CALLS, *ADMIN_CALLS)}
