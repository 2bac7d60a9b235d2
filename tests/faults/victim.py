"""A PostgreSQL server of a test's own: one that may be killed, frozen, starved and restarted. Never the shared one.

The cluster is made once a session (initdb, roles, schema) and copied: a copy starts in a fraction of a second. Its data
survives the death of processes, not of the machine: fsync is off, synchronous_commit on.
"""

import asyncio
import contextlib
import os
import pickle
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import asyncpg
import fasteners
import psutil

from derwin_db.deploy import embedded
from derwin_db.deploy.embedded.postmaster import wait_for_end
from derwin_db.settings import ConnectionInfo
from derwin_db.testing import TestDatabase, TestServer
from derwin_db.testing.folder import make_folder, remove_folder

SYSTEM_USER = "pgserver"
CONFIGURATION = """
fsync = off
full_page_writes = off
synchronous_commit = on
max_connections = 60
max_prepared_transactions = 4
deadlock_timeout = 10ms
restart_after_crash = on
logging_collector = off
dynamic_shared_memory_type = mmap
"""


_ACTIVE = "SELECT min(pid) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND strpos(query, $1) > 0"


class Victim:
    """One cluster in a folder, run as a system user where the tests run as root."""

    def __init__(
        self,
        folder: Path,
        *,
        address: str = "",
        port: int = 5432,
        environment: dict[str, str] | None = None,
        version: int = 18,
    ) -> None:
        self.folder = folder
        self.version = version
        self.data = folder / "data"
        self.address = address
        self.port = port
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    # --- making -------------------------------------------------------------------------------------------------------

    @classmethod
    def empty(cls, version: int = 18) -> Self:
        """Make a cluster that holds nothing, and start it."""
        victim = cls(new_folder(), version=version)
        initdb = ("initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", embedded.OWNER, "-D", str(victim.data))
        subprocess.run(victim._command(*initdb), check=True, capture_output=True, **victim._as_user())
        (victim.data / "postgresql.auto.conf").write_text(CONFIGURATION)
        victim.start()
        return victim

    def copy(self, folder: Path | None = None, **options: Any) -> "Victim":
        """Copy the stopped cluster; `folder` may lie on a file system of its own."""
        folder = folder or new_folder()
        subprocess.run(["cp", "-a", str(self.data), str(folder / "data")], check=True)
        return Victim(folder, version=self.version, **options)

    def configure(self, *lines: str) -> None:
        """Add settings, before the start."""
        with (self.data / "postgresql.auto.conf").open("a") as file:
            file.write("\n".join(lines) + "\n")

    def remove(self) -> None:
        """Stop the server and remove what it kept."""
        self.stop()
        remove_folder(self.folder)

    # --- running ------------------------------------------------------------------------------------------------------

    def start(self, *, seconds: float = 30) -> None:
        """Start it and wait until it answers."""
        arguments = ["-D", str(self.data), "-h", self.address, "-k", str(self.folder), "-p", str(self.port)]
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command("postgres", *arguments), stdout=log, stderr=log, **self._as_user())
        deadline = time.monotonic() + seconds
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server did not start:\n" + self.log())
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError, IndexError):
            return (self.data / "postmaster.pid").read_text().splitlines()[7].strip() in ("ready", "standby")
        return False

    def log(self, lines: int = 20) -> str:
        """Return the end of the server's log."""
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """Stop it in good order, without waiting for clients."""
        if self.is_running():
            self.thaw()
            assert self._process is not None
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)

    def is_running(self) -> bool:
        """Tell whether its first process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The first process, the one that all others come from."""
        assert self._process is not None
        return self._process.pid

    def processes(self) -> list[psutil.Process]:
        """All processes of this server, the first one first."""
        if not self.is_running():
            return []
        first = psutil.Process(self.pid)
        return [first, *first.children(recursive=True)]

    def kill(self) -> None:
        """Kill the first process without notice, and wait until all others noticed."""
        others = self.processes()[1:]
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        if not wait_for_end(others, 0.3):
            for process in others:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def freeze(self) -> None:
        """Stop all its processes where they are: no connection closes, nothing is answered."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        """Let them go on."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    # --- talking to it ------------------------------------------------------------------------------------------------

    @property
    def owner(self) -> ConnectionInfo:
        """The administrator, over the socket, in the maintenance database."""
        return ConnectionInfo(host=str(self.folder), port=self.port, user=embedded.OWNER, database="postgres")

    @property
    def socket(self) -> str:
        """Path of its socket."""
        return str(self.folder / f".s.PGSQL.{self.port}")

    def moved(self, database: TestDatabase) -> TestDatabase:
        """Return the logins of a database of the cluster that this one is a copy of."""
        here = {"host": str(self.folder), "port": self.port}
        return TestDatabase(
            replace(database.owner, **here), replace(database.service, **here), replace(database.operator, **here)
        )

    async def connect(self, database: str = "postgres") -> asyncpg.Connection:
        """Connect as the administrator, past all proxies and pools."""
        return await asyncpg.connect(**replace(self.owner, database=database).connect_arguments(), timeout=10)

    async def fetch(self, sql: str, *arguments: Any, database: str = "postgres") -> list[asyncpg.Record]:
        """Run one statement as the administrator."""
        connection = await self.connect(database)
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close()

    async def backends(self, user: str) -> list[int]:
        """Return the process ids of the backends of a login."""
        rows = await self.fetch("SELECT pid FROM pg_stat_activity WHERE usename = $1", user)
        return [row["pid"] for row in rows]

    async def until_active(self, words: str, *, seconds: float = 10) -> int:
        """Wait until a statement with these words runs, and return the process id of its backend."""
        connection = await self.connect()
        try:
            async with asyncio.timeout(seconds):
                while (pid := await connection.fetchval(_ACTIVE, words)) is None:
                    await asyncio.sleep(0.005)
            return pid
        finally:
            await connection.close()

    async def until_gone(self, pid: int, *, seconds: float = 10) -> None:
        """Wait until a backend runs nothing and waits for nothing: it is idle outside of a transaction, or no longer there."""
        connection = await self.connect()
        try:
            async with asyncio.timeout(seconds):
                while await connection.fetchval("SELECT state FROM pg_stat_activity WHERE pid = $1", pid) not in {None, "idle"}:
                    await asyncio.sleep(0.005)
        finally:
            await connection.close()

    async def until_quiet(self, user: str, *, seconds: float = 10, allowed: int = 0) -> int:
        """Wait until a login has no more backends than this, and return how many it has in the end."""
        deadline = time.monotonic() + seconds
        while (left := len(await self.backends(user))) > allowed and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        return left

    def _command(self, name: str, *arguments: str) -> list[str]:
        programs: Path = embedded._package().utils.POSTGRES_VERSIONS[self.version]
        return [str(programs / name), *arguments]

    def _as_user(self) -> dict[str, Any]:
        return as_user(self._environment)


