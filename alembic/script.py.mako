"""${message}.

What and why: one concern.
Lock: which tables, how strong, how long.
Back: how `downgrade` restores what was, or why it can't.

Rules: import nothing of the package but `derwin_db.sql`; qualify every table with its schema; a new table gets its key,
policies, grants and triggers here, and last of all `sql.read("distribute_table.v1", table=...)` (tests find what is missing).
Rows are read and changed under FORCE ROW LEVEL SECURITY only as the role derwin_backfill. Code of the version before must go
on working while this runs. `step` says whether it goes on afterwards: "expand" only adds, and code of the revision before starts
on it; "contract" takes away what that code still uses, a release later. When it is ready, `make freeze` records it.

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
Create Date: ${create_date}
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from derwin_db import sql
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}
step = "expand"


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
