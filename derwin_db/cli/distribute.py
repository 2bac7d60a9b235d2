"""`derwin-db distribute`."""

import asyncio

import click

from derwin_db.cli.output import command, confirm, json_option, progress, show, yes_option
from derwin_db.connection.driver import DriverError
from derwin_db.connection.refused import connection_error
from derwin_db.deploy.citus import distribute as distribute_tables
from derwin_db.deploy.migrations import MigrationSettings, connect_directly, refuse_transaction_pooler
from derwin_db.deploy.targets import owner_connection
from derwin_db.errors import DerwinError
from derwin_db.translation.driver_errors import translate


@click.command()
@yes_option
@json_option
@command
async def distribute(yes: bool, as_json: bool) -> None:
    """Distribute the tables over the workers of a Citus cluster, by project. Idempotent; not to be undone."""
    settings = MigrationSettings(await asyncio.to_thread(owner_connection))
    confirm("Distribute all tables", settings.connection, yes=yes)
    await refuse_transaction_pooler(settings.connection)
    try:
        connection = await connect_directly(settings)
    except Exception as error:
        raise connection_error(error, settings.connection) from None
    try:
        with progress("distribute", as_json=as_json) as bar:
            result = await distribute_tables(connection, progress=bar)
    except DriverError as error:
        raise translate(error) or DerwinError() from None
    finally:
        await connection.close()
    text = f"{len(result.distributed)} tables distributed, {len(result.before)} were already."
    show(result, text, as_json=as_json)
