"""Fence the profile's log: an entry is of the version that the profile has.

What and why: SQL by hand could write an entry for a version to come, which then could never be reached: versions are unique in the
log, and its entries are never removed. Not on Citus, as the other stamps.
Lock: SHARE ROW EXCLUSIVE on profile_evolution_logs, for an instant.
Back: drops trigger and function.

Revision ID: c1a7e94f3b60
Revises: b9f4c62d8e37
Create Date: 2026-11-29 08:00:00
"""

import sqlalchemy as sa

from alembic import op
from derwin_db import sql

revision = "c1a7e94f3b60"
down_revision = "b9f4c62d8e37"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if not op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')")):
        for statement in sql.read("profile_log.v1"):
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TRIGGER IF EXISTS derwin_check_profile_log ON public.profile_evolution_logs")
    op.execute("DROP FUNCTION IF EXISTS public.derwin_check_profile_log()")
