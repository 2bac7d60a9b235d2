"""Add what search compares: `rag_corpus.bits` and `.words`, `qa_tickets.words`, derived by triggers.

What and why: a search by similarity looks at the signs of a project's embeddings in an index of the project, a search by
words at stored words. Rows that are there are derived in batches, rows that are written meanwhile by the triggers.
Lock: ACCESS EXCLUSIVE on both tables for an instant (columns without a value, triggers); row locks of one batch after that.
Stopped anywhere, it goes on from there when run again.
Back: drops triggers, functions and columns; nothing else is lost, all of it is derived.

Revision ID: e41a7c93d0b6
Revises: f7c2a90e6b14
Create Date: 2026-11-29 07:00:00
"""

import logging
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from alembic import op
from derwin_db import sql

revision = "e41a7c93d0b6"
down_revision = "f7c2a90e6b14"
branch_labels = None
depends_on = None

logger = logging.getLogger("derwin_db.migrations")

BATCH = 500
TABLES = ("rag_corpus", "qa_tickets")
HOME = """
SELECT quote_ident(n.nspname) FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'
"""
IS_BEGUN = "SELECT to_regprocedure('public.derwin_words(text)') IS NOT NULL"

OPEN_BACKFILL = """
GRANT SELECT, UPDATE ON public.{table} TO derwin_backfill;
CREATE POLICY derwin_backfill ON public.{table} AS PERMISSIVE FOR ALL TO derwin_backfill USING (true) WITH CHECK (true);
"""
CLOSE_BACKFILL = """
DROP POLICY derwin_backfill ON public.{table};
REVOKE ALL ON public.{table} FROM derwin_backfill;
"""


def run(statements: Sequence[str]) -> None:
    for statement in statements:
        op.execute(statement)


def pages(bind: sa.Connection, table: str) -> Iterator[Sequence[sa.Row[Any]]]:
    """Yield the keys of rows that nothing is derived for, in batches and in key order."""
    after: dict[str, Any] = {}
    while True:
        keyset = "AND (project_id, id) > (:project_id, :id)" if after else ""
        query = sa.text(
            f"SELECT project_id, id FROM public.{table} WHERE words IS NULL {keyset} ORDER BY project_id, id LIMIT {BATCH}"
        )
        rows = bind.execute(query, after).all()
        if not rows:
            return
        yield rows
        after = {"project_id": rows[-1].project_id, "id": rows[-1].id}


def derive(bind: sa.Connection, table: str) -> None:
    """Touch the rows that nothing is derived for, batch by batch, as the role with a policy of its own: the triggers derive."""
    update = sa.text(f"UPDATE public.{table} SET words = NULL WHERE project_id = :project_id AND id = ANY (:ids)")
    bind.execute(sa.text("SET ROLE derwin_backfill"))
    total = bind.scalar(sa.text(f"SELECT count(*) FROM public.{table} WHERE words IS NULL"))
    done = 0
    for rows in pages(bind, table):
        for project_id, of_project in groupby(rows, lambda row: row.project_id):
            bind.execute(update, {"project_id": project_id, "ids": [row.id for row in of_project]})
        done += len(rows)
        logger.info("prepared %s of %s rows of %s for search", f"{done:,}", f"{total:,}", table)
    bind.execute(sa.text("RESET ROLE"))


def begin() -> None:
    """Add columns, triggers and the policy of the backfill, in one transaction: all are there, or none."""
    home = op.get_bind().scalar(sa.text(HOME))
    op.execute("ALTER TABLE public.rag_corpus ADD COLUMN bits bit(1536), ADD COLUMN words tsvector")
    op.execute("ALTER TABLE public.qa_tickets ADD COLUMN words tsvector")
    run(sql.read("words.v1"))
    for table in TABLES:
        run(sql.read(f"search_{table}.v1", vector=home))
        run(sql.split(OPEN_BACKFILL.format(table=table)))


def upgrade() -> None:
    if not op.get_bind().scalar(sa.text(IS_BEGUN)):
        begin()
    with op.get_context().autocommit_block():  # commits what was begun
        for table in TABLES:
            derive(op.get_bind(), table)
    for table in TABLES:
        run(sql.split(CLOSE_BACKFILL.format(table=table)))
    # the dependency that has Citus bring the function to its workers, where searches call it
    op.execute("ALTER TABLE public.rag_corpus ALTER COLUMN words SET DEFAULT public.derwin_words('')")
    op.execute("ALTER TABLE public.qa_tickets ALTER COLUMN words SET DEFAULT public.derwin_words('')")


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"DROP TRIGGER derwin_search_row ON public.{table}")
        op.execute(f"DROP FUNCTION public.derwin_search_{table}()")
    op.execute("ALTER TABLE public.rag_corpus DROP COLUMN bits, DROP COLUMN words")
    op.execute("ALTER TABLE public.qa_tickets DROP COLUMN words")
    op.execute("DROP FUNCTION public.derwin_words(text)")
