"""`derwin-db studio`."""

import contextlib
import socket
import sys
import threading
import webbrowser
from importlib import import_module
from typing import Any

import click

from derwin_db.cli.output import command, json_option, log_to_stderr, progress, show
from derwin_db.deploy.blocking import run
from derwin_db.errors import ConfigurationError
from derwin_db.settings import Settings

PORT = 8001
_PATIENCE = 5
_LOOKED_AT = 100


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), envvar="PORT", help=f"Port; {PORT} or a free one by default, 0 a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--i-know", is_flag=True, help="Listen beyond this machine: whoever learns the URL reads all projects, unencrypted."
)
@click.option("--open", "opens", is_flag=True, help="Open it in the browser.")
@click.option("--sql", "takes_sql", is_flag=True, help="Add a box for SQL that only reads, with limits of time and rows.")
@click.option(
    "--tables", "modules", multiple=True, metavar="MODULE", help="Module that makes the repositories of a service's own tables."
)
@json_option
@command
def studio(
    port: int | None, host: str, i_know: bool, opens: bool, takes_sql: bool, modules: tuple[str, ...], as_json: bool
) -> None:
    """Show projects, tables, tickets and spending in the browser. It only reads.

    Where no URL is set and no project has data, the embedded server is migrated and seeded with the demo history first.
    """
    server, is_loopback = _load()
    _load_tables(modules)
    if not is_loopback(host) and not i_know:
        raise click.UsageError(f"--host {host} is not this machine alone. Say --i-know to listen there.")
    if Settings.load().database_url is None:
        log_to_stderr("derwin_db.migrations", as_json=as_json)
        _migrate()
    run(_fill(as_json=as_json))
    with _listen(host, port) as listening:
        _serve(server, listening, host, is_loopback=is_loopback(host), opens=opens, takes_sql=takes_sql, as_json=as_json)
    if not as_json:
        click.echo("Stopped.")


def _load() -> tuple[Any, Any]:
    """Return the server and the check of hosts.

    Errors:
        ConfigurationError where the extra is missing.
    """
    try:
        import jinja2  # noqa: F401
        import uvicorn

        from derwin_db.studio.door import is_loopback
    except ImportError:
        raise ConfigurationError("The studio is not installed: pip install 'derwin-db[studio]'.") from None
    return uvicorn, is_loopback


def _load_tables(modules: tuple[str, ...]) -> None:
    """Import the modules, from the folder that one is in too: each makes its repositories then.

    Errors:
        UsageError for one that can't be imported, or makes none.
    """
    from derwin_db.repos.own import Repository, repositories

    if modules and "" not in sys.path:
        sys.path.insert(0, "")
    for name in modules:
        before = len(repositories)
        try:
            values = vars(import_module(name)).values()
        except Exception as error:  # whatever a module of the service does when it is imported
            raise click.UsageError(f"--tables {name}: {type(error).__name__}: {error}.") from None
        if len(repositories) == before and not any(isinstance(value, Repository) for value in values):
            raise click.UsageError(f"--tables {name}: it makes no derwin_db.tables.Repository.")


def _migrate() -> None:
    from derwin_db.deploy.migrations import MigrationSettings, upgrade
    from derwin_db.deploy.targets import owner_connection

    upgrade(MigrationSettings(owner_connection()))


async def _fill(*, as_json: bool) -> None:
    """See that the database can be used, and write the demo where nobody says which database it is and nothing is in it."""
    from derwin_db.database import Database
    from derwin_db.seed import seed_demo, seed_lifeline

    async with Database() as db:
        if db.settings.database_url is not None or await _has_data(db):
            return
        if not as_json:
            click.echo("No project has data yet: writing Lifeline and a demo history.")
        await seed_lifeline(db)
        with progress("demo", as_json=as_json) as bar:
            await seed_demo(db, progress=bar)


async def _has_data(db: Any) -> bool:
    """Tell whether one of the newest projects has a run, a ticket or an amount."""
    from derwin_db import repos

    async with db.admin(reason="the studio looks whether there is something to show") as admin:
        projects = (await repos.projects.list(admin, limit=_LOOKED_AT)).items
    for project in projects:
        async with db.project(project.id, read_only=True) as session:
            for repository in (repos.qa_runs, repos.qa_tickets, repos.spend_ledger):
                if (await repository.list(session, limit=1)).items:
                    return True
    return False


def _listen(host: str, port: int | None) -> socket.socket:
    """Open the socket.

    Errors:
        ConfigurationError where the port is taken, unless it was this command that chose it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in (PORT, 0) if port is None else (port,):
        with contextlib.suppress(OSError):
            return socket.create_server((host, number), family=family)
    raise ConfigurationError(f"Nothing can listen at {host}, port {port}: choose another --port or --host.")


def _serve(
    uvicorn: Any, listening: socket.socket, host: str, *, is_loopback: bool, opens: bool, takes_sql: bool, as_json: bool
) -> None:
    """Serve until Ctrl-C."""
    from derwin_db.database import Database
    from derwin_db.studio import create_app, new_token
    from derwin_db.studio.door import LOOPBACK

    port, token = listening.getsockname()[1], new_token()
    wildcard = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # asked for with --i-know
    name = wildcard.get(host, host)
    url = f"http://{f'[{name}]' if ':' in name else name}:{port}/{token}/"
    hosts = LOOPBACK | {host} if is_loopback else LOOPBACK | {host, socket.gethostname(), socket.getfqdn()}

    def announce() -> None:
        show({"url": url, "port": port}, f"\n  {url}\n\nThe studio runs until Ctrl-C.", as_json=as_json)
        if opens:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()  # one in a terminal returns at its end

    app = create_app(
        Database(), token=token, hosts=hosts, takes_addresses=not is_loopback, takes_sql=takes_sql, on_start=announce
    )
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=_PATIENCE, server_header=False
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
