"""Fence slugs: the index that keeps them unique answers no comparison of a unit of work.

What and why: policies let a comparison of texts reach an index before them, since it is leakproof, and EXPLAIN ANALYZE and pg_stat
views count what it found: SQL in one project read the slugs of all others there, letter by letter. The index is now over
lower(slug), which is the slug itself (slugs have no capitals), and is not leakproof: under policies it is computed for rows
that they let through. The admin door, which no policy holds, pages by it as before. On Citus there is none.
Lock: SHARE UPDATE EXCLUSIVE (CONCURRENTLY) for the index; then ACCESS EXCLUSIVE on projects for an instant, in which the former
constraint goes. What a start that was killed left behind is finished, or dropped where it is INVALID.
Back: makes the former constraint the same way.

Revision ID: d4b81e6fa935
Revises: c7f3a90d5e28
Create Date: 2026-11-29 09:40:00
"""

import sqlalchemy as sa

from alembic import op

revision = "d4b81e6fa935"
down_revision = "c7f3a90d5e28"
branch_labels = None
depends_on = None
step = "expand"

NAME, NEXT = "uq_projects_slug", "uq_projects_slug_new"
LEFTOVER = f"SELECT NOT indisvalid FROM pg_catalog.pg_index WHERE indexrelid = to_regclass('public.{NEXT}')"
HAS_ONE = f"SELECT to_regclass('public.{NAME}') IS NOT NULL OR to_regclass('public.{NEXT}') IS NOT NULL"
"""A distributed database has none: the id stands for the slug there."""


def build(expression: str) -> None:
    """Build the index that takes the present one's place, unless a former start has."""
    with op.get_context().autocommit_block():
        lock_timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("SET lock_timeout = 0")
        if op.get_bind().scalar(sa.text(LEFTOVER)):
            op.execute(f"DROP INDEX CONCURRENTLY public.{NEXT}")
        op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS {NEXT} ON public.projects ({expression})")
        op.execute(f"SET lock_timeout = '{lock_timeout}'")


def upgrade() -> None:
    if op.get_bind().scalar(sa.text(HAS_ONE)):
        build("lower(slug)")
        op.execute(f"ALTER INDEX public.{NEXT} ALTER COLUMN 1 SET STATISTICS 0")  # as of the slug itself
        op.execute(f"ALTER TABLE public.projects DROP CONSTRAINT IF EXISTS {NAME}")
        op.execute(f"ALTER INDEX public.{NEXT} RENAME TO {NAME}")


def downgrade() -> None:
    if op.get_bind().scalar(sa.text(HAS_ONE)):
        build("slug")
        op.execute(f"DROP INDEX IF EXISTS public.{NAME}")
        op.execute(f"ALTER TABLE public.projects ADD CONSTRAINT {NAME} UNIQUE USING INDEX {NEXT}")
