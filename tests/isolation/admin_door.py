"""The audit of the admin door: one record for each use, whatever becomes of it, with who, why and what."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from derwin_db import AdminSession, repos
from derwin_db.errors import DerwinError
from derwin_db.models import ProjectUpdate
from tests.isolation.arena import Arena
from tests.isolation.units import Script


class Stop(Exception):
    pass


async def _commits(admin: AdminSession, arena: Arena) -> None:
    await repos.projects.get(admin, arena.a.project_id)
    await repos.projects.list(admin)


async def _raises(admin: AdminSession, arena: Arena) -> None:
    await repos.projects.update(admin, arena.a.project_id, ProjectUpdate(name="never stored"))
    raise Stop


async def _fails(admin: AdminSession, arena: Arena) -> None:
    await admin.sql.execute(sa.text("SELECT 1 / 0"))


async def _is_refused(admin: AdminSession, arena: Arena) -> None:
    await repos.projects.get(admin, arena.b.ids("qa_tickets")[0])


async def _is_cancelled(admin: AdminSession, arena: Arena) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    await admin.sql.execute(sa.text("SELECT pg_sleep(5)"))


async def _does_nothing(admin: AdminSession, arena: Arena) -> None:
    pass


async def _uses_sql(admin: AdminSession, arena: Arena) -> None:
    await admin.sql.execute(sa.text("SELECT count(*) FROM public.projects"))


async def _is_in_a_savepoint(admin: AdminSession, arena: Arena) -> None:
    with contextlib.suppress(Stop):
        async with admin.savepoint():
            await repos.projects.archive(admin, arena.a.project_id)
            raise Stop


USES: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "that commits": (_commits, "committed", ("projects.find", "projects.list")),
    "that raises": (_raises, "rolled back", ("projects.update",)),
    "whose statement fails": (_fails, "rolled back", ()),
    "that is refused": (_is_refused, "rolled back", ("projects.find",)),
    "that is cancelled": (_is_cancelled, "rolled back", ()),
    "of which nothing is made": (_does_nothing, "committed", ()),
    "by SQL alone": (_uses_sql, "committed", ()),
    "that undoes a savepoint": (_is_in_a_savepoint, "committed", ("projects.archive",)),
}
"""What is done with the door, how it ends, and the operations of the record."""


@contextmanager
def door_records() -> Iterator[list[logging.LogRecord]]:
    records: list[logging.LogRecord] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger, keeping = logging.getLogger("derwin_db.admin"), Keeping()
    level = logger.level
    logger.addHandler(keeping)
    logger.setLevel(logging.INFO)
    try:
        yield records
    finally:
        logger.removeHandler(keeping)
        logger.setLevel(level)


def using(use: Any, outcome: str, operations: tuple[str, ...]) -> Any:
    async def run(arena: Arena) -> None:
        async def open_it() -> None:
            async with arena.shared.wide.admin(reason="an audit of the door") as admin:
                await use(admin, arena)

        with door_records() as records:
            task = asyncio.ensure_future(open_it())
            with contextlib.suppress(Stop, DerwinError, asyncio.CancelledError):
                await task
        assert len(records) == 1, f"{len(records)} records for one use"
        record: Any = records[0]
        assert record.reason == "an audit of the door"
        assert record.outcome == outcome
        assert record.operations == operations
        assert record.login == (None if use is _does_nothing else arena.shared.database.operator.user)
        assert "an audit of the door" in record.getMessage()
        assert outcome in record.getMessage()
        assert not arena.of_b.found_in(record.getMessage())

    return run


def admin_scripts() -> Iterator[Script]:
    for name, (use, outcome, operations) in USES.items():
        yield Script(10, f"admin door: a use {name} leaves one record", using(use, outcome, operations))
