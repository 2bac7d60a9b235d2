"""What commands share: results as text or JSON, errors with exit codes, progress bars, questions."""

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

import click

from derwin_db.errors import ConfigurationError, DatabaseTimeout, DatabaseUnavailable, DerwinError
from derwin_db.settings import ConnectionInfo

P = ParamSpec("P")
T = TypeVar("T")

REFUSED = 1
CONFIGURATION = 3
UNAVAILABLE = 4

Option = Callable[[Callable[..., Any]], Callable[..., Any]]

json_option: Option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes_option: Option = click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")


def command(function: Callable[P, Any]) -> Callable[P, None]:
    """Turn this package's errors into a sentence, or JSON, and an exit code. A coroutine function is run."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.get("as_json", False))
        try:
            result = function(*args, **kwargs)
            if isinstance(result, Coroutine):
                asyncio.run(result)
        except DerwinError as error:
            _fail(error, as_json=as_json)

    return run


def _fail(error: DerwinError, *, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"error": {"code": error.code, "message": error.message}}))
    else:
        click.secho(f"{error.code}: {error.message}", fg="red", err=True)
    if isinstance(error, ConfigurationError):
        sys.exit(CONFIGURATION)
    sys.exit(UNAVAILABLE if isinstance(error, DatabaseUnavailable | DatabaseTimeout) else REFUSED)


def show(value: Any, text: str, *, as_json: bool) -> None:
    """Print the result: the value as JSON, or the text."""
    click.echo(
        json.dumps(asdict(value) if is_dataclass(value) and not isinstance(value, type) else value, default=str)
        if as_json
        else text
    )


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
