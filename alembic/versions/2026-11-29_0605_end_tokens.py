"""End tokens of the project scope after seconds.

What and why: a token was good for as long as its backend lived, so one that stood in the server's log or in
pg_stat_activity opened its project later on. Now it carries the time at which it was made, opens no transaction that has a
scope already, and has a second form that is the scope of one statement alone. A statement without a scope is an error
instead of an empty answer.
Services that run code of before go on: what they open with is taken for one hour more, and by a database without projects
not at all; deploy the new code within it, or make a new key (`derwin-db roles rotate`) to end it at once.
Lock: ACCESS EXCLUSIVE on the table of the key, for an instant: units of work that are opening wait for it.
Back: the functions of before. Services of the new code can't open units on them: take these back first.

Revision ID: e5a1c0947b3f
Revises: e4b1d7a93c58
Create Date: 2026-11-29 06:05:00
"""

import sqlalchemy as sa

from alembic import op
from derwin_db import sql

revision = "e5a1c0947b3f"
down_revision = "e4b1d7a93c58"
branch_labels = None
depends_on = None

IS_SEALED = "SELECT to_regprocedure('public.derwin_open(text)') IS NOT NULL"
STILL_OPEN = "UPDATE derwin.scope_key SET open_v1_until = now() + interval '1 hour' WHERE EXISTS (SELECT FROM public.projects)"


def upgrade() -> None:
    op.execute("ALTER TABLE derwin.scope_key ADD COLUMN open_v1_until timestamptz")
    op.execute("COMMENT ON COLUMN derwin.scope_key.open_v1_until IS 'Until when tokens without an end are taken'")
    if op.get_bind().scalar(sa.text(IS_SEALED)):
        op.execute(STILL_OPEN)
        for statement in sql.read("scope_sealed.v2"):
            op.execute(statement)


def downgrade() -> None:
    if op.get_bind().scalar(sa.text(IS_SEALED)):
        for statement in sql.read("scope_sealed.v1"):
            op.execute(statement.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    op.execute("ALTER TABLE derwin.scope_key DROP COLUMN open_v1_until")
