"""The server's processes: which one is it, starting it, ending it.

A number in postmaster.pid proves nothing: after a power cut or in a new container it is another process. A process is taken
for this server only where it is a PostgreSQL server whose working folder is the data folder and which was started with it; no
other process is ever signalled. `psutil` sees to it that a number that was given to a new process meanwhile is not signalled.
"""

import contextlib
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from derwin_db.deploy.embedded.account import Account
from derwin_db.deploy.embedded.folder import no_room
from derwin_db.errors import DatabaseUnavailable, DerwinError

_PROGRAM = "postgres"
_NO_ROOM = "No space left on device"
_PAUSE = 0.02
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_LEAVE_SECONDS = 5.0
_END_SECONDS = 15.0
_LAUNCH = 'log="$1"; shift; "$@" >>"$log" 2>&1 & echo $!'
"""The shell goes away at once, so that the server is nobody's child: it outlives its starter and leaves no zombie to it."""


@dataclass(frozen=True)
class PidFile:
    """What postmaster.pid says. While the server starts it is written line by line."""

    pid: int
    socket_folder: Path | None
    is_ready: bool

    @classmethod
    def read(cls, pgdata: Path) -> "PidFile | None":
        """Return what the file says, or None where there is none that says something."""
        try:
            lines = [line.strip() for line in (pgdata / "postmaster.pid").read_text(errors="replace").splitlines()]
            socket_folder = Path(lines[4]) if len(lines) > 4 and lines[4] else None
            return cls(int(lines[0]), socket_folder, len(lines) > 7 and lines[7] == "ready")
        except (OSError, ValueError, IndexError):
            return None


def find_postmaster(pgdata: Path) -> psutil.Process | None:
    """Return the server's first process, proved to be the one of this data folder, or None where it does not run."""
    seen = PidFile.read(pgdata)
    if seen is None or seen.pid <= 0:
        return None
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(seen.pid)
        return process if _is_postmaster(process, pgdata) else None
    return None


def _is_postmaster(process: psutil.Process, pgdata: Path) -> bool:
    """Tell whether this is the first process of the server: it keeps the arguments that it was started with."""
    with contextlib.suppress(psutil.Error, OSError):
        arguments = process.cmdline()
        folder = arguments[arguments.index("-D") + 1] if "-D" in arguments[:-1] else None
        return folder is not None and pgdata.samefile(folder) and _works_in(process, pgdata)
    return False


def _is_called_for(process: psutil.Process, pgdata: Path) -> bool:
    """Tell whether it has a first process's arguments and may become one: whoever launched it may be gone since."""
    with contextlib.suppress(psutil.Error, OSError):
        arguments = process.cmdline()
        return "-D" in arguments[:-1] and str(pgdata) == arguments[arguments.index("-D") + 1] and _PROGRAM in "".join(arguments)
    return False


def _is_of_server(process: psutil.Process, pgdata: Path) -> bool:
    """Tell whether this is a process of the server: the first one, or one that shows what it does instead of arguments."""
    with contextlib.suppress(psutil.Error, OSError):
        if "".join(process.cmdline()[:1]).startswith(f"{_PROGRAM}: "):
            return _works_in(process, pgdata)
    return _is_postmaster(process, pgdata)


def _works_in(process: psutil.Process, pgdata: Path) -> bool:
    """Tell whether this is a PostgreSQL server's process whose working folder is the data folder."""
    with contextlib.suppress(psutil.Error, OSError):
        return process.name() == _PROGRAM and pgdata.samefile(process.cwd())
    return False


def settle(pgdata: Path, socket_folder: Path) -> psutil.Process | None:
    """Return the first process where the server runs, ready or not; else see that nothing of a former one is in the way.

    Processes of a server that was killed leave by themselves once they notice; those that don't are ended.

    Errors:
        DatabaseUnavailable where one can't be ended.
    """
    begin = time.monotonic()
    is_told = False
    while time.monotonic() < begin + _LEAVE_SECONDS + _END_SECONDS:
        if (postmaster := find_postmaster(pgdata)) is not None:
            return postmaster
        processes = list(psutil.process_iter())
        left = [process for process in processes if _is_of_server(process, pgdata)]
        is_beginning = time.monotonic() < begin + _LEAVE_SECONDS and any(_is_called_for(one, pgdata) for one in processes)
        if not left and not is_beginning:
            _remove_stale_files(pgdata, socket_folder)
            return None
        if not is_told and time.monotonic() > begin + _LEAVE_SECONDS:
            is_told = True
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGQUIT)
        time.sleep(_PAUSE)
    raise DatabaseUnavailable(f"Processes of a server that was killed still work in {pgdata}. End them, then start again.")


