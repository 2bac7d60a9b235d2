"""Fence the times of logs: no entry of a time to come is brought in, also where the past of a project is being written.

What and why: an entry comes behind the last one. A file whose last entry is of the end of time would leave no time for another,
so that the project's mode or profile could never change again. Not on Citus, where nothing stamps.
Lock: none that anybody waits for.
Back: the function of before.

Revision ID: e81c5a37f0d2
Revises: a6d18e52c0f7
Create Date: 2026-11-29 09:10:00
"""

import sqlalchemy as sa

from alembic import op
from derwin_db import sql

revision = "e81c5a37f0d2"
down_revision = "a6d18e52c0f7"
branch_labels = None
depends_on = None
step = "expand"


def replace_function(statement: str) -> None:
    if op.get_bind().scalar(sa.text("SELECT to_regprocedure('public.derwin_stamp_log()') IS NOT NULL")):
        op.execute(statement.replace(":", "\\:"))


def upgrade() -> None:
    (statement,) = sql.read("stamp_log.v2")
    replace_function(statement)


def downgrade() -> None:
    (former,) = (one for one in sql.read("stamps.v1") if "FUNCTION public.derwin_stamp_log() RETURNS" in one)
    replace_function(former.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1))
