"""What commands share: results as text or JSON, files, errors with exit codes, progress bars, questions."""

import errno
import json
import logging
import os
import stat
import sys
import tempfile
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from functools import wraps
from pathlib import Path
from typing import IO, Any, NoReturn, ParamSpec, TypeVar

import click

from derwin_db.cli.streams import end_unread, end_unwritable
from derwin_db.deploy.blocking import run as run_to_end
from derwin_db.errors import ConfigurationError, DatabaseTimeout, DatabaseUnavailable, DerwinError, StorageFull
from derwin_db.settings import ConnectionInfo
from derwin_db.translation.debug import show_causes, shows_causes
from derwin_db.translation.driver_errors import translate

P = ParamSpec("P")
T = TypeVar("T")

REFUSED = 1
CONFIGURATION = 3
UNAVAILABLE = 4

_FULL = (errno.ENOSPC, errno.EDQUOT)

Option = Callable[[Callable[..., Any]], Callable[..., Any]]

_json: Option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _debug(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        show_causes()


debug_option: Option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_debug,
    help="Show tracebacks and what the server said, values and all.",
)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every command has: `--json` and `--debug`."""
    return _json(debug_option(function))


then_option: Option = click.option(
    "--then", type=click.Path(dir_okay=False, path_type=Path), help="alembic.ini of a service whose own revisions run after."
)
yes_option: Option = click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")


def command(function: Callable[P, Any]) -> Callable[P, None]:
    """Turn this package's errors into a sentence, or JSON, and an exit code. A coroutine function is run."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.get("as_json", False))
        try:
            result = function(*args, **kwargs)
            if isinstance(result, Coroutine):
                run_to_end(result)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            end_unread(REFUSED)
        except Exception as error:
            fail(error, as_json=as_json)

    return run


def fail(error: Exception, *, as_json: bool) -> NoReturn:
    """Say what failed in a sentence, and end with its exit code. With --debug its traceback is shown before."""
    if shows_causes():
        traceback.print_exception(error)
    told = _told(error)
    if as_json:
        click.echo(json.dumps({"error": {"code": told.code, "message": told.message}}))
    else:
        click.secho(f"{told.code}: {told.message}", fg="red", err=True)
        click.echo(f"`derwin-db explain {told.code}` says more.", err=True)
    if isinstance(told, ConfigurationError):
        sys.exit(CONFIGURATION)
    sys.exit(UNAVAILABLE if isinstance(told, DatabaseUnavailable | DatabaseTimeout) else REFUSED)


def _told(error: Exception) -> DerwinError:
    """Return what is said of an error: of a file its name and what the system says; of what nobody foresaw, its class."""
    if isinstance(error, DerwinError):
        return error
    if isinstance(error, OSError) and error.errno in _FULL:
        return StorageFull(f"There is no room for {error.filename or 'the output'}.")
    if isinstance(error, OSError):
        return ConfigurationError(f"{error.filename or 'A file'}: {error.strerror or 'it can not be used'}.")
    return translate(error) or DerwinError(
        f"This is a defect of derwin-db ({type(error).__name__}). `derwin-db --debug ...` shows where; please report it."
    )


def show(value: Any, text: str, *, as_json: bool) -> None:
    """Print the result: the value as JSON, or the text."""
    value = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    try:
        click.echo(json.dumps(value, default=str) if as_json else text)
    except BrokenPipeError:
        raise
    except OSError as error:
        end_unwritable(error)


def confirm(action: str, connection: ConnectionInfo, *, yes: bool) -> None:
    """Ask before something is destroyed, naming host and database. Without a terminal, `--yes` is needed."""
    place = f"{action} in {connection.place}"
    if yes:
        return
    if not sys.stdin.isatty():
        click.secho(f"{place}: say --yes to do this without a terminal.", fg="red", err=True)
        sys.exit(REFUSED)
    if not click.confirm(f"{place}. Sure?", default=False):
        click.echo("Nothing was done.")
        sys.exit(REFUSED)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that takes the place of the one at this path when the block ends well: whole, and its owner's alone.

    A device or a pipe is written to as it is. A link or a pipe that somebody else put into a shared folder is refused.

    Errors:
        ConfigurationError for a place that can't be written, or is another user's; StorageFull.
    """
    aside: Path | None = None
    try:
        _check_links(path)
        target = path.resolve()
        if path.exists() and not path.is_file():  # of /dev/stdout on a pipe there is nothing to resolve
            with _open_device(path) as device:
                yield device
            return
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".part", dir=target.parent)  # mode 0600
        aside = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        aside.replace(target)
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(f"There is no room for {path}. What was there is untouched.") from None
        raise ConfigurationError(f"{path} can't be written. What was there is untouched.") from None
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)


def _check_links(path: Path) -> None:
    """Refuse a link of somebody else in a folder where everybody may write, by the kernel's own rule for links that it follows.

    Errors:
        ConfigurationError.
    """
    for place in (path, *path.parents):
        if not place.is_symlink():
            continue
        owner, folder = place.lstat().st_uid, place.parent.stat()
        is_shared = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
        if is_shared and owner not in (os.geteuid(), folder.st_uid):
            raise ConfigurationError(f"{place} is a link that another user put there. Nothing was written.")


def _open_device(target: Path) -> IO[bytes]:
    """Open a device or a pipe of this user or of the system.

    Errors:
        ConfigurationError for another user's, who would read what is written.
    """
    device = target.open("wb")
    if os.fstat(device.fileno()).st_uid in (os.geteuid(), 0):
        return device
    device.close()
    raise ConfigurationError(f"{target} is another user's, who would read what is written. Nothing was written.")


@contextmanager
def progress(title: str, *, as_json: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that shows (what, done, total) as a bar with the time that is left; silent for JSON and pipes."""
    if as_json or not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(f"{title}: {what}", total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield update


def log_to_stderr(name: str, *, as_json: bool) -> None:
    """Show what a part of the package reports while it works."""
    if not as_json:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.INFO)
