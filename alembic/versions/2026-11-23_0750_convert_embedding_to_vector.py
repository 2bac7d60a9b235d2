"""Convert `rag_corpus.embedding` from bytes to pgvector's `vector(1536)`.

What and why: past fixes are searched by similarity, in the database. Every value is checked before anything is changed: one
that is not 6,144 bytes or not finite refuses the revision, with its id.
Lock: ACCESS EXCLUSIVE on rag_corpus for an instant at the beginning and at the end; row locks of one batch in between. What
is written meanwhile is converted too (a trigger marks it). Stopped anywhere, it goes on from there when run again.
Back: the bytes come back exactly; the extension stays, for somebody else may use it.

Revision ID: c3d58f0e7a42
Revises: b7e24a8c6d10
Create Date: 2026-11-23 07:50:00
"""

import logging
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from alembic import op
from derwin_db import sql

revision = "c3d58f0e7a42"
down_revision = "b7e24a8c6d10"
branch_labels = None
depends_on = None

logger = logging.getLogger("derwin_db.migrations")

SIZE = 1536
FLOATS = struct.Struct(f"<{SIZE}f")
BATCH = 200
MAX_NAMED = 20

CREATE_EXTENSION = """
DO $$
DECLARE
    home name;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'vector') THEN
        BEGIN
            CREATE EXTENSION vector;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE 'this login may not create the extension vector' USING ERRCODE = '0A000';
        END;
    END IF;
    -- hosted platforms keep extensions in a schema of their own
    SELECT n.nspname INTO home FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'vector';
    IF home <> 'public' THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO derwin_app, derwin_admin, derwin_backfill', home);
    END IF;
END
$$;
"""

OPEN_BACKFILL = """
GRANT SELECT, UPDATE ON public.rag_corpus TO derwin_backfill;
DROP POLICY IF EXISTS derwin_backfill ON public.rag_corpus;
CREATE POLICY derwin_backfill ON public.rag_corpus AS PERMISSIVE FOR ALL TO derwin_backfill USING (true) WITH CHECK (true);
"""

CLOSE_BACKFILL = """
DROP POLICY derwin_backfill ON public.rag_corpus;
REVOKE ALL ON public.rag_corpus FROM derwin_backfill;
"""

MARK_CHANGES = """
CREATE OR REPLACE FUNCTION public.derwin_mark_embedding() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF NEW.embedding IS DISTINCT FROM OLD.embedding THEN
        NEW.embedding_new := NULL;
    END IF;
    RETURN NEW;
END
$$;
CREATE OR REPLACE TRIGGER derwin_mark_embedding BEFORE UPDATE OF embedding ON public.rag_corpus
    FOR EACH ROW EXECUTE FUNCTION public.derwin_mark_embedding();
"""

SWAP_COLUMNS = """
DROP TRIGGER derwin_mark_embedding ON public.rag_corpus;
DROP FUNCTION public.derwin_mark_embedding();
ALTER TABLE public.rag_corpus DROP COLUMN embedding;
ALTER TABLE public.rag_corpus RENAME COLUMN embedding_new TO embedding;
"""


def run(script: str) -> None:
    for statement in sql.split(script):
        op.execute(statement)


def to_vector(value: bytes) -> str:
    """Return pgvector's text of 1,536 little-endian 32-bit floats: the shortest that reads back to the same bits."""
    return "[" + ",".join(repr(number) for number in FLOATS.unpack(value)) + "]"


def to_bytes(value: Sequence[float]) -> bytes:
    """Return the bytes that `to_vector` came from."""
    return FLOATS.pack(*value)


def is_convertible(value: bytes) -> bool:
    """Tell whether the bytes are 1,536 finite floats."""
    return len(value) == FLOATS.size and all(map(math.isfinite, FLOATS.unpack(value)))


