"""The server's data: made aside and put in its place when it is whole, and the rules of who may log in.

Whoever is kept off by the folder is kept off by these rules too: a login is one of the server's user, or of root, of this
machine; a password opens nothing.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from derwin_db.deploy.embedded.account import Account
from derwin_db.deploy.embedded.folder import make_private, no_room
from derwin_db.errors import ConfigurationError, DatabaseUnavailable

OWNER = "postgres"
_ASIDE = "postgres.new-"
_OPTIONS = "postmaster.opts"
"""What each start of a server leaves: where it is, there are data of somebody's."""
_NO_ROOM = "No space left on device"
_RULES = """\
# Written by derwin-db at each start: the users of derwin_ident.conf, over the socket, and nobody else.
local all         all peer map=derwin
local replication all peer map=derwin
"""


def version_of(pgdata: Path) -> int | None:
    """Return the version that the data is of, or None where there is none.

    Errors:
        ConfigurationError for data that can't be read.
    """
    try:
        return int((pgdata / "PG_VERSION").read_text().strip())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        raise ConfigurationError(f"The data in {pgdata} can't be read. Choose another DERWIN_DATA_DIR.") from None


def is_whole(pgdata: Path) -> bool:
    """Tell whether there is a server's data, and not what a start of a former version left half made."""
    return version_of(pgdata) is not None and (pgdata / "global" / "pg_control").exists()


def make_data(programs: Path, pgdata: Path, account: Account, lock: int) -> None:
    """Make the data of an empty server. It is there when it is whole: a start that is killed leaves a folder aside alone.

    The lock is handed to initdb: when this process is killed, the next starter waits for initdb to end.

    Errors:
        ConfigurationError for data that is damaged: it is never thrown away; DatabaseUnavailable, StorageFull.
    """
    for missing, proof in (("PG_VERSION", "global/pg_control"), ("global/pg_control", _OPTIONS)):
        if (pgdata / proof).exists():
            raise ConfigurationError(f"The data in {pgdata} is damaged: it has no {missing}. Choose another DERWIN_DATA_DIR.")
    for left in pgdata.parent.glob(f"{_ASIDE}*"):
        shutil.rmtree(left, ignore_errors=True)
    try:
        aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=pgdata.parent))
        make_private(aside, account)
        _initialize(programs / "initdb", aside, account, lock)
        if pgdata.exists():
            shutil.rmtree(pgdata)  # half made: no server ever ran in it
        aside.rename(pgdata)
    finally:
        for left in pgdata.parent.glob(f"{_ASIDE}*"):
            shutil.rmtree(left, ignore_errors=True)


def _initialize(program: Path, aside: Path, account: Account, lock: int) -> None:
    command = [str(program), "--auth-local=peer", "--auth-host=reject", "--encoding=utf8", "-U", OWNER, "-D", str(aside)]
    said = ""
    for locale in ((), ("--no-locale",)):  # the environment's; it may name one that is not here, or not of this encoding
        made = subprocess.run(  # noqa: S603  # a program of the package
            [*command, *locale], check=False, capture_output=True, pass_fds=(lock,), **account.run_options()
        )
        if made.returncode == 0:
            return
        said = made.stderr.decode(errors="replace")
        if _NO_ROOM in said:
            raise no_room(aside.parent)
    raise _not_made(aside.parent, said)


def _not_made(folder: Path, said: str) -> DatabaseUnavailable:
    lines = [line for line in said.splitlines() if "error" in line.lower()]
    reason = f" ({lines[0].strip()})" if lines else ""
    return DatabaseUnavailable(f"The data of the embedded server can't be made in {folder}{reason}.")


def write_rules(pgdata: Path, account: Account) -> None:
    """Write who may log in."""
    users = dict.fromkeys(("root", account.name))
    names = "# Written by derwin-db at each start.\n" + "".join(f'derwin "{user}" all\n' for user in users)
    _write(pgdata / "derwin_hba.conf", _RULES, account)
    _write(pgdata / "derwin_ident.conf", names, account)


def _write(path: Path, text: str, account: Account) -> None:
    """Replace a file by a whole one. Nothing is done where it says this already."""
    with contextlib.suppress(OSError):
        if path.read_text() == text:
            return
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    aside = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        if account.is_lent:
            os.chown(aside, account.uid, account.gid)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
