"""A demo history of Lifeline: runs, signals, tickets, attempts, artifacts, spend and past fixes over the last 60 days.

Deterministic: the same scale and last day give the same rows with the same ids, so that seeding again adds nothing. The
repositories stamp what they write with the present; a history needs the past, so the rows are written in bulk through
`session.sql`, under the same policies as everything else. The changes of the profile alone are of the present.
"""

import contextlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from derwin_db import repos
from derwin_db.database import Database
from derwin_db.errors import StaleWrite
from derwin_db.fields.scalars import project_id_of
from derwin_db.models import AuditArtifact, QARun
from derwin_db.models.enums import ComplianceMode
from derwin_db.observe.progress import Progress
from derwin_db.query.builders import table_of
from derwin_db.repos.rules.history import close_history, open_history
from derwin_db.repos.rules.retention import retention_end
from derwin_db.seed.demo.findings import SHARES
from derwin_db.seed.demo.history import DAYS, FORMER_URL, TARGET_URL, DemoCounts, History
from derwin_db.seed.demo.learning import learn, take_in
from derwin_db.seed.lifeline import LIFELINE, PATIENCE
from derwin_db.session import ProjectSession

_BATCH = 500


async def seed_demo(
    db: Database, *, scale: int = 1, now: datetime | None = None, progress: Progress | None = None
) -> DemoCounts:
    """Write the history of Lifeline, which must be there. Returns the counts of what is there then.

    Idempotent: where a history was begun, on another day or at another scale, that one is completed, and nothing else added. A
    history that an older version of the package wrote stays as it is.
    Several starters at once write one history. The first that is done ends the writing of the past: all rows are there by then,
    and what the others still write is taken for what is there.
    """
    midnight = (now or datetime.now(UTC)).replace(hour=0, minute=0, second=0, microsecond=0)
    async with db.project(LIFELINE) as session:
        former = await _runs_of(session, FORMER_URL)
        if former:
            return DemoCounts.at(max(1, former // DemoCounts.at(1).runs))
        midnight, scale = await _begun(session) or (midnight, scale)
    history = History(DemoCounts.at(scale), midnight)
    async with db.admin(reason="the demo's history") as admin:
        await open_history(admin, project_id_of(LIFELINE))
    for model, rows, total in history.tables():
        written = 0
        for batch in _batches(rows):
            await db.run(LIFELINE, _write, model, batch)
            written += len(batch)
            if progress is not None:
                progress(table_of(model).name, written, total)
    async with db.admin(reason="end of the demo's history") as admin:
        await close_history(admin, project_id_of(LIFELINE))
    await db.run(LIFELINE, _refresh)
    handbook = await db.run(LIFELINE, take_in)
    with contextlib.suppress(StaleWrite):  # another starter was faster
        await db.run(LIFELINE, learn, handbook)
    return history.counts


async def _begun(session: ProjectSession) -> tuple[datetime, int] | None:
    """Return the last midnight and the scale of the history that is there, or None.

    Runs are written first, and their number says the scale: one that is no scale's was cut short among them.
    """
    runs = table_of(QARun)
    query = sa.select(sa.func.min(runs.c.created_at), sa.func.count()).where(runs.c.target_url == TARGET_URL)
    first, count = (await session.sql.execute(query)).one()
    scale, rest = divmod(count, DemoCounts.at(1).runs)
    if first is None or rest:
        return None
    return first.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=DAYS), scale


async def _runs_of(session: ProjectSession, url: str) -> int:
    runs = table_of(QARun)
    query = sa.select(sa.func.count()).select_from(runs).where(runs.c.target_url == url)
    return int((await session.sql.execute(query)).scalar_one())


async def _refresh(session: ProjectSession) -> None:
    await session.wait_for_locks(PATIENCE)
    await repos.classification_trust.refresh(session, sorted(SHARES))


async def _write(session: ProjectSession, model: Any, rows: list[dict[str, Any]]) -> None:
    await session.wait_for_locks(PATIENCE)  # another starter may be writing the same rows
    table = table_of(model)
    statement = insert(table)
    if model is AuditArtifact:
        rows = [{**row, "kept_from": row["created_at"]} for row in rows]
        start = sa.bindparam("kept_from", type_=table.c.created_at.type)
        end = retention_end(start, sa.literal(ComplianceMode.STANDARD, table.c.compliance_mode.type))
        statement = statement.values(retention_until=end)
    await session.sql.execute(statement.on_conflict_do_nothing(), rows)


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    source = iter(rows)
    while batch := list(islice(source, _BATCH)):
        yield batch
