"""Change what columns take: exact money, times and JSON that can be read back, texts of bounded length.

What and why: `numeric(14, 6)` rounds what it is given before any check sees it; without a scale, under a CHECK, the same amount
is refused. The server takes times from 4713 BC to infinity, JSON of any depth and numbers of any size, which SQL by hand could
store and no client reads back.
Lock: ACCESS EXCLUSIVE on each table, for an instant: the type changes without a rewrite, and the checks are added NOT VALID.
Then they are validated, table by table, under SHARE UPDATE EXCLUSIVE: reads and writes go on.
Back: the checks go, and amounts are `numeric(14, 6)` again, which rewrites spend_ledger and qa_fix_attempts under ACCESS EXCLUSIVE.

Revision ID: e4b1d7a93c58
Revises: d92b6c41e8f5
Create Date: 2026-11-29 06:00:00
"""

import sqlalchemy as sa

from alembic import op
from derwin_db import sql

revision = "e4b1d7a93c58"
down_revision = "d92b6c41e8f5"
branch_labels = None
depends_on = None

TIMES = {
    "projects": ("created_at", "updated_at", "archived_at"),
    "project_profiles": ("created_at", "updated_at"),
    "ingested_docs": ("created_at", "updated_at", "processed_at"),
    "profile_evolution_logs": ("created_at",),
    "qa_runs": ("created_at", "updated_at", "heartbeat_at", "started_at", "finished_at"),
    "raw_signals": ("observed_at", "created_at", "updated_at"),
    "qa_tickets": ("created_at", "updated_at", "resolved_at"),
    "qa_fix_attempts": ("created_at", "updated_at", "started_at", "concluded_at"),
    "classification_trust": ("created_at", "updated_at", "computed_at"),
    "rag_corpus": ("created_at", "updated_at", "last_used_at"),
    "audit_artifacts": ("created_at", "updated_at", "retention_until"),
    "policies": ("created_at", "updated_at"),
    "project_mode_logs": ("created_at",),
    "spend_ledger": ("occurred_at", "created_at"),
}
JSON = {
    "projects": ("settings",),
    "project_profiles": ("domain_ontology", "risk_weights", "critical_flows", "glossary"),
    "ingested_docs": ("details",),
    "profile_evolution_logs": ("patch",),
    "qa_runs": ("routes", "stats"),
    "raw_signals": ("payload",),
    "qa_tickets": ("steps_to_reproduce",),
    "qa_fix_attempts": ("diff_stat",),
    "policies": ("risk_tier_rules", "classification_overrides", "thresholds"),
    "spend_ledger": ("details",),
}
TEXTS = {
    "project_profiles": ("summary",),
    "ingested_docs": ("error",),
    "qa_runs": ("error",),
    "qa_tickets": ("description", "expected", "actual"),
    "qa_fix_attempts": ("error",),
    "rag_corpus": ("problem", "fix_summary", "diff"),
    "policies": ("note",),
}
TIME = "{0} > '0001-01-01 00:00:00+00' AND {0} < '9999-12-31 23:59:59.999999+00'"
READABLE = (
    "NOT jsonb_path_exists({0}, 'strict $.**{{100 to last}}') "
    "AND NOT jsonb_path_exists({0}, 'strict $.** ? (@ > 1e300 || @ < -1e300)', '{{}}', true) "
    "AND pg_column_size({0}) <= 16777216"
)
TEXT = "octet_length({0}) <= 4000000"
MONEY = {
    ("spend_ledger", "amount_usd"): "{0} = round({0}, 6) AND {0} > -100000000 AND {0} < 100000000",
    ("qa_fix_attempts", "cost_usd"): "{0} = round({0}, 6) AND {0} >= 0 AND {0} < 100000000",
}
ROUNDED = {
    ("spend_ledger", "amount_usd"): "amount_usd <> 'NaN'::numeric",
    ("qa_fix_attempts", "cost_usd"): "cost_usd >= 0 AND cost_usd <> 'NaN'::numeric",
}
SIGN = "(kind = 'CHARGE' AND amount_usd > 0) OR (kind = 'CREDIT' AND amount_usd < 0)"


def checks() -> list[tuple[str, str, str]]:
    """Return table, constraint and condition of each check that is new."""
    return [
        (table, f"ck_{table}_{column}", condition.format(column))
        for columns_of, condition in ((TIMES, TIME), (JSON, READABLE), (TEXTS, TEXT))
        for table, columns in columns_of.items()
        for column in columns
    ]


def add(table: str, name: str, condition: str) -> None:
    op.execute(sa.text(f"ALTER TABLE public.{table} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID"))


def drop(table: str, name: str) -> None:
    op.execute(f"ALTER TABLE public.{table} DROP CONSTRAINT IF EXISTS {name}")


def validate(table: str, name: str) -> None:
    try:
        op.execute(f"ALTER TABLE public.{table} VALIDATE CONSTRAINT {name}")
    except sa.exc.IntegrityError:
        raise sql.RefusedMigration(
            f"Rows of {table} hold values that {name} refuses. Correct them, then migrate again: what is written from now on "
            "is checked already."
        ) from None


def change_money(kind: str, conditions: dict[tuple[str, str], str], *, is_valid: bool) -> None:
    """Change the type of amounts. Checks on a column are verified anew when its type changes: they go before, and come back."""
    suffix = "" if is_valid else " NOT VALID"
    drop("spend_ledger", "ck_spend_ledger_sign")
    for (table, column), condition in conditions.items():
        name = f"ck_{table}_{column}"
        drop(table, name)
        op.execute(f"ALTER TABLE public.{table} ALTER COLUMN {column} TYPE {kind}")
        op.execute(sa.text(f"ALTER TABLE public.{table} ADD CONSTRAINT {name} CHECK ({condition.format(column)}){suffix}"))
    op.execute(f"ALTER TABLE public.spend_ledger ADD CONSTRAINT ck_spend_ledger_sign CHECK ({SIGN}){suffix}")


def upgrade() -> None:
    change_money("numeric", MONEY, is_valid=False)
    for table, name, condition in checks():
        drop(table, name)  # of a start that was stopped while it validated
        add(table, name, condition)
    with op.get_context().autocommit_block():
        for table, name, _ in checks():
            validate(table, name)
        for table, column in MONEY:
            validate(table, f"ck_{table}_{column}")
        validate("spend_ledger", "ck_spend_ledger_sign")


def downgrade() -> None:
    for table, name, _ in checks():
        drop(table, name)
    change_money("numeric(14, 6)", ROUNDED, is_valid=True)
