"""Rename the table of the revision to `derwin_alembic_version`: a service's Alembic may have `alembic_version`.

What and why: two chains of revisions in one table are two heads to Alembic, and each refuses the other's. `alembic/env.py` has moved
our row before this runs, out of a table that somebody else shares too; this grants the new table and closes the former one.
Running code of before reads the former table at its start, and refuses any newer revision there as well.
Lock: the former table, for an instant.
Back: the former table is there again, readable as before; `alembic/env.py` puts the revision into it.

Revision ID: f3c9a1e07b52
Revises: e4a7c05b91d3
Create Date: 2026-11-29 08:10:00
"""

from alembic import op
from derwin_db import sql

revision = "f3c9a1e07b52"
down_revision = "e4a7c05b91d3"
branch_labels = None
depends_on = None


def run(statements: list[str]) -> None:
    for statement in statements:
        op.execute(statement)


def upgrade() -> None:
    run(sql.read("revoke_public.v1", objects="public.derwin_alembic_version"))
    run(sql.read("version_table.v1"))


def downgrade() -> None:
    op.execute("REVOKE ALL ON public.derwin_alembic_version FROM derwin_app, derwin_admin")
    op.execute(
        "CREATE TABLE IF NOT EXISTS public.alembic_version ("
        "version_num varchar(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
    )
    run(sql.read("revoke_public.v1", objects="public.alembic_version"))
    op.execute("GRANT SELECT ON public.alembic_version TO derwin_app, derwin_admin")
