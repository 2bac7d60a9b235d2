"""Tokens of a given key, tried on a connection beside the pools: what does the key still open?"""

from typing import Any
from uuid import UUID

import asyncpg

from derwin_db.isolation.seal import Kind, Seal
from derwin_db.testing import TestDatabase


async def server_time(raw: Any) -> int:
    """Return the server's clock as tokens carry it."""
    return await raw.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")


async def opened_by(seal: Seal, database: TestDatabase, project: UUID) -> set[Kind]:
    """Return the kinds of tokens of this key that open the project."""
    found = set()
    connection = await asyncpg.connect(**database.service.connect_arguments())
    try:
        await connection.execute("SET ROLE derwin_app")
        for kind in Kind:
            pid = connection.get_server_pid() if kind in (Kind.OPENS, Kind.SCOPES) else None
            token = seal.token(kind, project, await server_time(connection), pid)
            opens = kind in (Kind.OPENS, Kind.OPENS_ANYWHERE)
            way = "SELECT public.derwin_open($1)" if opens else "SELECT set_config('derwin.project_id', $1, true)"
            if await _opens(connection, way, token):
                found.add(kind)
    finally:
        await connection.close()
    return found


async def _opens(connection: asyncpg.Connection, way: str, token: str) -> bool:
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.fetch(way, token)
        return bool(await connection.fetchval("SELECT count(*) FROM public.qa_tickets"))
    except asyncpg.PostgresError:
        return False
    finally:
        await transaction.rollback()
