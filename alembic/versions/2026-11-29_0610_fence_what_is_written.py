"""Fence what is written: stamps of evidence, logs and ledger are the database's, and nothing removes a row of the ledger.

What and why: the application's role inserts into these tables, so SQL by hand could record evidence as expired, backdate an
entry, log a mode that never was, or book into the sums of another project. Where the past is written on purpose (an import, a
demo's history) the admin door says so, in `derwin.restoring`. Not on Citus, where a look at another table inside of a trigger
is a distributed query: there the repositories alone see to it.
Lock: SHARE ROW EXCLUSIVE on the five tables, for an instant.
Back: drops triggers, functions and the table, and lets the ledger's rows go in a trigger of the owner's again.

Revision ID: f7c2a90e6b14
Revises: e5a1c0947b3f
Create Date: 2026-11-29 06:10:00
"""

import sqlalchemy as sa

from alembic import op
from derwin_db import sql

revision = "f7c2a90e6b14"
down_revision = "e5a1c0947b3f"
branch_labels = None
depends_on = None

TRIGGERS = {
    "derwin_stamp_evidence": ("audit_artifacts",),
    "derwin_stamp_log": ("project_mode_logs", "profile_evolution_logs"),
    "derwin_check_mode_log": ("project_mode_logs",),
    "derwin_check_mode": ("projects",),
    "derwin_check_ledger": ("spend_ledger",),
}


def run(statements: list[str]) -> None:
    for statement in statements:
        op.execute(statement)


def is_distributed() -> bool:
    return bool(op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')")))


def upgrade() -> None:
    run(sql.read("append_only.v2", project_is_gone="true" if is_distributed() else sql.PROJECT_IS_GONE))
    reference = (
        "" if is_distributed() else " REFERENCES public.projects (id) ON DELETE CASCADE"
    )  # no local table may refer there
    run(sql.read("history.v1", reference=reference))
    run(sql.read("revoke_public.v1", objects="FUNCTION public.derwin_is_restoring(uuid)"))
    if not is_distributed():
        run(sql.read("stamps.v1"))


def downgrade() -> None:
    for name, tables in TRIGGERS.items():
        for table in tables:
            op.execute(f"DROP TRIGGER IF EXISTS {name} ON public.{table}")
        op.execute(f"DROP FUNCTION IF EXISTS public.{name}()")
    op.execute("DROP FUNCTION public.derwin_is_restoring(uuid)")
    op.execute("DROP TABLE derwin.restoring")
    for statement in sql.read("append_only.v1", project_is_gone="true" if is_distributed() else sql.PROJECT_IS_GONE):
        op.execute(statement.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1))
