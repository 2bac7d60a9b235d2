"""The user of this machine that the server runs as, and that user's way to the server's folder. No server is known here.

PostgreSQL refuses to run as root, so root lends it a system user. That user gets what it needs and nobody else does: a folder
on its way that is closed is opened by an access control list that names it alone.
"""

import contextlib
import os
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from derwin_db.errors import ConfigurationError

SYSTEM_USER = "pgserver"
_ATTEMPTS = 20
_ACL = "system.posix_acl_access"
_ACL_VERSION = struct.pack("<I", 2)
_ACL_ENTRY = struct.Struct("<HHI")
"""Tag, permissions and id of an entry. Source: Linux, include/uapi/linux/posix_acl_xattr.h."""
_OWNER, _USER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_SEARCH = 0o1


@dataclass(frozen=True)
class Account:
    """A user of this machine: the one of this process, or the system user that root lends."""

    name: str
    uid: int
    gid: int
    is_lent: bool

    def run_options(self) -> dict[str, Any]:
        """Return how `subprocess` runs a program as this user, with none of libpq's variables and nothing open to others."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        lent = {"user": self.uid, "group": self.gid, "extra_groups": []} if self.is_lent else {}
        return {"cwd": "/", "env": environment, "umask": 0o077, "stdin": subprocess.DEVNULL, **lent}

    def owns(self, path: Path) -> bool:
        """Tell whether the path itself, not what a link points to, belongs to this user or to the one of this process."""
        return os.lstat(path).st_uid in (self.uid, os.geteuid())


def choose_account(create_system_user: Any) -> Account:
    """Return the user that the server runs as: this one, or as root the system user, which is made where it is missing.

    Errors:
        ConfigurationError for a user without a name, and where the system user can't be made.
    """
    import pwd  # not on Windows

    if os.geteuid() == 0:
        entry = _system_user(create_system_user)
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, is_lent=True)
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        raise ConfigurationError(
            f"The user {os.geteuid()} has no name on this machine, and PostgreSQL wants one: run as another user, or set "
            "DATABASE_URL."
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, is_lent=False)


def _system_user(create: Any) -> Any:
    """Return the entry of the system user. Of several starters that make it at once, one does."""
    import pwd

    for _ in range(_ATTEMPTS):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(SYSTEM_USER)
        with contextlib.suppress(subprocess.SubprocessError, OSError, KeyError):
            create(SYSTEM_USER)
    raise ConfigurationError(
        f"PostgreSQL does not run as root, and the system user {SYSTEM_USER} can't be made: run as an ordinary user, or set "
        "DATABASE_URL."
    )


def let_through(account: Account, *wanted: Path) -> None:
    """See that the user reaches these folders, through all folders above them. Only a lent user can be kept off.

    Errors:
        ConfigurationError where it is kept off and can't be let through.
    """
    if not account.is_lent or _reaches(account, wanted):
        return
    for folder in wanted:
        for parent in reversed(folder.parents):
            if not parent.stat().st_mode & _SEARCH:
                with contextlib.suppress(OSError, AttributeError):  # no such lists here: seen below
                    _grant_search(parent, account.uid)
    if not _reaches(account, wanted):
        raise ConfigurationError(
            f"As root the server runs as the system user {account.name}, which can't reach {' and '.join(map(str, wanted))}. "
            "Choose a DERWIN_DATA_DIR like /var/lib/derwin, whose parents others may pass through (o+x), or run as an "
            "ordinary user."
        )


def _reaches(account: Account, folders: tuple[Path, ...]) -> bool:
    look = ["/bin/sh", "-c", 'for folder; do cd "$folder" || exit 1; done', "sh", *map(str, folders)]
    seen = subprocess.run(look, check=False, capture_output=True, **account.run_options())  # noqa: S603  # no text of others
    return seen.returncode == 0


def _grant_search(folder: Path, uid: int) -> None:
    """Let one user more pass through a folder (not list it), by its access control list."""
    entries = _access_list(folder)
    entries[_USER, uid] = entries.get((_USER, uid), 0) | _SEARCH
    entries[_MASK, _NO_ID] = entries.get((_MASK, _NO_ID), entries[_GROUP, _NO_ID]) | _SEARCH
    packed = b"".join(_ACL_ENTRY.pack(tag, permissions, id) for (tag, id), permissions in sorted(entries.items()))
    os.setxattr(folder, _ACL, _ACL_VERSION + packed)


def _access_list(folder: Path) -> dict[tuple[int, int], int]:
    """Return the folder's list by tag and id; where it has none, the one that says the same as its mode."""
    try:
        data = os.getxattr(folder, _ACL).removeprefix(_ACL_VERSION)
    except OSError:
        mode = folder.stat().st_mode
        return {(_OWNER, _NO_ID): mode >> 6 & 7, (_GROUP, _NO_ID): mode >> 3 & 7, (_OTHER, _NO_ID): mode & 7}
    return {(tag, id): permissions for tag, permissions, id in _ACL_ENTRY.iter_unpack(data)}
