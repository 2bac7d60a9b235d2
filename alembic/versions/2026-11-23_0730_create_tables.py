"""Create the 14 tables, with `rag_corpus.embedding` as bytes, so that no extension is needed yet.

What and why: keys, foreign keys, checks and indexes of all tables. The roles, grants and policies are the next revision.
Lock: new tables only.
Back: drops the tables and all that is in them.

Revision ID: a1f0c3d95b27
Revises:
Create Date: 2026-11-23 07:30:00
"""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op
from derwin_db import sql

revision = "a1f0c3d95b27"
down_revision = None
branch_labels = None
depends_on = None

# What autovacuum looks after sooner than at a fifth of the table: rows come and go here by the million.
# Source: benchmarks/retention.py, docs/explanation/scale.md
GROWING = {"autovacuum_vacuum_insert_scale_factor": 0.05, "autovacuum_analyze_scale_factor": 0.02}
TURNING_OVER = {"autovacuum_vacuum_scale_factor": 0.02, **GROWING}


def upgrade() -> None:
    for statement in sql.read("uuid7.v1"):
        op.execute(statement)
    op.create_table(
        "projects",
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("mode", sa.String(length=32), server_default="OBSERVE", nullable=False),
        sa.Column("compliance_mode", sa.String(length=32), server_default="STANDARD", nullable=False),
        sa.Column("repo_url", sa.Text(), nullable=True),
        sa.Column("settings", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.CheckConstraint(
            "compliance_mode IN ('STANDARD', 'GDPR', 'SOC2', 'PCI_DSS', 'HIPAA', 'SOX')", name="ck_projects_compliance_mode"
        ),
        sa.CheckConstraint("mode IN ('OBSERVE', 'TRIAGE', 'AUTHOR', 'AUTONOMOUS')", name="ck_projects_mode"),
        sa.CheckConstraint("slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND char_length(slug) <= 63", name="ck_projects_slug"),
        sa.CheckConstraint(
            "type IN ('ERP', 'CRM', 'ECOMMERCE', 'MARKETPLACE', 'SAAS', 'CONTENT', 'MOBILE', 'API', 'OTHER')",
            name="ck_projects_type",
        ),
        sa.CheckConstraint("char_length(name) BETWEEN 1 AND 500", name="ck_projects_name"),
        sa.CheckConstraint("char_length(repo_url) BETWEEN 1 AND 500", name="ck_projects_repo_url"),
        sa.CheckConstraint("version >= 0", name="ck_projects_version"),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
        sa.UniqueConstraint("slug", name="uq_projects_slug"),
        schema="public",
    )
    op.create_index(
        "ix_projects_created_at_id",
        "projects",
        [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_table(
        "spend_ledger",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("derwin_uuid7()"), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("amount_usd", sa.Numeric(precision=14, scale=6), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("ticket_id", sa.Uuid(), nullable=True),
        sa.Column("fix_attempt_id", sa.Uuid(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("details", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("project_slug", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "(kind = 'CHARGE' AND amount_usd > 0) OR (kind = 'CREDIT' AND amount_usd < 0)", name="ck_spend_ledger_sign"
        ),
        sa.CheckConstraint("amount_usd <> 'NaN'::numeric", name="ck_spend_ledger_amount_usd"),
        sa.CheckConstraint("kind IN ('CHARGE', 'CREDIT')", name="ck_spend_ledger_kind"),
        sa.CheckConstraint(
            "project_slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND char_length(project_slug) <= 63", name="ck_spend_ledger_project_slug"
        ),
        sa.CheckConstraint(
            "source IN ('ANTHROPIC', 'EMBEDDING', 'STORAGE', 'COMPUTE', 'OTHER')", name="ck_spend_ledger_source"
        ),
        sa.CheckConstraint("char_length(idempotency_key) BETWEEN 1 AND 500", name="ck_spend_ledger_idempotency_key"),
        sa.CheckConstraint("char_length(model) BETWEEN 1 AND 500", name="ck_spend_ledger_model"),
        sa.CheckConstraint("input_tokens >= 0", name="ck_spend_ledger_input_tokens"),
        sa.CheckConstraint("output_tokens >= 0", name="ck_spend_ledger_output_tokens"),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_spend_ledger"),
        sa.UniqueConstraint("project_id", "idempotency_key", name="uq_spend_ledger_idempotency_key"),
        schema="public",
        postgresql_with=GROWING,
    )
    op.create_index(
        "ix_spend_ledger_created_at_id",
        "spend_ledger",
        ["project_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_index("ix_spend_ledger_occurred_at", "spend_ledger", ["project_id", "occurred_at"], unique=False, schema="public")
    op.create_table(
        "classification_trust",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("derwin_uuid7()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("classification", sa.Text(), nullable=False),
        sa.Column("window_days", sa.Integer(), server_default=sa.text("30"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("successes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("reverts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("score", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("computed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "classification ~ '^[a-z0-9_]+$' AND char_length(classification) <= 64",
            name="ck_classification_trust_classification",
        ),
        sa.CheckConstraint("attempts >= 0", name="ck_classification_trust_attempts"),
        sa.CheckConstraint("reverts >= 0", name="ck_classification_trust_reverts"),
        sa.CheckConstraint("score >= 0 AND score <= 1", name="ck_classification_trust_score"),
        sa.CheckConstraint("successes >= 0", name="ck_classification_trust_successes"),
        sa.CheckConstraint("window_days >= 0", name="ck_classification_trust_window_days"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["public.projects.id"], name="fk_classification_trust_project_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_classification_trust"),
        sa.UniqueConstraint("project_id", "classification", name="uq_classification_trust_classification"),
        schema="public",
    )
    op.create_index(
        "ix_classification_trust_created_at_id",
        "classification_trust",
        ["project_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_table(
        "ingested_docs",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("derwin_uuid7()"), nullable=False),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("source_uri", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("mime_type", sa.Text(), nullable=False),
        sa.Column("byte_size", sa.BigInteger(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("status", sa.String(length=32), server_default="PENDING", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("superseded_by", sa.Uuid(), nullable=True),
        sa.CheckConstraint("content_hash ~ '^[0-9a-f]{64}$'", name="ck_ingested_docs_content_hash"),
        sa.CheckConstraint(
            "source IN ('UPLOAD', 'URL', 'REPOSITORY', 'TICKET_ADAPTER', 'DOCUMENT_ADAPTER')", name="ck_ingested_docs_source"
        ),
        sa.CheckConstraint("status IN ('PENDING', 'PROCESSED', 'FAILED', 'SUPERSEDED')", name="ck_ingested_docs_status"),
        sa.CheckConstraint("byte_size >= 0", name="ck_ingested_docs_byte_size"),
        sa.CheckConstraint("char_length(mime_type) BETWEEN 1 AND 500", name="ck_ingested_docs_mime_type"),
        sa.CheckConstraint("char_length(source_uri) BETWEEN 1 AND 500", name="ck_ingested_docs_source_uri"),
        sa.CheckConstraint("char_length(title) BETWEEN 1 AND 500", name="ck_ingested_docs_title"),
        sa.ForeignKeyConstraint(["project_id"], ["public.projects.id"], name="fk_ingested_docs_project_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_ingested_docs"),
        sa.UniqueConstraint("project_id", "content_hash", name="uq_ingested_docs_content_hash"),
        schema="public",
    )
    op.create_index(
        "ix_ingested_docs_created_at_id",
        "ingested_docs",
        ["project_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_index(
        "ix_ingested_docs_status_created_at_id",
        "ingested_docs",
        ["project_id", "status", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_table(
        "policies",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("derwin_uuid7()"), nullable=False),
        sa.Column("risk_tier_rules", postgresql.JSONB(), nullable=False),
        sa.Column("classification_overrides", postgresql.JSONB(), nullable=False),
        sa.Column("thresholds", postgresql.JSONB(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint("char_length(created_by) BETWEEN 1 AND 500", name="ck_policies_created_by"),
        sa.CheckConstraint("version >= 0", name="ck_policies_version"),
        sa.ForeignKeyConstraint(["project_id"], ["public.projects.id"], name="fk_policies_project_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_policies"),
        sa.UniqueConstraint("project_id", "version", name="uq_policies_version"),
        schema="public",
    )
    op.create_index(
        "ix_policies_created_at_id",
        "policies",
        ["project_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_index(
        "uq_policies_is_active", "policies", ["project_id"], unique=True, schema="public", postgresql_where=sa.text("is_active")
    )
    op.create_table(
        "project_mode_logs",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("derwin_uuid7()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("from_mode", sa.String(length=32), nullable=True),
        sa.Column("to_mode", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint("from_mode IN ('OBSERVE', 'TRIAGE', 'AUTHOR', 'AUTONOMOUS')", name="ck_project_mode_logs_from_mode"),
        sa.CheckConstraint("to_mode IN ('OBSERVE', 'TRIAGE', 'AUTHOR', 'AUTONOMOUS')", name="ck_project_mode_logs_to_mode"),
        sa.CheckConstraint("char_length(actor) BETWEEN 1 AND 500", name="ck_project_mode_logs_actor"),
        sa.CheckConstraint("char_length(reason) BETWEEN 1 AND 500", name="ck_project_mode_logs_reason"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["public.projects.id"], name="fk_project_mode_logs_project_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_project_mode_logs"),
        schema="public",
    )
    op.create_index(
        "ix_project_mode_logs_created_at_id",
        "project_mode_logs",
        ["project_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_table(
        "project_profiles",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("derwin_uuid7()"), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("domain_ontology", postgresql.JSONB(), nullable=False),
        sa.Column("risk_weights", postgresql.JSONB(), nullable=False),
        sa.Column("critical_flows", postgresql.JSONB(), nullable=False),
        sa.Column("glossary", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.CheckConstraint("version >= 0", name="ck_project_profiles_version"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["public.projects.id"], name="fk_project_profiles_project_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_project_profiles"),
        sa.UniqueConstraint("project_id", name="uq_project_profiles"),
        schema="public",
    )
    op.create_index(
        "ix_project_profiles_created_at_id",
        "project_profiles",
        ["project_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_table(
        "qa_runs",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("derwin_uuid7()"), nullable=False),
        sa.Column("trigger", sa.String(length=32), nullable=False),
        sa.Column("routes", postgresql.JSONB(), nullable=False),
        sa.Column("target_url", sa.Text(), nullable=True),
        sa.Column("commit_sha", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("status", sa.String(length=32), server_default="QUEUED", nullable=False),
        sa.Column("mode", sa.String(length=32), nullable=False),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stats", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("mode IN ('OBSERVE', 'TRIAGE', 'AUTHOR', 'AUTONOMOUS')", name="ck_qa_runs_mode"),
        sa.CheckConstraint("status IN ('QUEUED', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED')", name="ck_qa_runs_status"),
        sa.CheckConstraint("trigger IN ('MANUAL', 'SCHEDULED', 'DEPLOY', 'WEBHOOK')", name="ck_qa_runs_trigger"),
        sa.CheckConstraint("char_length(claimed_by) BETWEEN 1 AND 500", name="ck_qa_runs_claimed_by"),
        sa.CheckConstraint("char_length(commit_sha) BETWEEN 1 AND 500", name="ck_qa_runs_commit_sha"),
        sa.CheckConstraint("char_length(target_url) BETWEEN 1 AND 500", name="ck_qa_runs_target_url"),
        sa.ForeignKeyConstraint(["project_id"], ["public.projects.id"], name="fk_qa_runs_project_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_qa_runs"),
        schema="public",
    )
    op.create_index(
        "ix_qa_runs_created_at_id",
        "qa_runs",
        ["project_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_index(
        "ix_qa_runs_status_created_at_id",
        "qa_runs",
        ["project_id", "status", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_table(
        "rag_corpus",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("derwin_uuid7()"), nullable=False),
        sa.Column("ticket_id", sa.Uuid(), nullable=True),
        sa.Column("fix_attempt_id", sa.Uuid(), nullable=True),
        sa.Column("classification", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("fix_summary", sa.Text(), nullable=False),
        sa.Column("diff", sa.Text(), nullable=False),
        sa.Column("embedding", sa.LargeBinary(), nullable=True),
        sa.Column("embedding_model", sa.Text(), nullable=True),
        sa.Column("token_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("use_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "classification ~ '^[a-z0-9_]+$' AND char_length(classification) <= 64", name="ck_rag_corpus_classification"
        ),
        sa.CheckConstraint("char_length(embedding_model) BETWEEN 1 AND 500", name="ck_rag_corpus_embedding_model"),
        sa.CheckConstraint("token_count >= 0", name="ck_rag_corpus_token_count"),
        sa.CheckConstraint("use_count >= 0", name="ck_rag_corpus_use_count"),
        sa.ForeignKeyConstraint(["project_id"], ["public.projects.id"], name="fk_rag_corpus_project_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_rag_corpus"),
        schema="public",
    )
    op.create_index(
        "ix_rag_corpus_classification_created_at_id",
        "rag_corpus",
        ["project_id", "classification", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_index(
        "ix_rag_corpus_created_at_id",
        "rag_corpus",
        ["project_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_table(
        "profile_evolution_logs",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("derwin_uuid7()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("profile_id", sa.Uuid(), nullable=False),
        sa.Column("from_version", sa.Integer(), nullable=False),
        sa.Column("to_version", sa.Integer(), nullable=False),
        sa.Column("change", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("patch", postgresql.JSONB(), nullable=False),
        sa.Column("doc_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "change IN ('CREATED', 'DOC_INGESTED', 'HUMAN_EDIT', 'LEARNED', 'ROLLBACK')",
            name="ck_profile_evolution_logs_change",
        ),
        sa.CheckConstraint("char_length(actor) BETWEEN 1 AND 500", name="ck_profile_evolution_logs_actor"),
        sa.CheckConstraint("char_length(reason) BETWEEN 1 AND 500", name="ck_profile_evolution_logs_reason"),
        sa.CheckConstraint("from_version >= 0", name="ck_profile_evolution_logs_from_version"),
        sa.CheckConstraint("to_version >= 0", name="ck_profile_evolution_logs_to_version"),
        sa.ForeignKeyConstraint(
            ["project_id", "doc_id"],
            ["public.ingested_docs.project_id", "public.ingested_docs.id"],
            name="fk_profile_evolution_logs_doc_id",
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "profile_id"],
            ["public.project_profiles.project_id", "public.project_profiles.id"],
            name="fk_profile_evolution_logs_profile_id",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["public.projects.id"], name="fk_profile_evolution_logs_project_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_profile_evolution_logs"),
        sa.UniqueConstraint("project_id", "to_version", name="uq_profile_evolution_logs_to_version"),
        schema="public",
    )
    op.create_index(
        "ix_profile_evolution_logs_created_at_id",
        "profile_evolution_logs",
        ["project_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_index(
        "ix_profile_evolution_logs_doc_id", "profile_evolution_logs", ["project_id", "doc_id"], unique=False, schema="public"
    )
    op.create_index(
        "ix_profile_evolution_logs_profile_id",
        "profile_evolution_logs",
        ["project_id", "profile_id"],
        unique=False,
        schema="public",
    )
    op.create_table(
        "qa_tickets",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("derwin_uuid7()"), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("steps_to_reproduce", postgresql.JSONB(), nullable=False),
        sa.Column("expected", sa.Text(), nullable=True),
        sa.Column("actual", sa.Text(), nullable=True),
        sa.Column("severity", sa.String(length=32), nullable=False),
        sa.Column("classification", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("risk_score", sa.Double(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("external_ref", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("status", sa.String(length=32), server_default="OPEN", nullable=False),
        sa.Column("initial_bucket", sa.String(length=32), nullable=True),
        sa.Column("final_bucket", sa.String(length=32), nullable=True),
        sa.Column("duplicate_of_id", sa.Uuid(), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.CheckConstraint(
            "classification ~ '^[a-z0-9_]+$' AND char_length(classification) <= 64", name="ck_qa_tickets_classification"
        ),
        sa.CheckConstraint(
            "final_bucket IN ('AUTO_FIX', 'ASSISTED_FIX', 'HUMAN_ONLY', 'NEEDS_INFO', 'NOISE')",
            name="ck_qa_tickets_final_bucket",
        ),
        sa.CheckConstraint(
            "initial_bucket IN ('AUTO_FIX', 'ASSISTED_FIX', 'HUMAN_ONLY', 'NEEDS_INFO', 'NOISE')",
            name="ck_qa_tickets_initial_bucket",
        ),
        sa.CheckConstraint("severity IN ('CRITICAL', 'HIGH', 'MEDIUM', 'LOW')", name="ck_qa_tickets_severity"),
        sa.CheckConstraint(
            "status IN ('OPEN', 'TRIAGED', 'IN_PROGRESS', 'FIX_PROPOSED', 'RESOLVED', 'DUPLICATE', 'REJECTED', 'WONT_FIX')",
            name="ck_qa_tickets_status",
        ),
        sa.CheckConstraint("char_length(external_ref) BETWEEN 1 AND 500", name="ck_qa_tickets_external_ref"),
        sa.CheckConstraint("char_length(fingerprint) BETWEEN 1 AND 128", name="ck_qa_tickets_fingerprint"),
        sa.CheckConstraint("char_length(title) BETWEEN 1 AND 500", name="ck_qa_tickets_title"),
        sa.CheckConstraint("confidence >= 0 AND confidence <= 1", name="ck_qa_tickets_confidence"),
        sa.CheckConstraint("risk_score >= 0 AND risk_score <= 1", name="ck_qa_tickets_risk_score"),
        sa.CheckConstraint("version >= 0", name="ck_qa_tickets_version"),
        sa.ForeignKeyConstraint(
            ["project_id", "duplicate_of_id"],
            ["public.qa_tickets.project_id", "public.qa_tickets.id"],
            name="fk_qa_tickets_duplicate_of_id",
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "run_id"], ["public.qa_runs.project_id", "public.qa_runs.id"], name="fk_qa_tickets_run_id"
        ),
        sa.ForeignKeyConstraint(["project_id"], ["public.projects.id"], name="fk_qa_tickets_project_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_qa_tickets"),
        schema="public",
    )
    op.create_index(
        "ix_qa_tickets_classification_created_at_id",
        "qa_tickets",
        ["project_id", "classification", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_index(
        "ix_qa_tickets_created_at_id",
        "qa_tickets",
        ["project_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_index(
        "ix_qa_tickets_duplicate_of_id", "qa_tickets", ["project_id", "duplicate_of_id"], unique=False, schema="public"
    )
    op.create_index(
        "ix_qa_tickets_final_bucket_created_at_id",
        "qa_tickets",
        ["project_id", "final_bucket", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_index("ix_qa_tickets_fingerprint", "qa_tickets", ["project_id", "fingerprint"], unique=False, schema="public")
    op.create_index("ix_qa_tickets_run_id", "qa_tickets", ["project_id", "run_id"], unique=False, schema="public")
    op.create_index(
        "ix_qa_tickets_status_created_at_id",
        "qa_tickets",
        ["project_id", "status", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_table(
        "qa_fix_attempts",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("derwin_uuid7()"), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ticket_id", sa.Uuid(), nullable=False),
        sa.Column("attempt_no", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=32), server_default="DISPATCHED", nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=True),
        sa.Column("pr_url", sa.Text(), nullable=True),
        sa.Column("diff_stat", postgresql.JSONB(), nullable=True),
        sa.Column("input_tokens", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("output_tokens", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("cost_usd", sa.Numeric(precision=14, scale=6), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("concluded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("prompt_artifact_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint("cost_usd >= 0 AND cost_usd <> 'NaN'::numeric", name="ck_qa_fix_attempts_cost_usd"),
        sa.CheckConstraint(
            "outcome IN ('MERGED', 'PR_OPENED', 'TESTS_FAILED', 'REJECTED', 'REVERTED', 'TIMED_OUT', 'ERROR')",
            name="ck_qa_fix_attempts_outcome",
        ),
        sa.CheckConstraint(
            "status IN ('DISPATCHED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED')", name="ck_qa_fix_attempts_status"
        ),
        sa.CheckConstraint("attempt_no >= 0", name="ck_qa_fix_attempts_attempt_no"),
        sa.CheckConstraint("char_length(branch) BETWEEN 1 AND 500", name="ck_qa_fix_attempts_branch"),
        sa.CheckConstraint("char_length(model) BETWEEN 1 AND 500", name="ck_qa_fix_attempts_model"),
        sa.CheckConstraint("char_length(pr_url) BETWEEN 1 AND 500", name="ck_qa_fix_attempts_pr_url"),
        sa.CheckConstraint("input_tokens >= 0", name="ck_qa_fix_attempts_input_tokens"),
        sa.CheckConstraint("output_tokens >= 0", name="ck_qa_fix_attempts_output_tokens"),
        sa.ForeignKeyConstraint(
            ["project_id", "ticket_id"],
            ["public.qa_tickets.project_id", "public.qa_tickets.id"],
            name="fk_qa_fix_attempts_ticket_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["public.projects.id"], name="fk_qa_fix_attempts_project_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_qa_fix_attempts"),
        sa.UniqueConstraint("project_id", "ticket_id", "attempt_no", name="uq_qa_fix_attempts_ticket_id_attempt_no"),
        schema="public",
    )
    op.create_index(
        "ix_qa_fix_attempts_concluded_at", "qa_fix_attempts", ["project_id", "concluded_at"], unique=False, schema="public"
    )
    op.create_index(
        "ix_qa_fix_attempts_created_at_id",
        "qa_fix_attempts",
        ["project_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_index(
        "ix_qa_fix_attempts_status_created_at_id",
        "qa_fix_attempts",
        ["project_id", "status", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_table(
        "raw_signals",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("derwin_uuid7()"), nullable=False),
        sa.Column("route", sa.String(length=32), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("severity_hint", sa.String(length=32), nullable=True),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.String(length=32), server_default="NEW", nullable=False),
        sa.Column("ticket_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "route IN ('E2E_CRAWL', 'API_CONTRACT', 'STATIC_ANALYSIS', 'LOG_MINING', 'ACCESSIBILITY', 'VISUAL_DIFF', 'PERFORMANCE', 'DATA_INTEGRITY', 'ADAPTER')",
            name="ck_raw_signals_route",
        ),
        sa.CheckConstraint("severity_hint IN ('CRITICAL', 'HIGH', 'MEDIUM', 'LOW')", name="ck_raw_signals_severity_hint"),
        sa.CheckConstraint("status IN ('NEW', 'TRIAGED', 'DUPLICATE', 'DISCARDED')", name="ck_raw_signals_status"),
        sa.CheckConstraint("char_length(fingerprint) BETWEEN 1 AND 128", name="ck_raw_signals_fingerprint"),
        sa.CheckConstraint("char_length(title) BETWEEN 1 AND 500", name="ck_raw_signals_title"),
        sa.CheckConstraint("confidence >= 0 AND confidence <= 1", name="ck_raw_signals_confidence"),
        sa.ForeignKeyConstraint(
            ["project_id", "run_id"],
            ["public.qa_runs.project_id", "public.qa_runs.id"],
            name="fk_raw_signals_run_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "ticket_id"],
            ["public.qa_tickets.project_id", "public.qa_tickets.id"],
            name="fk_raw_signals_ticket_id",
        ),
        sa.ForeignKeyConstraint(["project_id"], ["public.projects.id"], name="fk_raw_signals_project_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_raw_signals"),
        sa.UniqueConstraint("project_id", "run_id", "fingerprint", name="uq_raw_signals_run_id_fingerprint"),
        schema="public",
        postgresql_with=TURNING_OVER,
    )
    op.create_index(
        "ix_raw_signals_created_at_id",
        "raw_signals",
        ["project_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_index("ix_raw_signals_fingerprint", "raw_signals", ["project_id", "fingerprint"], unique=False, schema="public")
    op.create_index(
        "ix_raw_signals_run_id_status", "raw_signals", ["project_id", "run_id", "status"], unique=False, schema="public"
    )
    op.create_index(
        "ix_raw_signals_status_created_at_id",
        "raw_signals",
        ["project_id", "status", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_index("ix_raw_signals_ticket_id", "raw_signals", ["project_id", "ticket_id"], unique=False, schema="public")
    op.create_table(
        "audit_artifacts",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("derwin_uuid7()"), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("ticket_id", sa.Uuid(), nullable=True),
        sa.Column("fix_attempt_id", sa.Uuid(), nullable=True),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("storage_uri", sa.Text(), nullable=False),
        sa.Column("mime_type", sa.Text(), nullable=False),
        sa.Column("byte_size", sa.BigInteger(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("compliance_mode", sa.String(length=32), nullable=False),
        sa.Column("retention_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("legal_hold", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint(
            "compliance_mode IN ('STANDARD', 'GDPR', 'SOC2', 'PCI_DSS', 'HIPAA', 'SOX')",
            name="ck_audit_artifacts_compliance_mode",
        ),
        sa.CheckConstraint("content_hash ~ '^[0-9a-f]{64}$'", name="ck_audit_artifacts_content_hash"),
        sa.CheckConstraint(
            "kind IN ('SCREENSHOT', 'VIDEO', 'PROMPT', 'DIFF', 'LOG', 'TRACE', 'HAR', 'REPORT')", name="ck_audit_artifacts_kind"
        ),
        sa.CheckConstraint("byte_size >= 0", name="ck_audit_artifacts_byte_size"),
        sa.CheckConstraint("char_length(mime_type) BETWEEN 1 AND 500", name="ck_audit_artifacts_mime_type"),
        sa.CheckConstraint("char_length(storage_uri) BETWEEN 1 AND 500", name="ck_audit_artifacts_storage_uri"),
        sa.ForeignKeyConstraint(
            ["project_id", "fix_attempt_id"],
            ["public.qa_fix_attempts.project_id", "public.qa_fix_attempts.id"],
            name="fk_audit_artifacts_fix_attempt_id",
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "run_id"], ["public.qa_runs.project_id", "public.qa_runs.id"], name="fk_audit_artifacts_run_id"
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "ticket_id"],
            ["public.qa_tickets.project_id", "public.qa_tickets.id"],
            name="fk_audit_artifacts_ticket_id",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["public.projects.id"], name="fk_audit_artifacts_project_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_audit_artifacts"),
        schema="public",
        postgresql_with=TURNING_OVER,
    )
    op.create_index(
        "ix_audit_artifacts_created_at_id",
        "audit_artifacts",
        ["project_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="public",
    )
    op.create_index(
        "ix_audit_artifacts_fix_attempt_id", "audit_artifacts", ["project_id", "fix_attempt_id"], unique=False, schema="public"
    )
    op.create_index(
        "ix_audit_artifacts_retention_until",
        "audit_artifacts",
        ["project_id", "retention_until"],
        unique=False,
        schema="public",
    )
    op.create_index("ix_audit_artifacts_run_id", "audit_artifacts", ["project_id", "run_id"], unique=False, schema="public")
    op.create_index(
        "ix_audit_artifacts_ticket_id", "audit_artifacts", ["project_id", "ticket_id"], unique=False, schema="public"
    )


def downgrade() -> None:
    op.drop_table("audit_artifacts", schema="public")
    op.drop_table("raw_signals", schema="public")
    op.drop_table("qa_fix_attempts", schema="public")
    op.drop_table("qa_tickets", schema="public")
    op.drop_table("profile_evolution_logs", schema="public")
    op.drop_table("rag_corpus", schema="public")
    op.drop_table("qa_runs", schema="public")
    op.drop_table("project_profiles", schema="public")
    op.drop_table("project_mode_logs", schema="public")
    op.drop_table("policies", schema="public")
    op.drop_table("ingested_docs", schema="public")
    op.drop_table("classification_trust", schema="public")
    op.drop_table("spend_ledger", schema="public")
    op.drop_table("projects", schema="public")
    op.execute("DROP FUNCTION public.derwin_uuid7()")
