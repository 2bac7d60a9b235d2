"""Rows of the past, for tests: what is expired, or was written long ago. The admin door lets it be written, for a while."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from derwin_db.repos.rules.history import close_history, open_history
from derwin_db.session import ProjectSession

if TYPE_CHECKING:
    from derwin_db.database import Database


@asynccontextmanager
async def writing_history(session: ProjectSession) -> AsyncIterator[None]:
    """Let this unit of work write times of the past into evidence, logs and ledger until the end of the block."""
    database = cast("Database", session._backend)  # noqa: SLF001  # to the admin door, for tests alone
    async with database.admin(reason="a test writes the past") as admin:
        await open_history(admin, session.project_id)
    yield
    async with database.admin(reason="a test has written the past") as admin:
        await close_history(admin, session.project_id)
