"""Fence what an import says of the profile: no entry of its log is of a version that the profile does not have.

What and why: a file whose log is ahead of its profile left a project whose profile could never change again: versions are unique in
the log, and its entries are never removed. Not on Citus, where nothing looks.
Lock: none that anybody waits for.
Back: the function of before.

Revision ID: e9d25c7b14f0
Revises: d4b81e6fa935
Create Date: 2026-11-29 09:50:00
"""

import sqlalchemy as sa

from alembic import op
from derwin_db import sql

revision = "e9d25c7b14f0"
down_revision = "d4b81e6fa935"
branch_labels = None
depends_on = None
step = "expand"

IS_THERE = "SELECT to_regprocedure('public.derwin_check_profile_log()') IS NOT NULL"


def replace_function(entity: str) -> None:
    if op.get_bind().scalar(sa.text(IS_THERE)):
        statement = sql.read(entity)[0].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)
        op.execute(statement.replace(":", "\\:"))


def upgrade() -> None:
    replace_function("profile_log.v2")


def downgrade() -> None:
    replace_function("profile_log.v1")
