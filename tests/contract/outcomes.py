"""What a verb answers and leaves behind, in a form that is equal wherever it runs: without ids and times."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from derwin_db import Database, repos, sql
from tests.contract.verbs import Call

_DRAWN = {"slug", "project_slug", "next_cursor", "fingerprint", "idempotency_key"}
"""What each call draws anew."""


def plain(value: Any) -> Any:
    """Return an answer without what differs from call to call."""
    if isinstance(value, UUID):
        return "an id"
    if isinstance(value, date | datetime):
        return "a time"
    if isinstance(value, BaseModel) or is_dataclass(value):
        names = type(value).model_fields if isinstance(value, BaseModel) else [field.name for field in fields(value)]
        return type(value).__name__, {name: _drawn(name, getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {plain(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def _drawn(name: str, value: Any) -> Any:
    return value is None if name in _DRAWN else plain(value)


async def stored(db: Database, project: UUID) -> dict[str, list[str]]:
    """Return what each table holds of a project."""
    seen = {}
    async with db.project(project, read_only=True) as session:
        for table in sorted(sql.PROJECT_TABLES):
            seen[table] = sorted([repr(plain(row)) async for row in getattr(repos, table).stream(session)])
    return seen


async def outcome(call: Call, project: UUID, prepares: Database, runs: Database) -> Any:
    """Return what a verb of a project answers, and what is stored then: prepared by one `Database`, run by another one."""
    async with prepares.project(project) as session:
        made = await call.prepare(session)
    async with runs.project(project) as session:
        answer = await call.run(session, made)
    return plain(answer), await stored(prepares, project)
