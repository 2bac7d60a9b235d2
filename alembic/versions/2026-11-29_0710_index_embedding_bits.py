"""Index the bits of embeddings within their project.

What and why: a search by similarity reads the bits of one project's entries from this index alone, and no other project's.
Lock: SHARE UPDATE EXCLUSIVE (CONCURRENTLY): reads and writes go on. It waits for older transactions, which holds up nobody,
so lock_timeout is off for it. An INVALID index of a start that was killed is dropped first. The table is vacuumed sooner
than by default from now on: an index that answers alone needs pages that are known to be visible.
Back: drops the index and the settings.

Revision ID: f52b8da4e1c7
Revises: e41a7c93d0b6
Create Date: 2026-11-29 07:10:00
"""

import sqlalchemy as sa

from alembic import op

revision = "f52b8da4e1c7"
down_revision = "e41a7c93d0b6"
branch_labels = None
depends_on = None

LEFTOVER = """
SELECT NOT indisvalid FROM pg_catalog.pg_index WHERE indexrelid = to_regclass('public.ix_rag_corpus_bits')
"""
# Source: benchmarks/retention.py, docs/explanation/scale.md
TURNING_OVER = {
    "autovacuum_vacuum_scale_factor": 0.02,
    "autovacuum_vacuum_insert_scale_factor": 0.05,
    "autovacuum_analyze_scale_factor": 0.02,
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        lock_timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("SET lock_timeout = 0")
        if op.get_bind().scalar(sa.text(LEFTOVER)):
            op.execute("DROP INDEX CONCURRENTLY public.ix_rag_corpus_bits")
        op.execute(
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_rag_corpus_bits ON public.rag_corpus (project_id, id) "
            "INCLUDE (classification, bits) WHERE bits IS NOT NULL"
        )
        op.execute(f"SET lock_timeout = '{lock_timeout}'")
    settings = ", ".join(f"{name} = {value}" for name, value in TURNING_OVER.items())
    op.execute(f"ALTER TABLE public.rag_corpus SET ({settings})")


def downgrade() -> None:
    op.execute(f"ALTER TABLE public.rag_corpus RESET ({', '.join(TURNING_OVER)})")
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS public.ix_rag_corpus_bits")
