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
    program = _program()
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
    values = {
        "PGHOST": ",".join(host or "localhost" for host, _ in connection.places),
        "PGPORT": ",".join(str(port) for _, port in connection.places),
        "PGTARGETSESSIONATTRS": connection.target_session_attrs,
        "PGUSER": connection.user,
        "PGDATABASE": connection.database,
        "PGPASSWORD": password or connection.password,
        "PGSSLMODE": connection.sslmode or ("prefer" if connection.is_local else "verify-full"),
        "PGSSLROOTCERT": connection.sslrootcert or (None if connection.is_local else "system"),
        "PGSSLCERT": connection.sslcert,
        "PGSSLKEY": connection.sslkey or connection.sslcert,
    }
    return {name: value for name, value in values.items() if value is not None}


def _program() -> str | None:
    from derwin_db.deploy import embedded

    try:
        return str(embedded.client_program("psql"))
    except ConfigurationError:
        return shutil.which("psql")
