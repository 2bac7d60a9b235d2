"""Fence the chain of modes, the ledger's times, and what is taken for the ledger.

What and why: SQL by hand in a project could add an entry of its mode log for a change that was none, and leave the last of several
changes in one unit without its entry. While the past of a project was being written, an entry of the ledger could be of a time to
come. A log of the service whose name begins with `spend_ledger` was taken for the ledger, so that its project could not go. On
Citus only the last of these is looked at.
Lock: none that anybody waits for.
Back: the functions of before.

Revision ID: b2f8d60a93e7
Revises: e9d25c7b14f0
Create Date: 2026-11-30 09:00:00
"""

import sqlalchemy as sa

from alembic import op
from derwin_db import sql

revision = "b2f8d60a93e7"
down_revision = "e9d25c7b14f0"
branch_labels = None
depends_on = None
step = "expand"

CHECKS = ("derwin_check_mode_log", "derwin_check_mode", "derwin_check_ledger")


def project_is_gone() -> str:
    is_distributed = op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')"))
    return "true" if is_distributed else sql.PROJECT_IS_GONE


def replace_checks(statements: list[str]) -> None:
    if op.get_bind().scalar(sa.text("SELECT to_regprocedure('public.derwin_check_ledger()') IS NOT NULL")):
        for statement in statements:
            op.execute(statement)


def upgrade() -> None:
    replace_checks(sql.read("check_mode.v2") + sql.read("check_ledger.v2"))
    for statement in sql.read("append_only.v3", project_is_gone=project_is_gone()):
        op.execute(statement)


def downgrade() -> None:
    former = [one for one in sql.read("stamps.v1") if any(f"FUNCTION public.{name}() RETURNS" in one for name in CHECKS)]
    replace_checks([one.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1) for one in former])
    for statement in sql.read("append_only.v2", project_is_gone=project_is_gone()):
        op.execute(statement)
