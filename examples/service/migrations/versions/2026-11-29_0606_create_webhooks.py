"""Create webhooks, fenced.

Revision ID: be633d7db9d0
Revises:
Create Date: 2026-11-29 06:06:26
"""

import sqlalchemy as sa

from alembic import op
from derwin_db.migrations import fence

revision = "be633d7db9d0"
down_revision = None
branch_labels = None
depends_on = None

YEARS = "{0} > '0001-01-01 00:00:00+00' AND {0} < '9999-12-31 23:59:59.999999+00'"


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("derwin_uuid7()"), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("ticket_id", sa.Uuid(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.CheckConstraint(YEARS.format("created_at"), name="ck_webhooks_created_at"),
        sa.CheckConstraint(YEARS.format("updated_at"), name="ck_webhooks_updated_at"),
        sa.CheckConstraint("event IN ('TICKET_OPENED', 'TICKET_RESOLVED')", name="ck_webhooks_event"),
        sa.CheckConstraint("char_length(note) BETWEEN 1 AND 500", name="ck_webhooks_note"),
        sa.CheckConstraint("char_length(url) BETWEEN 1 AND 500", name="ck_webhooks_url"),
        sa.CheckConstraint("version >= 0", name="ck_webhooks_version"),
        sa.ForeignKeyConstraint(
            ["project_id", "ticket_id"],
            ["public.qa_tickets.project_id", "public.qa_tickets.id"],
            name="fk_webhooks_ticket_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["project_id"], ["public.projects.id"], name="fk_webhooks_project_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_webhooks"),
        sa.UniqueConstraint("project_id", "url", "event", name="uq_webhooks_url_event"),
        schema="public",
    )
    newest_first = ["project_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")]
    op.create_index("ix_webhooks_created_at_id", "webhooks", newest_first, schema="public")
    op.create_index("ix_webhooks_ticket_id", "webhooks", ["project_id", "ticket_id"], schema="public")
    fence(op, "webhooks")


def downgrade() -> None:
    op.drop_table("webhooks", schema="public")
