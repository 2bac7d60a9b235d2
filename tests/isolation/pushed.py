"""Attacks by SQL that Citus sends to the worker whole (family 14): what it calls runs there, beside units of other projects.

B has a unit open that has written. Nothing of it comes back, from any of the shards of that worker, or from what it shows.
"""

from collections.abc import Iterator
from typing import Any

import asyncpg

from derwin_db import repos
from derwin_db.models import QARunCreate
from derwin_db.testing.examples import example
from tests.isolation.arena import Arena
from tests.isolation.statements import raw_connection
from tests.isolation.states import Undo
from tests.isolation.units import Script

FROM_OWN_ROW = "SELECT {call} FROM public.projects WHERE id = '{own}'"

EVERYTHING = "schema_to_xml('public', true, false, '')::text"

CALLS = {
    "statements of others by their number": (
        "(SELECT string_agg(pg_stat_get_backend_activity(i), ' ') FROM pg_stat_get_backend_idset() AS i)"
    ),
    "statements of others": "(SELECT string_agg(query, ' ') FROM pg_stat_get_activity(NULL))",
    "all tables and shards": EVERYTHING,
    "all that can be named": "database_to_xml(true, false, '')::text",
    "all of them in B's name": f"set_config('derwin.project_id', '{{B}}', true) || {EVERYTHING}",
    "all of them under B's id and its own seal": (
        f"set_config('derwin.project_id', '{{B}}' || substr(current_setting('derwin.project_id'), 37), true) || {EVERYTHING}"
    ),
    "all of them without policies": f"set_config('row_security', 'off', true) || {EVERYTHING}",
    "all of them as nobody": f"set_config('role', 'none', true) || {EVERYTHING}",
    "all of them as the administrator": f"set_config('role', '{{owner}}', true) || {EVERYTHING}",
    "all of them as the admin door": f"set_config('role', 'derwin_admin', true) || {EVERYTHING}",
    "all of them as another session": f"set_config('session_authorization', '{{owner}}', true) || {EVERYTHING}",
    "the key": "query_to_xml('SELECT * FROM derwin.scope_key', true, false, '')::text",
    "all of the key's schema": "schema_to_xml('derwin', true, false, '')::text",
    "passwords": "query_to_xml('SELECT rolpassword FROM pg_authid', true, false, '')::text",
    "prepared statements": "query_to_xml('SELECT * FROM pg_prepared_statements', true, false, '')::text",
    "files": "pg_read_file('PG_VERSION')",
}
"""What A has its worker call."""


def pushed(call: str) -> Any:
    async def run(arena: Arena) -> None:
        names = {"own": arena.a.project_id, "B": arena.b.project_id, "owner": arena.shared.database.owner.user}
        sql = FROM_OWN_ROW.format(call=call.format(**names), **names)
        try:
            async with arena.shared.wide.project(arena.b.project_id) as other:
                await repos.qa_runs.enqueue(other, example(QARunCreate, marker=arena.b.marker))
                async with arena.shared.wide.project(arena.a.project_id) as session:
                    told = await _told(await raw_connection(session), sql)
                    found = arena.of_b.found_in(told, allowed={arena.b.project_id} if str(arena.b.project_id) in sql else set())
                    assert not found, f"{sql} tells {found}"
                raise Undo
        except Undo:
            pass

    return run


async def _told(raw: Any, sql: str) -> Any:
    await raw.execute("SAVEPOINT pushed")
    try:
        return [tuple(row) for row in await raw.fetch(sql)]
    except asyncpg.PostgresError as error:
        await raw.execute("ROLLBACK TO pushed")
        return [str(error), repr(error.as_dict())]


def pushed_scripts() -> Iterator[Script]:
    for name, call in CALLS.items():
        yield Script(14, f"on the worker: {name}", pushed(call))
