"""What `benchmarks.retention` fills and turns over: 100 projects, each with the same number of rows, runs and tickets.

The fill is the owner's SQL. What turns over goes through the repositories, as a service and its cron job do it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from benchmarks.server import connect
from derwin_db import Database, repos
from derwin_db.fields.scalars import project_id_of
from derwin_db.models import QARunCreate, RawSignalCreate, SpendLedgerCreate
from derwin_db.testing import TestDatabase

PROJECTS = 100
RUNS = 50
"""Runs of each project: a part of its signals goes with each. Evidence of ninety days loses about as much a day."""

_CALLERS = 4
_TRIAGED_AT_ONCE = 1000
_LEDGER_AT_ONCE = 5000

_ROOTS = """
INSERT INTO public.projects (id, slug, name, type)
SELECT id, slug, slug, 'ERP' FROM unnest($1::uuid[], $2::text[]) AS p (id, slug)
"""

_TICKETS = """
INSERT INTO public.qa_tickets (project_id, id, title, description, steps_to_reproduce, severity, classification, confidence,
    risk_score)
SELECT id, id, 'Totals drift', 'The total differs from its lines.', '[]', 'HIGH', 'ui_bug', 0.5, 0.5
FROM unnest($1::uuid[]) AS p (id)
"""

_RUN = """
INSERT INTO public.qa_runs (project_id, id, trigger, status, mode, routes, started_at, finished_at)
SELECT id, public.derwin_uuid7(), 'SCHEDULED', 'COMPLETED', 'TRIAGE', '["E2E_CRAWL"]', now(), now()
FROM unnest($1::uuid[]) AS p (id)
RETURNING project_id, id
"""

_SIGNALS = """
INSERT INTO public.raw_signals (project_id, id, run_id, route, title, fingerprint, severity_hint, confidence, payload,
    observed_at, status)
SELECT p.id, public.derwin_uuid7(), p.run, 'E2E_CRAWL', 'Console error ' || n, md5(n::text), 'LOW', 0.5,
    jsonb_build_object('url', 'https://app.example.com/invoices/' || n, 'status', 500), now(), 'DISCARDED'
FROM unnest($1::uuid[], $2::uuid[]) AS p (id, run), generate_series(1, $3) AS n
"""

_ENTRIES = """
INSERT INTO public.spend_ledger (project_id, id, project_slug, kind, source, model, amount_usd, input_tokens, output_tokens,
    idempotency_key, occurred_at, details)
SELECT p.id, public.derwin_uuid7(), p.slug, 'CHARGE', 'ANTHROPIC', 'large', (1 + n % 5000) / 1000000.0, n % 9000, n % 900,
    'call-' || $4 || '-' || n, now(), '{"purpose": "triage"}'
FROM unnest($1::uuid[], $2::text[]) AS p (id, slug), generate_series(1, $3) AS n
"""

_ARTIFACTS = """
INSERT INTO public.audit_artifacts (project_id, id, kind, storage_uri, mime_type, byte_size, content_hash, compliance_mode,
    retention_until, ticket_id)
SELECT p.id, public.derwin_uuid7(), 'SCREENSHOT', 's3://evidence/' || md5(n::text), 'image/png', 100000,
    encode(sha256(n::text::bytea), 'hex'), 'STANDARD', now() + $3::interval, p.id
