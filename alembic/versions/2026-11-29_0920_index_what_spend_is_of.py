"""Index what entries of the ledger and past fixes are of: the run, the ticket, the attempt.

What and why: who looks at a ticket asks what was spent on it, and what was learned from it. These are plain ids, which outlive what
they name, so that no foreign key had brought an index along. Each is partial: an entry costs a write of those alone that it names.
Lock: SHARE UPDATE EXCLUSIVE (CONCURRENTLY): reads and writes go on. It waits for older transactions, which holds up nobody, so
lock_timeout is off for it. What a start that was killed left behind is finished, or dropped where it is INVALID.
Back: drops the indexes.

Revision ID: b8e4d02f6a17
Revises: e81c5a37f0d2
Create Date: 2026-11-29 09:20:00
"""

import sqlalchemy as sa

from alembic import op

revision = "b8e4d02f6a17"
down_revision = "e81c5a37f0d2"
branch_labels = None
depends_on = None
step = "expand"

INDEXED = (
    ("spend_ledger", "run_id"),
    ("spend_ledger", "ticket_id"),
    ("spend_ledger", "fix_attempt_id"),
    ("rag_corpus", "ticket_id"),
    ("rag_corpus", "fix_attempt_id"),
)
LEFTOVER = "SELECT NOT indisvalid FROM pg_catalog.pg_index WHERE indexrelid = to_regclass('public.{name}')"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        lock_timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("SET lock_timeout = 0")
        for table, column in INDEXED:
            name = f"ix_{table}_{column}"
            if op.get_bind().scalar(sa.text(LEFTOVER.format(name=name))):
                op.execute(f"DROP INDEX CONCURRENTLY public.{name}")
            rows = f"public.{table} (project_id, {column}) WHERE {column} IS NOT NULL"
            op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {rows}")
        op.execute(f"SET lock_timeout = '{lock_timeout}'")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        lock_timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("SET lock_timeout = 0")
        for table, column in INDEXED:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS public.ix_{table}_{column}")
        op.execute(f"SET lock_timeout = '{lock_timeout}'")