def as_user(environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Return how a program is run: as root it is not, PostgreSQL and PgBouncer refuse that."""
    user: dict[str, Any] = {"user": SYSTEM_USER, "group": SYSTEM_USER, "extra_groups": []} if os.geteuid() == 0 else {}
    return {"cwd": "/", "env": {**os.environ, **(environment or {})}, "stdin": subprocess.DEVNULL, **user}


def new_folder() -> Path:
    """Make a folder that the server's system user owns. `remove_folder` removes it."""
    folder = make_folder("dwf-")
    own(folder)
    return folder


def own(folder: Path) -> None:
    """Give a folder to the system user that the server runs as. Makes that user where the embedded server would."""
    if os.geteuid() == 0:
        embedded._package().utils.ensure_user_exists(SYSTEM_USER)
        entry = pwd.getpwnam(SYSTEM_USER)
        os.chown(folder, entry.pw_uid, entry.pw_gid)


def make_base(version: int = 18) -> tuple[Victim, TestDatabase]:
    """Make a stopped cluster with a migrated database and its logins, to be copied."""
    victim = Victim.empty(version)
    try:
        server = TestServer(victim.owner)
        database = server.migrated()
        asyncio.run(_drop_template(victim, database.owner.database))
    finally:
        victim.stop()
    return victim, database


@contextmanager
def lent_base(shared: Path | None, version: int = 18) -> Iterator[tuple[Victim, TestDatabase]]:
    """Yield what `make_base` makes, or a copy of what another worker made and noted in the folder that they share."""
    if shared is None:
        victim, database = make_base(version)
        yield victim, database
        victim.remove()
        return
    lock, note = fasteners.InterProcessLock(shared / f"base-{version}.lock"), shared / f"base-{version}"
    with lock:
        if note.exists():
            folder, database = pickle.loads(note.read_bytes())  # this run's own
            victim = Victim(folder, version=version).copy()
        else:
            victim, database = make_base(version)
            note.write_bytes(pickle.dumps((victim.folder, database)))
    yield victim, database
    with lock:
        if note.exists() and pickle.loads(note.read_bytes())[0] == victim.folder:
            note.unlink()
        victim.remove()


async def _drop_template(victim: Victim, kept: str) -> None:
    rows = await victim.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'derwin_test_%' AND datname <> $1", kept)
    connection = await victim.connect()
    try:
        for row in rows:
            await connection.execute(f'DROP DATABASE "{row["datname"]}"')
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
