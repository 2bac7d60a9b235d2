"""Index prefixes of fingerprints and classifications, and tickets by risk.

What and why: four indexes are made anew with text_pattern_ops, which serve `=` as before and prefixes too: under policies LIKE
can't be an index condition, and a range in the database's collation is no prefix. They cost writes nothing more. One index is
new: (project_id, risk_score DESC, id DESC) pages through tickets by risk; a ticket's writes cost one index entry more.
Lock: SHARE UPDATE EXCLUSIVE (CONCURRENTLY): reads and writes go on, and the old index serves until the new one stands. It waits
for older transactions, which holds up nobody, so lock_timeout is off for it. What a start that was killed left behind is
finished, or dropped where it is INVALID.
Back: makes the former four indexes the same way, and drops the new one.

Revision ID: e4a7c05b91d3
Revises: c1a7e94f3b60
Create Date: 2026-11-29 08:05:00
"""

import sqlalchemy as sa

from alembic import op

revision = "e4a7c05b91d3"
down_revision = "c1a7e94f3b60"
branch_labels = None
depends_on = None

NEWEST_FIRST = ", created_at DESC, id DESC"
BY_PREFIX = {
    "ix_qa_tickets_fingerprint": ("qa_tickets", "fingerprint", ""),
    "ix_qa_tickets_classification_created_at_id": ("qa_tickets", "classification", NEWEST_FIRST),
    "ix_raw_signals_fingerprint": ("raw_signals", "fingerprint", ""),
    "ix_rag_corpus_classification_created_at_id": ("rag_corpus", "classification", NEWEST_FIRST),
}
BY_RISK = "ix_qa_tickets_risk_score_id"

LEFTOVER = "SELECT NOT indisvalid FROM pg_catalog.pg_index WHERE indexrelid = to_regclass('public.{name}')"


def build(name: str, columns: str) -> None:
    """Build the index, unless a former start has."""
    if op.get_bind().scalar(sa.text(LEFTOVER.format(name=name))):
        op.execute(f"DROP INDEX CONCURRENTLY public.{name}")
    op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON public.{columns}")


def replace(operators: str) -> None:
    """Put another index in the place of each of the four: it is there before the old one goes."""
    for name, (table, column, more) in BY_PREFIX.items():
        build(f"{name}_new", f"{table} (project_id, {column}{operators}{more})")
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS public.{name}")
        op.execute(f"ALTER INDEX public.{name}_new RENAME TO {name}")


def upgrade() -> None:
    with op.get_context().autocommit_block():
        lock_timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("SET lock_timeout = 0")
        replace(" text_pattern_ops")
        build(BY_RISK, "qa_tickets (project_id, risk_score DESC, id DESC)")
        op.execute(f"SET lock_timeout = '{lock_timeout}'")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        lock_timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("SET lock_timeout = 0")
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS public.{BY_RISK}")
        replace("")
        op.execute(f"SET lock_timeout = '{lock_timeout}'")
