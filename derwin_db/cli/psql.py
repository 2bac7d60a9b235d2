"""`derwin-db psql`."""

import os
import shutil
import sys

import click

from derwin_db.cli.output import CONFIGURATION, command
from derwin_db.deploy.blocking import run
from derwin_db.deploy.targets import owner_connection
from derwin_db.errors import ConfigurationError
from derwin_db.settings import ConnectionInfo
from derwin_db.settings.secrets import password_of


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@command
def psql(arguments: tuple[str, ...]) -> None:
    """Open psql as the owner; all arguments are handed on: derwin-db psql -c "SELECT slug FROM projects"."""
    connection = owner_connection()
    password = run(password_of(connection))
    program = _program(connection)
    if program is None:
        click.secho(
            "psql is not installed: install the PostgreSQL client, or derwin-db[embedded], which brings one.",
            fg="red",
            err=True,
        )
        sys.exit(CONFIGURATION)
    os.execvpe(program, ["psql", *arguments], {**os.environ, **environment_of(connection, password)})  # noqa: S606  # no shell


def environment_of(connection: ConnectionInfo, password: str | None = None) -> dict[str, str]:
    """Return the connection as libpq's environment variables: unlike arguments, nobody sees them in a process list."""
    mode = _ssl_mode(connection)
    values = {
        "PGHOST": ",".join(host or "localhost" for host, _ in connection.places),
        "PGPORT": ",".join(str(port) for _, port in connection.places),
        "PGTARGETSESSIONATTRS": connection.target_session_attrs,
        "PGUSER": connection.user,
        "PGDATABASE": connection.database,
        "PGPASSWORD": password or connection.password,
        "PGSSLMODE": mode,
        "PGSSLROOTCERT": connection.sslrootcert or ("system" if mode == "verify-full" else None),  # refused with any other
        "PGSSLCERT": connection.sslcert,
        "PGSSLKEY": connection.sslkey or connection.sslcert,
    }
    return {name: value for name, value in values.items() if value is not None}


def _ssl_mode(connection: ConnectionInfo) -> str:
    return connection.sslmode or ("prefer" if connection.is_local and connection.sslcert is None else "verify-full")


def _program(connection: ConnectionInfo) -> str | None:
    """Return the psql that the embedded server has, or the system's: without the other, and for TLS, which the other lacks."""
    from derwin_db.deploy import embedded

    system = shutil.which("psql")
    try:
        brought = str(embedded.client_program("psql"))
    except ConfigurationError:
        return system
    wants_tls = _ssl_mode(connection) in ("require", "verify-ca", "verify-full")
    return system if wants_tls and system is not None else brought
