"""The key of the sealed scope: read, made anew at once, or rotated without a gap. All of it as the owner.

A rotation starts, and the database takes two keys; services take the new one up by themselves; it is finished, and the former
key opens nothing any more.
"""

import asyncio
import time

from derwin_db.connection.driver import Connection, DriverError
from derwin_db.connection.facts import read_facts
from derwin_db.deploy.targets import keys_in
from derwin_db.errors import ConfigurationError, Conflict, DatabaseUnavailable
from derwin_db.isolation.catalog.code import key_on_shards
from derwin_db.isolation.seal import Seal
from derwin_db.translation.driver_errors import sqlstate_of

_UNDER_WAY = "55000"
_PAUSE = 0.1

_OPEN = """
SELECT DISTINCT virtualtransaction, pid FROM pg_catalog.pg_locks
WHERE locktype = 'relation' AND relation = ANY ($1::text[]::regclass[]) AND granted AND pid <> pg_catalog.pg_backend_pid()
AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
"""
"""Transactions that have looked at the key: each unit of work does, when it opens, and keeps its lock to its end.

On a distributed server they look at the copy of their node.
"""


async def read_key(connection: Connection) -> Seal:
    """Return the key of the sealed scope, the newest where there are two.

    Errors:
        ConfigurationError where there is none.
    """
    keys = await keys_in(connection)
    if not keys:
        raise ConfigurationError("This database holds no key of the project scope. `derwin-db roles rotate --now` makes one.")
    return keys[0]


async def is_rotating(connection: Connection) -> bool:
    """Tell whether a rotation was started and is not finished yet."""
    return len(await keys_in(connection)) > 1


async def rotate_key(connection: Connection) -> Seal:
    """Make a new key, the only one from now on: after a restore or a leak. Whatever the former one opened ends.

    Running services that can read the new key go on with it.
    """
    await connection.execute("SELECT derwin.rotate_scope_key()")
    return await read_key(connection)


async def start_rotation(connection: Connection) -> Seal:
    """Make a new key beside the one that is there: both are taken until `finish_rotation`. Returns the new one.

    Errors:
        Conflict where a rotation is under way.
    """
    try:
        await connection.execute("SELECT derwin.start_key_rotation()")
    except DriverError as error:
        if sqlstate_of(error) != _UNDER_WAY:
            raise
        raise Conflict(
            "A rotation of the scope key is under way. End it with `derwin-db roles rotate --finish` before the next one."
        ) from None
    return await read_key(connection)


async def finish_rotation(connection: Connection, *, wait_seconds: float = 120.0) -> None:
    """End the former key, once every transaction that it may have sealed is over. What opens meanwhile has the new key.

    Errors:
        ConfigurationError where no rotation was started; DatabaseUnavailable for transactions that go on for longer.

    Locks:
        None that anybody waits for.
    """
    if not await is_rotating(connection):
        raise ConfigurationError("No rotation of the scope key is under way: `derwin-db roles rotate` starts one.")
    deadline = time.monotonic() + wait_seconds
    open_before = await _open_transactions(connection)
    while left := open_before & await _open_transactions(connection):
        if time.monotonic() > deadline:
            raise DatabaseUnavailable(
                f"Units of work that the former key may have opened are open after {wait_seconds:g} s. Nothing was changed: "
                f"try again, or end these processes of the server: {', '.join(sorted(str(pid) for _, pid in left))}."
            )
        await asyncio.sleep(_PAUSE)
    await connection.execute("SELECT derwin.finish_key_rotation()")
    if await is_rotating(connection):
        raise ConfigurationError("The former key is there still: derwin.finish_key_rotation() is not what migrations make.")


async def _open_transactions(connection: Connection) -> set[tuple[str, int]]:
    copy = await key_on_shards(connection) if (await read_facts(connection)).is_sharded else None
    tables = ["derwin.scope_key", *([f"derwin.{copy}"] if copy else [])]
    return {(row["virtualtransaction"], row["pid"]) for row in await connection.fetch(_OPEN, tables)}
