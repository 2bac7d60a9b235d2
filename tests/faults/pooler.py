"""PgBouncer in transaction mode before a server: the program of the Debian package, run as an unprivileged user."""

import shutil
import signal
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from derwin_db.settings import ConnectionInfo
from derwin_db.testing import TestDatabase
from derwin_db.testing.folder import remove_folder
from tests.faults.victim import Victim, new_folder, own

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")

_CONFIGURATION = """
[databases]
* = host={socket} port={server_port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 200
server_login_retry = 0.2
logfile = {folder}/log
pidfile = {folder}/pid
"""


class Pooler:
    """One pooler, which may be killed and started again on the same port."""

    def __init__(self, victim: Victim, database: TestDatabase, *, size: int) -> None:
        self.folder = new_folder()
        self.port = _free_port()
        self._victim = victim
        self._process: subprocess.Popen[bytes] | None = None
        users = {database.owner.user, database.service.user, database.operator.user}
        self._write("users", "".join(f'"{user}" ""\n' for user in sorted(users)))
        configuration = _CONFIGURATION.format(
            socket=victim.folder, server_port=victim.port, port=self.port, folder=self.folder, size=size
        )
        self._write("ini", configuration)

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        own(path)

    def start(self) -> None:
        """Start it and wait until it listens."""
        assert PROGRAM is not None
        self._process = subprocess.Popen(
            [PROGRAM, "-q", str(self.folder / "ini")], stderr=subprocess.DEVNULL, **self._victim._as_user()
        )
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
        """Return the connection, through this pooler."""
        return replace(connection, host="127.0.0.1", port=self.port, sslmode="disable")

    def before_all(self, database: TestDatabase) -> TestDatabase:
        """Return the database, with the service's login through this pooler and the others past it."""
        return replace(database, service=self.before(database.service))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
