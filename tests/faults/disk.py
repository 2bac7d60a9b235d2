"""File systems of a few megabytes, to be filled. Only root can mount them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from derwin_db.testing.folder import remove_folder
from tests.faults.victim import new_folder, own


@cache
def can_mount() -> bool:
    """Tell whether this process may mount a file system here."""
    if os.geteuid() != 0:
        return False
    try:
        with small_disk(1):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """Yield a folder that holds so many megabytes, and take it away afterwards."""
    folder = new_folder()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder)], check=True)
    own(folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, stderr=subprocess.DEVNULL)
        remove_folder(folder)


def grow(folder: Path, megabytes: int) -> None:
    """Make room."""
    subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(folder)], check=True)


def vanish(folder: Path) -> None:
    """Take the file system away under whoever uses it."""
    subprocess.run(["umount", "-l", str(folder)], check=True)


def free_bytes(folder: Path) -> int:
    """Return how much room is left."""
    seen = os.statvfs(folder)
    return seen.f_bavail * seen.f_frsize
