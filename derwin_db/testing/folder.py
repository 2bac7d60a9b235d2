"""Folders of servers that tests start: gone at the end, and gone at the next start where a run was killed.

Whoever made a folder holds a lock on a file in it for as long as it lives. A folder whose lock can be had is nobody's.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fasteners
import psutil

from derwin_db.deploy.embedded.postmaster import wait_for_end

_LOCK = "in-use"
_MEMORY = Path("/dev/shm")  # noqa: S108  # what is made there is closed to others
_SERVERS = ("postgres", "pgbouncer")
_held: dict[Path, fasteners.InterProcessLock] = {}


def make_folder(prefix: str, *, room: int | None = None) -> Path:
    """Make a folder in the system's temporary one, after removing what killed runs left under this prefix.

    With `room` it is made in memory, where no server waits for a disk, if the machine has so many bytes to spare.
    """
    temporary = Path(tempfile.gettempdir())
    for left in (*temporary.glob(f"{prefix}*"), *_MEMORY.glob(f"{prefix}*")):
        if left not in _held:
            _remove_if_left(left)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=_MEMORY if room and _spare() > room else temporary))
    lock = fasteners.InterProcessLock(folder / f"{_LOCK}.new")
    lock.acquire()
    (folder / f"{_LOCK}.new").rename(folder / _LOCK)  # seen by others when it is locked, not before
    _held[folder] = lock
    return folder


def remove_folder(folder: Path) -> None:
    """Remove a folder of `make_folder`. Its server is stopped by now."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder in _held:
        _held.pop(folder).release()


@contextmanager
def server_folder(prefix: str, *, room: int | None = None) -> Iterator[Path]:
    """Yield a folder as `make_folder` does, and remove it at the end of the block."""
    folder = make_folder(prefix, room=room)
    try:
        yield folder
    finally:
        remove_folder(folder)


def _spare() -> int:
    """Return how many bytes of memory files may take."""
    if not _MEMORY.is_dir() or not os.access(_MEMORY, os.W_OK):
        return 0
    return min(shutil.disk_usage(_MEMORY).free, int(psutil.virtual_memory().available))


def _remove_if_left(folder: Path) -> None:
    """Remove a folder whose maker is gone, with its server. One without a lock is not known to be ours."""
    file = folder / _LOCK
    with contextlib.suppress(OSError):
        if not file.exists():
            return
        lock = fasteners.InterProcessLock(file)
        if not lock.acquire(blocking=False):
            assert lock.lockfile is not None, "a try that fails leaves it open"
            lock.lockfile.close()
            return
        _end_servers(folder)
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _end_servers(folder: Path) -> None:
    """End the servers that were started with this folder. Its name is nobody else's; ids of processes are used again."""
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] in _SERVERS and any(str(folder) in part for part in process.info["cmdline"] or ()):
            with contextlib.suppress(psutil.Error):
                family = [process, *process.children(recursive=True)]
                for one in family:
                    one.kill()
                wait_for_end(family, 10)
