"""`derwin-db status`."""

import click

from derwin_db.cli.output import command, json_option, show
from derwin_db.connection.driver import DriverError
from derwin_db.deploy.blocking import run
from derwin_db.deploy.migrations import MigrationSettings, connect_plainly
from derwin_db.deploy.migrations import status as migration_status
from derwin_db.deploy.targets import owner_connection
from derwin_db.translation.driver_errors import sqlstate_of

_NOTHING_TO_COUNT = frozenset({"42P01", "42501"})
"""No table of ours, or one of somebody else."""


@click.command()
@json_option
@command
def status(as_json: bool) -> None:
    """Say which revision the database has, what is pending, and how many projects there are."""
    connection = owner_connection()
    settings = MigrationSettings(connection)
    seen = migration_status(settings)
    projects = run(_count_projects(settings))
    value = {
        "database": connection.database,
        "host": connection.host or "localhost",
        "current": seen.current,
        "head": seen.head,
        "pending": seen.pending,
        "standing": seen.standing,
        "projects": projects,
    }
    pending = f"{len(seen.pending)} pending: {', '.join(seen.pending)}" if seen.pending else "nothing pending"
    if seen.is_ahead:
        pending = str(seen.standing)
    lines = [f"database  {connection.place}", f"revision  {seen.current or 'none'} ({pending})", f"projects  {projects}"]
    if seen.is_ahead:
        lines.append(seen.schema.sentence)
    show(value, "\n".join(lines), as_json=as_json)


async def _count_projects(settings: MigrationSettings) -> int:
    connection = await connect_plainly(settings.connection)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM public.projects"))
    except DriverError as error:
        if sqlstate_of(error) not in _NOTHING_TO_COUNT:
            raise
        return 0
    finally:
        await connection.close()
