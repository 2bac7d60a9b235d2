"""PgBouncer in transaction mode before a server: the program of the Debian package, run as an unprivileged user.

Tests that need it start one of their own; under `DERWIN_TEST_POOLER=pgbouncer` (`make test-pooled`) every test's service and
operator go through one.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from derwin_db.settings import ConnectionInfo
from derwin_db.testing import TestDatabase, TestServer
from derwin_db.testing.folder import remove_folder
from tests.faults.victim import as_user, new_folder, own

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


def _version() -> tuple[int, ...]:
    if PROGRAM is None:
        return ()
    said = subprocess.run([PROGRAM, "--version"], check=True, capture_output=True, text=True).stdout
    return tuple(map(int, re.findall(r"\d+", said)[:2]))


KEEPS_STATEMENTS = _version() >= (1, 22)
"""Whether it can keep what clients prepare by name, and does not lose count of it after DEALLOCATE ALL."""

NEED = "the program pgbouncer (apt-get install -y pgbouncer)"
SIZE = 2
"""Server connections of each login to each database, where all tests go through the pooler."""

_CONFIGURATION = """
[databases]
* = host={host} port={server_port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 500
server_login_retry = 0.2
server_idle_timeout = 10
server_tls_sslmode = prefer
{kept}
logfile = {folder}/log
pidfile = {folder}/pid
"""


class Pooler:
    """One pooler, which may be killed and started again on the same port."""

    def __init__(
        self, server: ConnectionInfo, logins: Iterable[ConnectionInfo], *, size: int, mode: str, keeps: bool = False
    ) -> None:
        self.folder = new_folder()
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        users = {login.user: login.password or "" for login in logins}
        self._write("users", "".join(f'"{user}" "{password}"\n' for user, password in sorted(users.items())))
        configuration = _CONFIGURATION.format(
            host=server.host,
            server_port=server.port,
            port=self.port,
            folder=self.folder,
            size=size,
            mode=mode,
            kept=f"max_prepared_statements = {200 if keeps else 0}" if KEEPS_STATEMENTS else "",
        )
        self._write("ini", configuration)

    @classmethod
    def of(cls, database: TestDatabase, *, size: int, mode: str = "transaction", keeps: bool = False) -> "Pooler":
        """Return one for all logins of a database; `keeps`: with what clients prepare by name."""
        return cls(database.owner, (database.owner, database.service, database.operator), size=size, mode=mode, keeps=keeps)

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        own(path)

    def start(self) -> None:
        """Start it and wait until it listens."""
        assert PROGRAM is not None, NEED
        self._process = subprocess.Popen([PROGRAM, "-q", str(self.folder / "ini")], stderr=subprocess.DEVNULL, **as_user())
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        raise RuntimeError(Path(self.folder / "log").read_text())

    def kill(self) -> None:
        """Kill it without notice."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def remove(self) -> None:
        """End it and remove what it wrote."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        remove_folder(self.folder)

    def before(self, connection: ConnectionInfo) -> ConnectionInfo:
        """Return the connection, through this pooler, with nothing said of it."""
        return replace(connection, host="127.0.0.1", port=self.port, sslmode="disable")

    def declared(self, connection: ConnectionInfo) -> ConnectionInfo:
        """Return the connection, through this pooler, as `pgbouncer=true` says it."""
        return replace(self.before(connection), is_pooled=True)

    def before_all(self, database: TestDatabase) -> TestDatabase:
        """Return the database, with the service's login through this pooler and the others past it."""
        return replace(database, service=self.before(database.service))


@contextmanager
def pooled(server: TestServer) -> Iterator[TestServer]:
    """Lead the service and the operator of every database of this server through a pooler, if the environment asks for it."""
    wanted = os.environ.get("DERWIN_TEST_POOLER", "")
    if wanted not in ("", "pgbouncer"):
        raise ValueError("DERWIN_TEST_POOLER is pgbouncer, or not set.")
    if not wanted:
        yield server
        return
    pooler = Pooler(server.owner, server.logins, size=SIZE, mode="transaction")
    pooler.start()
    server.lead_through(pooler.declared)
    try:
        yield server
    finally:
        pooler.remove()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
