"""Servers of other versions: the embedded 16, and Debian's 15 where it is installed, which has no pgvector."""

import asyncio
import contextlib
import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from derwin_db.deploy import embedded
from derwin_db.settings import ConnectionInfo
from derwin_db.testing.folder import server_folder
from derwin_db.testing.server import _hurry

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
HAS_15 = (DEBIAN_15 / "initdb").exists()

Run = Callable[..., None]
"""Runs a program of the server as the user that the server runs as."""


@contextmanager
def embedded_16() -> Iterator[ConnectionInfo]:
    """Yield the administrator of an embedded PostgreSQL 16."""
    with server_folder("derwin-test-16-") as folder:
        data = folder / "data"
        try:
            owner = embedded.start(data, postgres_version=16).owner
            asyncio.run(_hurry(owner))
            yield replace(owner, database="postgres")
        finally:
            embedded.abandon(data)


@contextmanager
def debian_15() -> Iterator[ConnectionInfo]:
    """Yield the administrator of Debian's PostgreSQL 15."""
    with server_folder("derwin-test-15-") as folder, bare(DEBIAN_15, folder) as owner:
        yield owner


@contextmanager
def bare(programs: Path, folder: Path, *, made_by: Callable[[Run, Path], None] | None = None) -> Iterator[ConnectionInfo]:
    """Yield the administrator of a server with nothing in it, or with the data that `made_by` puts into `<folder>/data`.

    It refuses to run as root: as root it runs as the system user of the embedded server, which exists by now.
    """
    user = None
    if os.geteuid() == 0:
        user = "pgserver"
        entry = pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    data = folder / "data"

    def run(program: str, *arguments: str) -> None:
        subprocess.run([str(programs / program), *arguments], check=True, capture_output=True, user=user, cwd=folder)

    if made_by is None:
        run("initdb", "-U", "postgres", "--auth=trust", "--encoding=utf8", "-D", str(data))
    else:
        made_by(run, data)
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    run("pg_ctl", "-w", "-D", str(data), "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield ConnectionInfo(host=str(folder), port=5432, user="postgres", database="postgres")
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            run("pg_ctl", "-w", "-m", "immediate", "-D", str(data), "stop")
