"""Add the queue over all projects: `derwin.open_runs`, kept by a trigger, and two functions that say which projects wait.

What and why: a worker that serves every project would have to ask each of them whether it has something to do. The table has the ids
of the runs that are queued or running; the functions give ids of projects, and only to who has the key of the seal. A commit that
queues a run wakes who listens, by a message without content. Expand only: code of before goes on as it did, and what it writes
is noted too. Not on Citus, where a trigger on a shard can't write into a table of the coordinator.
Lock: SHARE ROW EXCLUSIVE on qa_runs for an instant (a trigger), ACCESS EXCLUSIVE twice for an instant (a policy), and row locks
of the open runs of one project at a time while those that are there are noted. Stopped anywhere, it goes on when run again.
Back: drops trigger, functions and table; nothing is lost, all of it is derived.

Revision ID: a6d18e52c0f7
Revises: d7b3f1a96c24
Create Date: 2026-11-29 09:00:00
"""

from collections.abc import Sequence

import sqlalchemy as sa

from alembic import op
from derwin_db import sql

revision = "a6d18e52c0f7"
down_revision = "d7b3f1a96c24"
branch_labels = None
depends_on = None
step = "expand"

IS_BEGUN = "SELECT to_regclass('derwin.open_runs') IS NOT NULL"

OPEN_BACKFILL = """
GRANT SELECT, UPDATE ON public.qa_runs TO derwin_backfill;
CREATE POLICY derwin_backfill ON public.qa_runs AS PERMISSIVE FOR ALL TO derwin_backfill USING (true) WITH CHECK (true);
"""
CLOSE_BACKFILL = """
DROP POLICY derwin_backfill ON public.qa_runs;
REVOKE ALL ON public.qa_runs FROM derwin_backfill;
"""
TOUCH = """
UPDATE public.qa_runs SET status = status WHERE project_id = :project AND status IN ('QUEUED', 'RUNNING')
"""
"""Has the trigger note the open runs of a project, each under its own lock."""


def run(statements: Sequence[str]) -> None:
    for statement in statements:
        op.execute(statement)


def is_distributed() -> bool:
    return bool(op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')")))


def note_open_runs(bind: sa.Connection) -> None:
    """Note what is open already, a project at a time through the index on status, as the role with a policy of its own."""
    projects = bind.scalars(sa.text("SELECT id FROM public.projects ORDER BY id")).all()
    bind.execute(sa.text("SET ROLE derwin_backfill"))
    for project in projects:
        bind.execute(sa.text(TOUCH), {"project": project})
    bind.execute(sa.text("RESET ROLE"))


def upgrade() -> None:
    if is_distributed():
        return
    if not op.get_bind().scalar(sa.text(IS_BEGUN)):
        run(sql.read("queue.v1"))
        run(sql.split(OPEN_BACKFILL))
    with op.get_context().autocommit_block():  # commits what was begun
        note_open_runs(op.get_bind())
    run(sql.split(CLOSE_BACKFILL))


def downgrade() -> None:
    op.execute("DROP TRIGGER IF EXISTS derwin_note_open_run ON public.qa_runs")
    for function in (
        "derwin_note_open_run()",
        "derwin_waiting(text, uuid, integer, integer)",
        "derwin_stalled(text, interval)",
        "derwin_check_asker(text)",
    ):
        op.execute(f"DROP FUNCTION IF EXISTS public.{function}")
    op.execute("DROP TABLE IF EXISTS derwin.open_runs")
