"""Drop the statistics of values, and keep the fences from being dropped by those whom they fence in.

What and why: statistics are of all projects together. Row estimates in EXPLAIN compare with them whatever a session asks for,
which tells texts and keys of other projects letter by letter; without them, and with indexes that begin with the project, plans
are the same. And `DROP OWNED BY CURRENT_USER` takes every policy and grant of the role of a session: an event trigger refuses it.
That needs a superuser; without one, start-up and `doctor` notice, and `derwin-db roles create` makes them again.
Lock: SHARE UPDATE EXCLUSIVE on each table, for an instant.
Back: columns have the default statistics again, from the next ANALYZE on, and the event trigger goes.

Revision ID: a8d3e51c7f26
Revises: 063c9eb5f2d8
Create Date: 2026-11-29 07:30:00
"""

import sqlalchemy as sa

from alembic import op
from derwin_db import sql

revision = "a8d3e51c7f26"
down_revision = "063c9eb5f2d8"
branch_labels = None
depends_on = None

TABLES = (
    "projects",
    "project_profiles",
    "ingested_docs",
    "profile_evolution_logs",
    "qa_runs",
    "raw_signals",
    "qa_tickets",
    "qa_fix_attempts",
    "classification_trust",
    "rag_corpus",
    "audit_artifacts",
    "policies",
    "project_mode_logs",
    "spend_ledger",
)
KEPT = """
SELECT a.attname FROM pg_catalog.pg_attribute a
WHERE a.attrelid = to_regclass('public.{table}') AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget = 0
"""


def run(statements: list[str]) -> None:
    for statement in statements:
        op.execute(sa.text(statement.replace(":", "\\:")))


def is_distributed() -> bool:
    return bool(op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')")))


def upgrade() -> None:
    if not is_distributed():
        for table in TABLES:
            run(sql.read("no_statistics.v1", table=table))
    run(sql.read("keep_fences.v1"))


def downgrade() -> None:
    op.execute("DROP EVENT TRIGGER IF EXISTS derwin_keep_fences")
    op.execute("DROP FUNCTION public.derwin_keep_fences()")
    for table in TABLES:
        for (column,) in op.get_bind().execute(sa.text(KEPT.format(table=table))).all():
            op.execute(f"ALTER TABLE public.{table} ALTER COLUMN {column} SET STATISTICS -1")
