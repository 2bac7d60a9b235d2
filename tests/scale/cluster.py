"""A primary and a streaming replica of it: two copies of one stopped cluster, the second with `standby.signal`."""

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

from derwin_db import Database
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase
from derwin_db.testing.server import url_of
from tests.faults.victim import Victim, own

LAG_SECONDS = 20


class Cluster:
    """Both servers, and one migrated database on them."""

    def __init__(self, base: tuple[Victim, TestDatabase]) -> None:
        """Copy a stopped cluster with a migrated database."""
        victim, database = base
        self.primary, self.replica = victim.copy(), victim.copy()
        self.replica.configure(
            f"primary_conninfo = 'host={self.primary.folder} port={self.primary.port} user={self.primary.owner.user}'",
            "hot_standby_feedback = on",
        )
        signal = self.replica.data / "standby.signal"
        signal.touch()
        own(signal)
        self.database = self.primary.moved(database)
        self.on_replica = self.replica.moved(database)
        self.mend()

    def mend(self) -> None:
        """See that both run."""
        for server in (self.primary, self.replica):
            if server.is_running():
                server.thaw()
            else:
                server.start()

    def remove(self) -> None:
        """Stop both and remove what they kept."""
        self.replica.remove()
        self.primary.remove()

    def open(self, **changes: Any) -> Database:
        """Return a `Database` that reads from the replica."""
        settings = Settings(_env_file=None, **{"connect_timeout": 10.0, "command_timeout": 30.0, "read_wait": 1.0, **changes})
        return Database(**self.database.urls, read_url=url_of(self.on_replica.service), settings=settings)

    async def abreast(self) -> None:
        """Let the replica replay, and wait until it has all that the primary wrote."""
        deadline = time.monotonic() + LAG_SECONDS
        await self.go_on()
        written = (await self.primary.fetch("SELECT pg_current_wal_lsn()::text AS at"))[0]["at"]
        seen = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn AS is_there"
        while not (await self.replica.fetch(seen, written))[0]["is_there"]:
            assert time.monotonic() < deadline, "the replica does not follow:\n" + self.replica.log()
            await asyncio.sleep(0.01)

    async def pause(self) -> None:
        """Let the replica fall behind."""
        await self.replica.fetch("SELECT pg_wal_replay_pause()")
        while (await self.replica.fetch("SELECT pg_get_wal_replay_pause_state() AS state"))[0]["state"] != "paused":
            await self.primary.fetch("SELECT pg_switch_wal()")  # it pauses at the next record
            await asyncio.sleep(0.01)

    async def go_on(self) -> None:
        """Let it catch up."""
        if (await self.replica.fetch("SELECT pg_is_wal_replay_paused() AS is_paused"))[0]["is_paused"]:
            await self.replica.fetch("SELECT pg_wal_replay_resume()")


async def stand_in(server: Victim, database: TestDatabase) -> None:
    """Create the extension that stands in for Citus: in a folder that the server may read, named for this session alone."""
    folder = server.folder / "extension"
    if not folder.exists():
        shutil.copytree(Path(__file__).parent / "stand_in", folder)
        for path in (folder, *folder.iterdir()):
            own(path)
    connection = await server.connect(database.owner.database)
    try:
        await connection.execute(f"SET extension_control_path = '$system:{server.folder}'")
        await connection.execute("CREATE EXTENSION citus")
    finally:
        await connection.close()
