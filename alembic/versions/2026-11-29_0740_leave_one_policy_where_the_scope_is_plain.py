"""Leave one policy for derwin_app on each table where the scope is plain.

What and why: Citus sends a restrictive policy to the shards as a permissive one. Beside `USING (true)` it opened every row of
every project there. With one permissive policy, the scope itself, shards and coordinator say the same. Where the scope is
sealed nothing changes.
Lock: ACCESS EXCLUSIVE on each table and its shards, for an instant. Between both statements derwin_app sees no row.
Back: the two policies of before, which on a distributed server is the leak again: roll back there only to roll forward.

Revision ID: f5c2e8b04d69
Revises: a8d3e51c7f26
Create Date: 2026-11-29 07:40:00
"""

import sqlalchemy as sa

from alembic import op
from derwin_db import sql

revision = "f5c2e8b04d69"
down_revision = "a8d3e51c7f26"
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


def is_sealed() -> bool:
    return bool(op.get_bind().scalar(sa.text("SELECT to_regprocedure('public.derwin_scope()') IS NOT NULL")))


def run(entity: str) -> None:
    for table in TABLES:
        for statement in sql.read(entity, table=table, column="id" if table == "projects" else "project_id"):
            op.execute(statement)


def upgrade() -> None:
    if not is_sealed():
        run("plain_scope.v2")


def downgrade() -> None:
    if not is_sealed():
        for table in TABLES:
            op.execute(
                f"CREATE POLICY derwin_app_rows ON public.{table} AS PERMISSIVE FOR ALL TO derwin_app "
                "USING (true) WITH CHECK (true)"
            )
        run("plain_scope.v1")
