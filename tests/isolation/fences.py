"""Fences on their own: the matrix with the repositories' filters taken out, and with the policies taken out.

The third, the keys alone, is `keys.key_scripts`, which runs as the owner.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg

from derwin_db import sql
from derwin_db.connection.facts import ServerFacts
from derwin_db.isolation.catalog.tables import TABLES
from derwin_db.testing import TestServer
from tests.isolation.arena import Arena, Ground, open_arena


@contextmanager
def patched(target: Any, **attributes: Any) -> Iterator[None]:
    """Set attributes of a module or class until the end of the block. TypeError for a function that can't be called alike."""
    kept = {name: target.__dict__[name] for name in attributes}
    for name, value in attributes.items():
        if inspect.isfunction(kept[name]) and inspect.isfunction(value):
            _check_calls(kept[name], value)
    for name, value in attributes.items():
        setattr(target, name, value)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(target, name, value)


def _check_calls(old: Any, new: Any) -> None:
    """See to it that what is patched in fails for what it does, and not for how it is called."""
    parameters = inspect.signature(old).parameters.values()
    named = {one.name: None for one in parameters if one.kind is one.KEYWORD_ONLY}
    inspect.signature(new).bind(*(None for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD), **named)


def started_anyway() -> Any:
    """Let a `Database` start on a database whose fences are down, which it refuses by itself."""
    return patched(ServerFacts, require_fences=lambda _server: None)


async def make_plain(owner: asyncpg.Connection) -> None:
    """Give each table the plain scope, as `distribute` does on Citus; elsewhere there is no switch for it."""
    for table in TABLES:
        column = "id" if table == "projects" else "project_id"
        for statement in sql.read_current("plain_scope", table=table, column=column):
            await owner.execute(statement)
    await owner.execute("DROP FUNCTION public.derwin_open(text), public.derwin_scope()")


def copied(server: TestServer, ground: Ground) -> Ground:
    """Copy both databases."""
    return Ground(server.clone(ground.alone), server.clone(ground.shared), ground.a, ground.b, ground.empty)


@asynccontextmanager
async def changed_arena(server: TestServer, ground: Ground, *statements: str) -> AsyncIterator[Arena]:
    """Yield an arena on copies of both databases, in which the owner has run these statements."""
    copies = await asyncio.to_thread(copied, server, ground)
    try:
        for database in (copies.alone, copies.shared):
            owner = await asyncpg.connect(**database.owner.connect_arguments())
            for statement in statements:
                await owner.execute(statement)
            await owner.close()
        async with open_arena(copies) as arena:
            yield arena
    finally:
        for database in (copies.alone, copies.shared):
            await asyncio.to_thread(server.drop, database)


@asynccontextmanager
async def without_policies(server: TestServer, ground: Ground) -> AsyncIterator[Arena]:
    """Yield an arena where row level security is off: the repositories' filters have to hold, and the keys."""
    statements = [f"ALTER TABLE public.{table} DISABLE ROW LEVEL SECURITY" for table in TABLES]
    with started_anyway():
        async with changed_arena(server, ground, *statements) as arena:
            yield arena