def _remove_stale_files(pgdata: Path, socket_folder: Path) -> None:
    """Remove what names a server that is gone: another process may have its number, and PostgreSQL would refuse to start."""
    if find_postmaster(pgdata) is None:
        (socket_folder / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        (pgdata / "postmaster.pid").unlink(missing_ok=True)


def launch(program: Path, pgdata: Path, socket_folder: Path, account: Account) -> psutil.Process:
    """Start the server, and return its first process when it takes connections. On its own: no Ctrl-C reaches it.

    Errors:
        DatabaseUnavailable, StorageFull.
    """
    log = pgdata / "log"
    begin = log.stat().st_size if log.exists() else 0
    arguments = ["-D", str(pgdata), *_settings(pgdata, socket_folder)]
    launched = subprocess.run(  # noqa: S603  # a program of the package
        ["/bin/sh", "-c", _LAUNCH, "sh", str(log), str(program), *arguments],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        **account.run_options(),
    )
    if not launched.stdout.strip().isdigit():
        raise _did_not_start(pgdata, begin)
    return wait_until_ready(int(launched.stdout), pgdata, begin)


def _settings(pgdata: Path, socket_folder: Path) -> list[str]:
    """Return the settings that keep the server private, and one more, as arguments: no file of settings overrides them."""
    settings = {
        "listen_addresses": "",
        "port": "5432",
        "unix_socket_directories": '"' + str(socket_folder).replace('"', '""') + '"',
        "unix_socket_permissions": "0700",
        "hba_file": str(pgdata / "derwin_hba.conf"),
        "ident_file": str(pgdata / "derwin_ident.conf"),
        "deadlock_timeout": "100ms",  # by default 1 s, in which whoever waits behind a deadlock runs into lock_timeout
    }
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def wait_until_ready(pid: int, pgdata: Path, log_begin: int = 0) -> psutil.Process:
    """Return the first process when it takes connections: this one, or one that another starter was faster with.

    Errors:
        DatabaseUnavailable, StorageFull.
    """
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        process = find_postmaster(pgdata)
        if process is None and not _is_alive(pid):
            raise _did_not_start(pgdata, log_begin)
        if process is not None and (seen := PidFile.read(pgdata)) is not None and seen.is_ready:
            return process
        time.sleep(_PAUSE)
    raise DatabaseUnavailable(f"The embedded server is still recovering. Try again in a minute. Its log: {pgdata / 'log'}")


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def _did_not_start(pgdata: Path, log_begin: int) -> DerwinError:
    """Return the error for a server that ended before it was ready. Of its log only the reason is looked for."""
    with contextlib.suppress(OSError), (pgdata / "log").open("rb") as log:
        log.seek(log_begin)
        if _NO_ROOM.encode() in log.read(1 << 20):
            return no_room(pgdata)
    return DatabaseUnavailable(f"The embedded server did not start. Its log: {pgdata / 'log'}")


def wait_for_end(processes: Sequence[psutil.Process], seconds: float) -> bool:
    """Wait until all of them have ended, for so long at most, and return whether they have.

    One that ended counts as such before its parent has asked for its exit code: a first process in a container takes seconds.
    """
    deadline = time.monotonic() + seconds
    while any(_is_alive(process.pid) and process.is_running() for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def end(process: psutil.Process, pgdata: Path, *, in_order: bool = True) -> None:
    """Stop the server in good order, whoever uses it; at once where that takes too long, or where no order is asked for.

    Errors:
        DatabaseUnavailable where it goes on.
    """
    wishes = ((signal.SIGINT, _STOP_SECONDS), (signal.SIGQUIT, _END_SECONDS))
    for wish, seconds in wishes if in_order else wishes[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(wish)
        if wait_for_end([process], seconds):
            return
    raise DatabaseUnavailable(f"The embedded server (pid {process.pid}) does not stop. Its log: {pgdata / 'log'}")
