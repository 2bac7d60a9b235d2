"""Fence the stores of the server that sessions of all projects would share: large objects.

What and why: every role may make large objects, and those of one unit of work are readable and writable in every other, for all
of them have one role. Where the owner is no superuser nothing changes, and `doctor` says so.
Lock: none that anybody waits for.
Back: PUBLIC may call the functions again, as PostgreSQL has it.

Revision ID: b9f4c62d8e37
Revises: f5c2e8b04d69
Create Date: 2026-11-29 07:50:00
"""

from alembic import op
from derwin_db import sql

revision = "b9f4c62d8e37"
down_revision = "f5c2e8b04d69"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in sql.read("shared_stores.v1", change="REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC"):
        op.execute(statement.replace(":", "\\:"))


def downgrade() -> None:
    for statement in sql.read("shared_stores.v1", change="GRANT EXECUTE ON FUNCTION %s TO PUBLIC"):
        op.execute(statement.replace(":", "\\:"))
