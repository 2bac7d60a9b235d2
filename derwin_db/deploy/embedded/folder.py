"""The data folder: whose it is, that it is closed to others, the lock in it, and the folder of the socket.

Nothing of another user is ever taken over, and a folder that holds something else is left alone.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from derwin_db.deploy.embedded.account import Account
from derwin_db.errors import ConfigurationError, DatabaseUnavailable, StorageFull

_MARKER = "derwin-embedded"
_LOCK = "lock"
_LOCK_SECONDS = 120.0
_LOCK_PAUSE = 0.02
_SOCKET = ".s.PGSQL.5432"
_LONGEST_SOCKET = 103
"""Bytes of a socket's path. Source: sun_path has 104 with its end on macOS and the BSDs, 108 on Linux."""
_PRIVATE = 0o700


def claim(folder: Path, account: Account) -> Path:
    """Make the folder, or see that it is ours, and close it to others. Never touches one that holds something else.

    Errors:
        ConfigurationError, StorageFull.
    """
    if not str(folder).isprintable():
        raise ConfigurationError("DERWIN_DATA_DIR has a line end or another control character in it. Choose another one.")
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.resolve(strict=True)
        names = {path.name for path in folder.iterdir()}
        if names and _MARKER not in names:
            raise ConfigurationError(
                f"The data folder {folder} holds something else than an embedded derwin-db server. Choose an empty "
                "DERWIN_DATA_DIR."
            )
        if not account.owns(folder):
            raise ConfigurationError(f"The data folder {folder} belongs to another user. Choose another DERWIN_DATA_DIR.")
        (folder / _MARKER).touch()
        make_private(folder, account)
    return folder


def is_claimed(folder: Path) -> bool:
    """Tell whether this is the folder of an embedded server.

    Errors:
        ConfigurationError where that can't be seen.
    """
    try:
        return (folder / _MARKER).exists()
    except OSError:
        raise ConfigurationError(f"The data folder {folder} can't be read: it belongs to another user.") from None


def make_private(folder: Path, account: Account) -> None:
    """Give the folder to the server's user, closed to everybody else."""
    if account.is_lent:
        os.chown(folder, account.uid, account.gid)
    folder.chmod(_PRIVATE)


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Turn what the system says of a file into a sentence about the data folder.

    Errors:
        ConfigurationError, StorageFull.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_room(folder) from None
        reason = f"{error.filename or folder}: {error.strerror or type(error).__name__}"
        raise ConfigurationError(
            f"The data folder {folder} can't be written ({reason}). Choose another DERWIN_DATA_DIR."
        ) from None


def no_room(folder: Path) -> StorageFull:
    """Return the error for a full disk."""
    return StorageFull(f"There is no room left for the embedded server in {folder}. Free space there, then start again.")


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Keep every other starter of this folder waiting, threads of this process included. Yields the lock's descriptor.

    The lock ends when the last process that has the descriptor ends: a program that was given it keeps the lock when its
    starter is killed.

    Errors:
        DatabaseUnavailable after two minutes.
    """
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(f"Another process has been starting or stopping the server in {folder} for long.")
            time.sleep(_LOCK_PAUSE)
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def socket_folder(pgdata: Path, account: Account) -> Path:
    """Return the folder of the server's socket: the data's own, or a private one where that path is too long for a socket.

    Errors:
        ConfigurationError where there is none that only this user can have made.
    """
    if _fits(pgdata):
        return pgdata
    name = "derwin-" + hashlib.sha256(os.fsencode(pgdata)).hexdigest()[:16]
    for parent in dict.fromkeys((Path(tempfile.gettempdir()), Path("/tmp"))):  # noqa: S108  # closed, and looked at below
        folder = parent / name
        if not _fits(folder):
            continue
        with contextlib.suppress(FileExistsError, OSError):
            folder.mkdir(_PRIVATE)
        if _is_ours(folder, account):
            make_private(folder, account)
            return folder
    raise ConfigurationError(
        f"The path of {pgdata} is too long for a socket, and there is no other folder for it that is this user's alone. "
        "Choose a shorter DERWIN_DATA_DIR."
    )


def is_private(folder: Path, account: Account) -> bool:
    """Tell whether nobody else can pass through the folder."""
    return _is_ours(folder, account) and not stat.S_IMODE(folder.stat().st_mode) & 0o077


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / _SOCKET)) <= _LONGEST_SOCKET


def _is_ours(folder: Path, account: Account) -> bool:
    """Tell whether it is a real folder, no link, of this user: in a shared folder anybody could have made it before."""
    with contextlib.suppress(OSError):
        return stat.S_ISDIR(os.lstat(folder).st_mode) and account.owns(folder)
    return False
