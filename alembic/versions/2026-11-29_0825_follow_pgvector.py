"""Follow pgvector: the trigger of past fixes finds it in whatever schema it moves to.

What and why: the trigger named pgvector's schema, so that nothing could be written to rag_corpus after `ALTER EXTENSION vector SET
SCHEMA`. A function whose body the server keeps parsed has no name in it. On Citus the column's default brings it to the workers.
Lock: ACCESS EXCLUSIVE on rag_corpus for an instant (a default); no row is touched.
Back: the trigger names the schema where pgvector is by then.

Revision ID: a6e0f4b82d15
Revises: a7d20c5e91f4
Create Date: 2026-11-29 08:25:00
"""

import sqlalchemy as sa

from alembic import op
from derwin_db import sql

revision = "a6e0f4b82d15"
down_revision = "a7d20c5e91f4"
branch_labels = None
depends_on = None
step = "expand"

HOME = """
SELECT quote_ident(n.nspname) FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'
"""


def upgrade() -> None:
    for statement in sql.read("search_rag_corpus.v2", vector=op.get_bind().scalar(sa.text(HOME))):
        op.execute(statement)
    op.execute("ALTER TABLE public.rag_corpus ALTER COLUMN bits SET DEFAULT public.derwin_signs(NULL)")


def downgrade() -> None:
    home = op.get_bind().scalar(sa.text(HOME))
    function = sql.read("search_rag_corpus.v1", vector=home)[0]
    op.execute(function.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1))
    op.execute("ALTER TABLE public.rag_corpus ALTER COLUMN bits DROP DEFAULT")
    op.execute(f"DROP FUNCTION public.derwin_signs({home}.vector)")
