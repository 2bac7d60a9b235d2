"""Fence what reaches the sessions of other projects: signals and advisory locks.

What and why: units of all projects have one login, and each may end and cancel the sessions of its login, take the number that
others lock, and fill the server's table of locks. A service ends what it gave up with the key of the seal. Where the owner is no
superuser the functions stay open, and `doctor` says so; on Citus, where nothing is sealed, too. Services of before give up
statements as ever while this is there, and can't see to their end: the server's look at its clients does.
Lock: none that anybody waits for.
Back: PUBLIC may call the functions again, as PostgreSQL has it.

Revision ID: d7b3f1a96c24
Revises: b5d27f1ce934
Create Date: 2026-11-29 08:40:00
"""

import sqlalchemy as sa

from alembic import op
from derwin_db import sql

revision = "d7b3f1a96c24"
down_revision = "b5d27f1ce934"
branch_labels = None
depends_on = None
step = "expand"

FUNCTION = "public.derwin_end_process(integer, timestamptz, text)"


def run(statements: list[str]) -> None:
    for statement in statements:
        op.execute(statement.replace(":", "\\:"))


def is_sealed() -> bool:
    return bool(op.get_bind().scalar(sa.text("SELECT to_regprocedure('public.derwin_open(text)') IS NOT NULL")))


def upgrade() -> None:
    if is_sealed():
        run(sql.read("end_process.v1"))
        run(sql.read("revoke_public.v1", objects=f"FUNCTION {FUNCTION}"))
        signals = "GRANT EXECUTE ON FUNCTION %s TO pg_signal_backend"
        run(sql.read("signals.v1", public="REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC", signals=signals))


def downgrade() -> None:
    signals = "REVOKE EXECUTE ON FUNCTION %s FROM pg_signal_backend"
    run(sql.read("signals.v1", public="GRANT EXECUTE ON FUNCTION %s TO PUBLIC", signals=signals))
    op.execute(f"DROP FUNCTION IF EXISTS {FUNCTION}")
