"""Guard words: they are read alike in every session; the function that finds them says itself how its literals are read.

What and why: the server reads the literals of a function once a session, under the setting standard_conforming_strings of that
moment. SQL in one unit of work could turn it off, and search missed words in what other units wrote on that connection.
Rows that were written so keep their words until they are changed; that takes SQL by hand with that setting.
Lock: none that anybody waits for.
Back: the function of before.

Revision ID: c7f3a90d5e28
Revises: b8e4d02f6a17
Create Date: 2026-11-29 09:30:00
"""

from alembic import op
from derwin_db import sql

revision = "c7f3a90d5e28"
down_revision = "b8e4d02f6a17"
branch_labels = None
depends_on = None
step = "expand"


def replace_function(entity: str) -> None:
    statement = sql.read(entity)[0].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)
    op.execute(statement.replace(":", "\\:"))


def upgrade() -> None:
    replace_function("words.v2")


def downgrade() -> None:
    replace_function("words.v1")
