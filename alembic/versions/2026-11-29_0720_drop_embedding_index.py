"""Drop the index over the embeddings of all projects.

What and why: no search uses it any more. It made every write of an embedding slow, and one project's entries shaped
another's answers. The last step of three: code of before still finds the same without it, more slowly.
Lock: SHARE UPDATE EXCLUSIVE (CONCURRENTLY): reads and writes go on; lock_timeout is off while it waits for older transactions.
Back: builds the index again, as it was.

Revision ID: 063c9eb5f2d8
Revises: f52b8da4e1c7
Create Date: 2026-11-29 07:20:00
"""

import sqlalchemy as sa

from alembic import op

revision = "063c9eb5f2d8"
down_revision = "f52b8da4e1c7"
branch_labels = None
depends_on = None

LEFTOVER = """
SELECT NOT indisvalid FROM pg_catalog.pg_index WHERE indexrelid = to_regclass('public.ix_rag_corpus_embedding')
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        lock_timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("SET lock_timeout = 0")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS public.ix_rag_corpus_embedding")
        op.execute(f"SET lock_timeout = '{lock_timeout}'")


def downgrade() -> None:
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
