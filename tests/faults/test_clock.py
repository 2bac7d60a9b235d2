"""Fault 37: a client whose clock is wrong. Stamps are the database's, and no order comes from the client's clock."""

from datetime import timedelta
from pathlib import Path

import pytest

import derwin_db
from derwin_db import Database, repos
from derwin_db.errors import BudgetExceeded
from derwin_db.models import AuditArtifactCreate, QARunCreate, QATicketUpdate, SpendCap
from derwin_db.models.enums import ComplianceMode
from tests.faults.clock import client_clock
from tests.faults.load import entry, make_ticket
from tests.faults.victim import Victim

OFFSETS = [timedelta(days=1), timedelta(days=-1)]


async def now(victim: Victim):
    return (await victim.fetch("SELECT now()"))[0]["now"]


def test_nothing_that_writes_asks_the_clock_of_this_machine():
    root = Path(derwin_db.__file__).parent
    files = [path for folder in ("repos", "models", "query", "fields", "isolation") for path in (root / folder).rglob("*.py")]
    files.append(root / "session.py")
    for path in files:
        for word in ("datetime.now", "utcnow", "time.time(", "date.today"):
            assert word not in path.read_text(), path


@pytest.mark.parametrize("offset", OFFSETS)
class TestClientClock:
    async def test_every_stamp_is_the_databases(self, db: Database, victim: Victim, project, offset):
        before = await now(victim)
        with client_clock(offset):
            async with db.project(project) as session:
                row = await make_ticket(session)
                row = await repos.qa_tickets.update(session, row.id, QATicketUpdate(title="x"))
                run = await repos.qa_runs.enqueue(session, QARunCreate(trigger="MANUAL", routes=["ADAPTER"]))
                run = await repos.qa_runs.claim(session, "worker")
                artifact = await repos.audit_artifacts.record(session, _artifact())
                spent = await repos.spend_ledger.append(session, entry())
        after = await now(victim)
        stamps = [row.created_at, row.updated_at, run.created_at, run.started_at, run.heartbeat_at, artifact.created_at]
        assert all(before <= stamp <= after for stamp in [*stamps, spent.created_at])
        assert artifact.compliance_mode is ComplianceMode.STANDARD
        assert timedelta(days=89) < artifact.retention_until - before < timedelta(days=91)

    async def test_order_and_pages_follow_the_databases_clock(self, db: Database, project, offset):
        made = []
        for number in range(6):
            with client_clock(offset if number % 2 else -offset):
                async with db.project(project) as session:
                    made.append((await make_ticket(session, f"{number}")).id)
        async with db.project(project) as session:
            seen, cursor = [], None
            while True:
                page = await repos.qa_tickets.list(session, limit=2, cursor=cursor)
                seen += [row.id for row in page.items]
                if (cursor := page.next_cursor) is None:
                    break
        assert seen == made[::-1]

    async def test_a_window_of_spending_is_measured_by_the_database(self, db: Database, project, offset):
        cap = SpendCap(usd="2", window=timedelta(hours=1))
        with client_clock(offset):
            async with db.project(project) as session:
                await repos.spend_ledger.append(session, entry(), cap=cap)
                await repos.spend_ledger.append(session, entry(), cap=cap)
                with pytest.raises(BudgetExceeded):
                    await repos.spend_ledger.append(session, entry(), cap=cap)


def _artifact() -> AuditArtifactCreate:
    return AuditArtifactCreate(
        kind="LOG", storage_uri="s3://bucket/x", mime_type="text/plain", byte_size=1, content_hash="a" * 64
    )
