"""`derwin-db embedded`."""

import click

from derwin_db.cli.output import command, json_option, show
from derwin_db.deploy import embedded as server
from derwin_db.settings import Settings


@click.group()
def embedded() -> None:
    """Start, stop or look at the embedded server."""


@embedded.command()
@json_option
@command
def start(as_json: bool) -> None:
    """Start the server, and make its database and logins, where that is still to be done."""
    logins = server.start(Settings.load().data_dir)
    _show(as_json=as_json, note=f"The embedded server runs: {logins.owner.place}.")


@embedded.command()
@json_option
@command
def stop(as_json: bool) -> None:
    """Stop the server. Its data stays."""
    ran = server.stop(Settings.load().data_dir)
    _show(as_json=as_json, note="The embedded server is stopped." if ran else "The embedded server did not run.")


@embedded.command()
@json_option
@command
def status(as_json: bool) -> None:
    """Say where the server's data is and whether it runs."""
    seen = server.status(Settings.load().data_dir)
    state = "does not run" if seen.is_created else "is not made yet: `derwin-db migrate` makes it"
    if seen.pid:
        state = f"runs (pid {seen.pid})"
    version = f", PostgreSQL {seen.version}" if seen.version else ""
    _show(as_json=as_json, note=f"The embedded server {state}. Data folder: {seen.data_dir}{version}.")


def _show(*, as_json: bool, note: str) -> None:
    seen = server.status(Settings.load().data_dir)
    value = {
        "data_dir": str(seen.data_dir),
        "created": seen.is_created,
        "running": seen.pid is not None,
        "pid": seen.pid,
        "version": seen.version,
    }
    show(value, note, as_json=as_json)
