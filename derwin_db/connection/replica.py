"""The replica that read-only units go to, for as long as it answers; then the primary stands in, if it may.

It is looked at like a primary: schema and fences have to be those of this code. One that is down, or behind a migration, is
looked at again after a few seconds by one unit, while the others go to the primary.
"""

import asyncio
import logging
import re
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from derwin_db.connection.driver import Connection
from derwin_db.connection.facts import probe_server
from derwin_db.connection.pool import DataSource, open_pool
from derwin_db.errors import (
    ConfigurationError,
    DatabaseTimeout,
    DatabaseUnavailable,
    DerwinError,
    InvalidInput,
    ReplicaBehind,
    SchemaOutOfDate,
    SqlState,
)
from derwin_db.isolation.keys import KeyRing
from derwin_db.isolation.preamble import APP_ROLE
from derwin_db.observe.events import Observer
from derwin_db.settings.url import ConnectionInfo
from derwin_db.translation.driver_errors import raise_translated, translate

if TYPE_CHECKING:
    from derwin_db.settings import Settings

logger: logging.Logger = logging.getLogger("derwin_db")

RETRY_SECONDS = 5.0
"""How long a replica that did not answer is left alone."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.05
_POSITION = re.compile(r"[0-9A-F]{1,8}/[0-9A-F]{1,8}")
_WRITTEN = "SELECT pg_catalog.pg_current_wal_insert_lsn()::text"
_HAS_REPLAYED = "SELECT NOT pg_catalog.pg_is_in_recovery() OR pg_catalog.pg_last_wal_replay_lsn() >= $1::text::pg_lsn"


class Replica:
    """One replica: its pool, once it was looked at, and whether the primary stands in for it now."""

    def __init__(
        self, connection: ConnectionInfo, settings: "Settings", keys: KeyRing | None, observers: Sequence[Observer]
    ) -> None:
        self._info = connection
        self._settings = settings
        self._keys = keys
        self._observers = observers
        self._opened: DataSource | None = None
        self._is_down = False
        self._again_at = 0.0
        self._is_looking = False

    @property
    def opened(self) -> DataSource | None:
        """Its pool, if it was looked at."""
        return self._opened

    async def choose(self) -> DataSource | None:
        """Return its pool; None while the primary stands in.

        Errors:
            Those of looking at it, where nobody may stand in.
        """
        if self._opened is not None and not self._is_down:
            return self._opened
        if not self._settings.read_fallback:
            return await self._look()
        if self._is_looking or time.monotonic() < self._again_at:
            return None
        try:
            return await self._look()
        except (DatabaseUnavailable, DatabaseTimeout, SchemaOutOfDate) as error:
            self._stand_aside(error)
            return None

    def may_stand_in(self, error: BaseException) -> bool:
        """Tell whether the primary may do what failed here before its first statement, and remember why."""
        translated = translate(error)
        is_behind = isinstance(translated, DerwinError) and translated.sqlstate == SqlState.FOREIGN_SEAL  # by a new key
        if not self._settings.read_fallback or not (is_behind or isinstance(translated, DatabaseUnavailable | DatabaseTimeout)):
            return False
        assert translated is not None
        if isinstance(translated, ReplicaBehind):
            return True
        if isinstance(translated, DatabaseUnavailable) and not translated.may_run_again:
            return False  # all its connections are in use: the primary has its own work to do
        self._stand_aside(translated)
        return True

    async def _look(self) -> DataSource:
        self._is_looking = True
        try:
            server = await probe_server(self._info, self._settings, APP_ROLE)
            server.require_fences()
        finally:
            self._is_looking = False
        if self._opened is None:
            self._opened = open_pool(self._info, self._settings, server, self._keys, self._observers, role=APP_ROLE)
        self._is_down = False
        return self._opened

    def _stand_aside(self, error: Exception) -> None:
        if not self._is_down:
            logger.warning("the replica does not serve, the primary stands in: %s", error)
        self._is_down = True
        self._again_at = time.monotonic() + RETRY_SECONDS


def check_position(position: object) -> str:
    """Return what `Database.position` returned once.

    Errors:
        InvalidInput, before any SQL.
    """
    if isinstance(position, str) and _POSITION.fullmatch(position):
        return position
    raise InvalidInput("after: a position that db.position() returned.")


async def current_position(primary: DataSource) -> str:
    """Return how far this server has written.

    Errors:
        ConfigurationError on a distributed one; DatabaseUnavailable.
    """
    pool, opening = primary
    if opening.is_distributed:
        raise ConfigurationError("A distributed server has no one position: each of its nodes writes for itself.")
    connection = await pool.acquire()
    try:
        async with nullcontext() if opening.finds_prepared else connection.transaction():
            position: str = await connection.fetchval(_WRITTEN)
    except BaseException as error:
        pool.drop(connection)
        raise_translated(error)
    await pool.release(connection)
    return position


async def wait_for(connection: Connection, position: str, seconds: float, *, is_kept: bool = True) -> None:
    """Wait until this server has replayed the position. Behind a pooler that keeps no statements, each look is a transaction.

    Errors:
        ReplicaBehind.
    """
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    while True:
        async with nullcontext() if is_kept else connection.transaction():
            if await connection.fetchval(_HAS_REPLAYED, position):
                return
        if time.monotonic() + pause > deadline:
            raise ReplicaBehind
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
