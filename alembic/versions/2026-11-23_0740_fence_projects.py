"""Fence the projects: roles, grants, the seal, policies, append-only and retention triggers.

What and why: fence 2 (row level security under unprivileged roles) and what privileges and triggers guard. Sealed unless
the server is Citus, which refuses the subquery that the sealed policy needs.
Lock: ACCESS EXCLUSIVE on each table, for an instant.
Back: drops all of it but the roles: they are cluster-wide, and another database may use them.

Revision ID: b7e24a8c6d10
Revises: a1f0c3d95b27
Create Date: 2026-11-23 07:40:00
"""

import sqlalchemy as sa

from alembic import op
from derwin_db import sql

revision = "b7e24a8c6d10"
down_revision = "a1f0c3d95b27"
branch_labels = None
depends_on = None

TABLES = (
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
APPEND_ONLY = ("profile_evolution_logs", "project_mode_logs", "spend_ledger")


def run(statements: list[str]) -> None:
    for statement in statements:
        op.execute(statement)


def upgrade() -> None:
    distributed = bool(op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')")))
    form = "plain" if distributed else "sealed"
    project_is_gone = "true" if distributed else sql.PROJECT_IS_GONE
    everything = ", ".join(f"public.{table}" for table in ("projects", *TABLES, "alembic_version"))

    run(sql.read("roles.v1"))
    run(sql.read("revoke_public.v1", objects=everything))
    run(sql.read("revoke_temporary.v1"))
    run(sql.read("scope_key.v1"))
    run(sql.read("grants.v1"))
    if not distributed:
        run(sql.read("scope_sealed.v1"))
        run(sql.read("revoke_public.v1", objects="FUNCTION public.derwin_open(text), public.derwin_scope()"))
    run(sql.read(f"projects_policies_{form}.v1"))
    for table in TABLES:
        run(sql.read(f"table_policies_{form}.v1", table=table))
        run(sql.read("admin_policies.v1", table=table))
    run(sql.read("admin_writes.v1"))
    run(sql.read("append_only.v1", project_is_gone=project_is_gone))
    for table in APPEND_ONLY:
        run(sql.read("append_only_table.v1", table=table))
    run(sql.read("retention.v1", project_is_gone=project_is_gone))


def downgrade() -> None:
    triggers = {
        **dict.fromkeys(APPEND_ONLY, ("append_only_row", "append_only_statement", "append_only_truncate")),
        "audit_artifacts": ("keep_evidence_row", "keep_evidence_truncate"),
    }
    for table, names in triggers.items():
        for name in names:
            op.execute(f"DROP TRIGGER derwin_{name} ON public.{table}")
    op.execute("DROP FUNCTION public.derwin_refuse_change(), public.derwin_keep_evidence()")
    op.execute("DROP POLICY derwin_admin_adds ON public.project_mode_logs")
    op.execute("DROP POLICY derwin_admin_raises ON public.audit_artifacts")
    op.execute("DROP POLICY derwin_admin_prunes ON public.audit_artifacts")
    for table in ("projects", *TABLES):
        op.execute(f"DROP POLICY derwin_scope ON public.{table}")
        op.execute(f"DROP POLICY derwin_app_rows ON public.{table}")
        admin = "derwin_admin_rows" if table == "projects" else "derwin_admin_reads"
        op.execute(f"DROP POLICY {admin} ON public.{table}")
        op.execute(f"ALTER TABLE public.{table} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY")
        op.execute(f"REVOKE ALL ON public.{table} FROM derwin_app, derwin_admin")
    op.execute("REVOKE ALL ON public.alembic_version FROM derwin_app, derwin_admin")
    op.execute("REVOKE ALL ON FUNCTION public.derwin_uuid7() FROM derwin_app, derwin_admin")
    op.execute("REVOKE ALL ON SCHEMA public FROM derwin_app, derwin_admin, derwin_backfill")
    op.execute("DROP FUNCTION IF EXISTS public.derwin_open(text), public.derwin_scope()")
    op.execute("DROP SCHEMA derwin CASCADE")