FROM unnest($1::uuid[]) AS p (id), generate_series(1, $2) AS n
"""


class Churn:
    """One database that is filled to `rows` of a table, and then turned over part by part."""

    def __init__(self, database: TestDatabase, db: Database, rows: int) -> None:
        self.database, self.db = database, db
        self.slugs = [f"churn-{number:03d}" for number in range(PROJECTS)]
        self.projects = [project_id_of(slug) for slug in self.slugs]
        self.part = rows // RUNS // PROJECTS
        self.runs: list[dict[UUID, UUID]] = []
        self._round = 0

    async def owner(self, sql: str, *arguments: Any) -> Any:
        """Run one statement as the owner."""
        connection = await connect(self.database.owner)
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close()

    async def found(self) -> None:
        """Make the projects, each with a ticket that has the project's id."""
        await self.owner(_ROOTS, self.projects, self.slugs)
        await self.owner(_TICKETS, self.projects)

    async def fill(self, table: str) -> float:
        """Write all parts by SQL. Return rows a second."""
        began = time.perf_counter()
        for number in range(RUNS):
            if table == "raw_signals":
                run = {row["project_id"]: row["id"] for row in await self.owner(_RUN, self.projects)}
                self.runs.append(run)
                await self.owner(_SIGNALS, list(run), list(run.values()), self.part)
            elif table == "audit_artifacts":
                await self.owner(_ARTIFACTS, self.projects, self.part, timedelta(days=90))
            else:
                await self.owner(_ENTRIES, self.projects, self.slugs, self.part, f"{number}")
        return RUNS * PROJECTS * self.part / (time.perf_counter() - began)

    async def turn(self, table: str) -> dict[str, float]:
        """Let a part come and a part go. Return rows a second of each stage."""
        self._round += 1
        stages: dict[str, Callable[[], Awaitable[Any]]] = {
            "raw_signals": {"ingest": self._ingest, "triage": self._triage, "delete": self._delete_runs},
            "audit_artifacts": {"record": self._record, "prune": self._prune},
            "spend_ledger": {"append": self._append},
        }[table]
        rates = {}
        for name, stage in stages.items():
            began = time.perf_counter()
            await stage()
            rates[name] = PROJECTS * self.part / (time.perf_counter() - began)
        return rates

    async def _each(self, work: Callable[[UUID], Awaitable[Any]]) -> None:
        """Do it in each project, four projects at a time."""
        todo = iter(self.projects)

        async def caller() -> None:
            for project_id in todo:
                await work(project_id)

        await asyncio.gather(*(caller() for _ in range(_CALLERS)))

    async def _ingest(self) -> None:
        fresh: dict[UUID, UUID] = {}
        now = datetime.now(UTC)
        rows = [
            RawSignalCreate(
                route="E2E_CRAWL",
                title=f"Console error {n}",
                fingerprint=f"{n:032x}",
                severity_hint="LOW",
                confidence=0.5,
                payload={"url": f"https://app.example.com/invoices/{n}", "status": 500},
                observed_at=now,
            )
            for n in range(self.part)
        ]

        async def ingest(project_id: UUID) -> None:
            async with self.db.project(project_id) as session:
                run = await repos.qa_runs.enqueue(session, QARunCreate(trigger="SCHEDULED", routes=["E2E_CRAWL"]))
                await repos.raw_signals.ingest(session, run.id, rows)
            fresh[project_id] = run.id

        await self._each(ingest)
        self.runs.append(fresh)

    async def _triage(self) -> None:
        """Three signals of ten become part of the ticket, the others are put aside: each is updated once."""

        async def triage(project_id: UUID) -> None:
            run_id = self.runs[-1][project_id]
            while True:
                async with self.db.project(project_id) as session:
                    ids = [row.id for row in await repos.raw_signals.pending(session, run_id, limit=500)]
                    if not ids:
                        return
                    part = len(ids) * 3 // 10
                    await repos.raw_signals.attach(session, ids[:part], project_id)
                    await repos.raw_signals.discard(session, ids[part:])

        await self._each(triage)

    async def _delete_runs(self) -> None:
        oldest = self.runs.pop(0)

        async def delete(project_id: UUID) -> None:
            async with self.db.project(project_id) as session:
                await repos.qa_runs.delete(session, oldest[project_id])

        await self._each(delete)

    async def _record(self) -> None:
        """Evidence that expires at once: what a day brings and, ninety days later, takes."""
        await self.owner(_ARTIFACTS, self.projects, self.part, timedelta())

    async def _prune(self) -> None:
        result = await self.db.prune()
        assert result.pruned == PROJECTS * self.part, result

    async def _append(self) -> None:
        now = datetime.now(UTC)

        async def append(project_id: UUID) -> None:
            for start in range(0, self.part, _LEDGER_AT_ONCE):
                rows = [
                    SpendLedgerCreate(
                        kind="CHARGE",
                        source="ANTHROPIC",
                        model="large",
                        amount_usd=Decimal("0.001"),
                        idempotency_key=f"turn-{self._round}-{n}",
                        occurred_at=now,
                        details={"purpose": "triage"},
                    )
                    for n in range(start, min(start + _LEDGER_AT_ONCE, self.part))
                ]
                async with self.db.project(project_id) as session:
                    await repos.spend_ledger.append_many(session, rows)

        await self._each(append)
