"""Index `rag_corpus.embedding` for cosine similarity (HNSW).

What and why: large projects search through it; small ones are searched exactly through their key. With pgvector's own
m = 16 whole clusters of an index of 127,000 vectors could not be reached, whatever the search; docs/performance.md.
Lock: SHARE UPDATE EXCLUSIVE (CONCURRENTLY): reads and writes go on. It waits for older transactions, which holds up nobody,
so lock_timeout is off for it. An INVALID index of a start that was killed is dropped first.
Back: drops the index.

Revision ID: d92b6c41e8f5
Revises: c3d58f0e7a42
Create Date: 2026-11-23 08:00:00
"""

import sqlalchemy as sa

from alembic import op

revision = "d92b6c41e8f5"
down_revision = "c3d58f0e7a42"
branch_labels = None
depends_on = None

LEFTOVER = """
SELECT NOT indisvalid FROM pg_catalog.pg_index WHERE indexrelid = to_regclass('public.ix_rag_corpus_embedding')
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        lock_timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("SET lock_timeout = 0")
        if op.get_bind().scalar(sa.text(LEFTOVER)):
            op.execute("DROP INDEX CONCURRENTLY public.ix_rag_corpus_embedding")
        op.execute(
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_rag_corpus_embedding "
            "ON public.rag_corpus USING hnsw (embedding vector_cosine_ops) WITH (m = 24, ef_construction = 128)"
        )
        op.execute(f"SET lock_timeout = '{lock_timeout}'")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS public.ix_rag_corpus_embedding")
