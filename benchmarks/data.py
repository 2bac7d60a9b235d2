"""The data that is measured on: 100 projects of sizes after Zipf's law, loaded by the owner, the same for every run.

Texts have the lengths of real ones. Times lie within the last 90 days. Everything follows from the seed.
"""

import random
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from benchmarks.server import connect
from benchmarks.vector_data import VectorSource, copy_vectors
from derwin_db.fields.scalars import project_id_of
from derwin_db.testing import TestDatabase

SEED = 20261123


@dataclass(frozen=True)
class Size:
    """How much there is."""

    projects: int = 100
    tickets: int = 200_000
    signals: int = 500_000
    entries: int = 200_000
    vectors: int = 20_000
    runs: int = 5


FULL = Size()
QUICK = Size(projects=30, tickets=20_000, signals=50_000, entries=20_000, vectors=2_000)


@dataclass(frozen=True)
class Workload:
    """What the operations are called with: `targets` are tickets with their projects, drawn by the projects' sizes."""

    projects: list[UUID]
    targets: list[tuple[UUID, UUID]]
    runs: dict[UUID, UUID]
    queries: list[list[float]]


def shares(count: int, total: int) -> list[int]:
    """Return how many of `total` rows each of `count` projects has: Zipf's law, exponent 1, at least one."""
    weights = [1 / rank for rank in range(1, count + 1)]
    return [max(1, round(total * weight / sum(weights))) for weight in weights]


_PROJECT = """
INSERT INTO public.projects (id, slug, name, type)
SELECT id, slug, slug, 'ERP' FROM unnest($1::uuid[], $2::text[]) AS p (id, slug)
"""

_RUNS = """
INSERT INTO public.qa_runs (project_id, id, trigger, status, mode, routes, started_at, finished_at)
SELECT p.id, public.derwin_uuid7(), 'SCHEDULED', 'COMPLETED', 'TRIAGE', '["E2E_CRAWL"]', now(), now()
FROM unnest($1::uuid[]) AS p (id), generate_series(1, $2)
"""

_TICKETS = """
INSERT INTO public.qa_tickets (project_id, id, created_at, updated_at, title, description, steps_to_reproduce, expected,
    actual, severity, classification, status, initial_bucket, final_bucket, confidence, risk_score, fingerprint, external_ref)
SELECT p.id, public.derwin_uuid7(), t.at, t.at, 'Totals drift on invoice ' || n,
    repeat('The total differs from its lines. ', 9),
    '["Open the invoice", "Add a line with a discount", "Save it", "Compare the total with the lines"]',
    'The total is the sum of the lines.', 'The total is off by the discount of the last line.',
    (ARRAY['CRITICAL', 'HIGH', 'MEDIUM', 'LOW'])[1 + n % 4],
    (ARRAY['ui_bug', 'data_integrity', 'performance', 'accessibility', 'api_contract'])[1 + n % 5],
    (ARRAY['OPEN', 'OPEN', 'TRIAGED', 'RESOLVED', 'REJECTED'])[1 + n % 5],
    CASE WHEN n % 3 > 0 THEN 'ASSISTED_FIX' END, CASE WHEN n % 3 > 0 THEN 'ASSISTED_FIX' END,
    (n % 100) / 100.0, (n % 97) / 97.0, md5(n::text), 'QA-' || n
FROM unnest($1::uuid[], $2::int[]) AS p (id, rows), generate_series(1, p.rows) AS n,
    LATERAL (SELECT now() - interval '90 days' * random() AS at WHERE n > 0) AS t
"""

_SIGNALS = """
INSERT INTO public.raw_signals (project_id, id, created_at, updated_at, run_id, route, title, fingerprint, severity_hint,
    confidence, payload, observed_at, status)
SELECT p.id, public.derwin_uuid7(), t.at, t.at, r.ids[1 + n % array_length(r.ids, 1)], 'E2E_CRAWL', 'Console error ' || n,
    md5(n::text), 'LOW', 0.5, jsonb_build_object('url', 'https://app.example.com/invoices/' || n, 'status', 500), t.at,
    (ARRAY['NEW', 'TRIAGED', 'DISCARDED'])[1 + n % 3]
FROM unnest($1::uuid[], $2::int[]) AS p (id, rows),
    LATERAL (SELECT array_agg(id) AS ids FROM public.qa_runs WHERE project_id = p.id) AS r,
    generate_series(1, p.rows) AS n,
    LATERAL (SELECT now() - interval '90 days' * random() AS at WHERE n > 0) AS t
"""

_ENTRIES = """
INSERT INTO public.spend_ledger (project_id, id, created_at, project_slug, kind, source, model, amount_usd, input_tokens,
    output_tokens, idempotency_key, occurred_at, details)
SELECT p.id, public.derwin_uuid7(), t.at, p.slug, 'CHARGE', 'ANTHROPIC', 'large', (1 + n % 5000) / 1000000.0, n % 9000, n % 900,
    'call-' || n, t.at, '{"purpose": "triage"}'
FROM unnest($1::uuid[], $2::text[], $3::int[]) AS p (id, slug, rows), generate_series(1, p.rows) AS n,
    LATERAL (SELECT now() - interval '90 days' * random() AS at WHERE n > 0) AS t
"""

TABLES = ("projects", "qa_runs", "qa_tickets", "raw_signals", "spend_ledger", "rag_corpus")


async def load(database: TestDatabase, size: Size, *, is_even: bool = False) -> Workload:
    """Fill the database and return what to ask it for. `is_even` gives every project the same number of rows."""

    def shared(total: int) -> list[int]:
        return [total // size.projects] * size.projects if is_even else shares(size.projects, total)

    slugs = [f"bench-{number:05d}" for number in range(size.projects)]
    ids = [project_id_of(slug) for slug in slugs]
    connection = await connect(database.owner)
    try:
        await connection.execute("SET session_replication_role = replica")  # the rows are right: no foreign key is looked up
        await connection.execute(f"SELECT setseed({(SEED % 1000) / 1000})")
        await connection.execute(_PROJECT, ids, slugs)
        await connection.execute(_RUNS, ids, size.runs)
        await connection.execute(_TICKETS, ids, shared(size.tickets))
        await connection.execute(_SIGNALS, ids, shared(size.signals))
        await connection.execute(_ENTRIES, ids, slugs, shared(size.entries))
        source = VectorSource(SEED)
        for project_id, rows in zip(ids, shared(size.vectors), strict=True):
            await copy_vectors(connection, project_id, source, rows)
        for table in TABLES:
            await connection.execute(f"VACUUM (ANALYZE) public.{table}")
        return await _workload(connection, ids, source)
    finally:
        await connection.close()


async def _workload(connection: Any, ids: list[UUID], source: VectorSource) -> Workload:
    """Choose 2,000 tickets, each project as often as its size says."""
    tickets = await connection.fetch(
        "SELECT project_id, id FROM public.qa_tickets ORDER BY md5(id::text || project_id::text) LIMIT 2000"
    )
    runs = await connection.fetch("SELECT DISTINCT ON (project_id) project_id, id FROM public.qa_runs ORDER BY project_id, id")
    targets = [(row["project_id"], row["id"]) for row in tickets]
    random.Random(SEED).shuffle(targets)
    return Workload(ids, targets, dict(map(tuple, runs)), [list(row) for row in source.points(50).tolist()])