def pages(bind: sa.Connection, expression: str, where: str = "embedding IS NOT NULL") -> Iterator[Sequence[sa.Row[Any]]]:
    """Yield (project_id, id, value) in batches, in key order: each batch is a statement and snapshot of its own."""
    after: tuple[Any, Any] | None = None
    while True:
        keyset = "" if after is None else "AND (project_id, id) > (:project_id, :id)"
        query = sa.text(
            f"SELECT project_id, id, {expression} AS value FROM public.rag_corpus "
            f"WHERE {where} {keyset} ORDER BY project_id, id LIMIT {BATCH}"
        )
        rows = bind.execute(query, {} if after is None else {"project_id": after[0], "id": after[1]}).all()
        if not rows:
            return
        yield rows
        after = (rows[-1].project_id, rows[-1].id)


@contextmanager
def backfill_role(bind: sa.Connection) -> Iterator[None]:
    """Act as the role that has a policy of its own: under FORCE the owner would see no row.

    After an error nothing is reset: the transaction, or the connection, ends.
    """
    bind.execute(sa.text("SET ROLE derwin_backfill"))
    yield
    bind.execute(sa.text("RESET ROLE"))


def refusal(bind: sa.Connection) -> str | None:
    """Return why the stored values can't be converted, with the ids of the rows, or None."""
    total, refused = 0, []
    for rows in pages(bind, "embedding"):
        total += len(rows)
        refused += [str(row.id) for row in rows if not is_convertible(bytes(row.value))]
    if not refused:
        return None
    named = ", ".join(refused[:MAX_NAMED]) + (f" and {len(refused) - MAX_NAMED:,} more" if len(refused) > MAX_NAMED else "")
    return (
        f"{len(refused):,} of {total:,} stored embeddings are not {FLOATS.size:,} bytes of finite 32-bit floats. Nothing "
        f"was changed. Correct or clear the embedding of these rows of rag_corpus, then migrate again: {named}"
    )


def convert(bind: sa.Connection, read: str, cast: str, as_parameter: Callable[[Any], Any]) -> None:
    """Fill `embedding_new` from `embedding`, batch by batch, as the backfill role."""
    where = "embedding IS NOT NULL AND embedding_new IS NULL"
    update = sa.text(f"UPDATE public.rag_corpus SET embedding_new = {cast} WHERE project_id = :project_id AND id = :id")
    with backfill_role(bind):
        total = bind.scalar(sa.text(f"SELECT count(*) FROM public.rag_corpus WHERE {where}"))
        done = 0
        for rows in pages(bind, read, where):
            bind.execute(
                update, [{"project_id": row.project_id, "id": row.id, "value": as_parameter(row.value)} for row in rows]
            )
            done += len(rows)
            logger.info("converted %s of %s embeddings", f"{done:,}", f"{total:,}")


def convert_in_batches_then_swap(column_type: str, *conversion: Any) -> None:
    """Convert under live traffic, then, under a short exclusive lock, what was written meanwhile, and swap the columns."""
    with op.get_context().autocommit_block():
        op.execute(f"ALTER TABLE public.rag_corpus ADD COLUMN IF NOT EXISTS embedding_new {column_type}")
        run(MARK_CHANGES)
        convert(op.get_bind(), *conversion)
    op.execute("LOCK TABLE public.rag_corpus IN ACCESS EXCLUSIVE MODE")
    convert(op.get_bind(), *conversion)
    run(SWAP_COLUMNS)
    run(CLOSE_BACKFILL)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        run(CREATE_EXTENSION)
        run(OPEN_BACKFILL)
        with backfill_role(op.get_bind()):
            reason = refusal(op.get_bind())
        if reason is not None:
            run(CLOSE_BACKFILL)
            raise sql.RefusedMigration(reason)
    convert_in_batches_then_swap(
        f"vector({SIZE})", "embedding", "CAST(CAST(:value AS text) AS vector)", lambda value: to_vector(bytes(value))
    )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        run(OPEN_BACKFILL)
    convert_in_batches_then_swap("bytea", "CAST(embedding AS real[])", "CAST(:value AS bytea)", to_bytes)
