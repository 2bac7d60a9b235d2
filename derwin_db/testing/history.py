"""Rows of the past, for tests: what is expired, or was written long ago. The admin door lets it be written, for a while."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from derwin_db.repos.rules.history import close_history, open_history
from derwin_db.session import ProjectSession


@asynccontextmanager
async def writing_history(session: ProjectSession) -> AsyncIterator[None]:
    """Let this unit of work write times of the past into evidence, logs and ledger until the end of the block."""
    admin_door = session._backend.admin  # noqa: SLF001  # no session leads to it; a test's may
    async with admin_door(reason="a test writes the past") as admin:
        await open_history(admin, session.project_id)
    yield
    async with admin_door(reason="a test has written the past") as admin:
        await close_history(admin, session.project_id)
