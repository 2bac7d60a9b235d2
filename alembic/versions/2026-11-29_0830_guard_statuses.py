"""Guard the statuses of tickets, runs and attempts: they change along their state machines, by hand too.

What and why: SQL by hand and the ORM could move a row where no verb does. Code of before makes legal moves alone, and goes on.
Lock: SHARE ROW EXCLUSIVE on the three tables, for an instant.
Back: drops triggers and functions.

Revision ID: b5d27f1ce934
Revises: a6e0f4b82d15
Create Date: 2026-11-29 08:30:00
"""

from alembic import op
from derwin_db import sql

revision = "b5d27f1ce934"
down_revision = "a6e0f4b82d15"
branch_labels = None
depends_on = None
step = "expand"

FUNCTIONS = {"qa_tickets": "ticket", "qa_runs": "run", "qa_fix_attempts": "attempt"}


def upgrade() -> None:
    for statement in sql.read("statuses.v1"):
        op.execute(statement)


def downgrade() -> None:
    for table, name in FUNCTIONS.items():
        op.execute(f"DROP TRIGGER derwin_check_status ON public.{table}")
        op.execute(f"DROP FUNCTION public.derwin_check_{name}_status()")
