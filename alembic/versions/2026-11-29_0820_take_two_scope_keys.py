"""Take two keys of the project scope while it is rotated.

What and why: a new key was the only one from one moment to the next, so services that ran with the former one could open nothing
until they were restarted. Now a rotation starts, services take the new key up, and it is finished; docs/how-to/secrets.md.
Lock: ACCESS EXCLUSIVE on the table of the key, for an instant: units of work that are opening wait for it.
Back: the functions and the table of before. A rotation that is under way is finished by it: the former key is gone.

Revision ID: a7d20c5e91f4
Revises: f3c9a1e07b52
Create Date: 2026-11-29 08:20:00
"""

import sqlalchemy as sa

from alembic import op
from derwin_db import sql

revision = "a7d20c5e91f4"
down_revision = "f3c9a1e07b52"
branch_labels = None
depends_on = None
step = "expand"

IS_SEALED = "SELECT to_regprocedure('public.derwin_open(text)') IS NOT NULL"


def run(statements: list[str]) -> None:
    for statement in statements:
        op.execute(statement)


def upgrade() -> None:
    op.execute("ALTER TABLE derwin.scope_key ADD COLUMN former_inner_pad bytea, ADD COLUMN former_outer_pad bytea")
    op.execute("COMMENT ON COLUMN derwin.scope_key.former_inner_pad IS 'The key of before, while a rotation is under way'")
    run(sql.read("key_rotation.v1"))
    if op.get_bind().scalar(sa.text(IS_SEALED)):
        run(sql.read("scope_sealed.v3"))


def downgrade() -> None:
    if op.get_bind().scalar(sa.text(IS_SEALED)):
        run(sql.read("scope_sealed.v2"))
    op.execute("DROP FUNCTION derwin.start_key_rotation(), derwin.finish_key_rotation()")
    op.execute("ALTER TABLE derwin.scope_key DROP COLUMN former_inner_pad, DROP COLUMN former_outer_pad")
