"""`derwin-db distribute`."""

import asyncio
from functools import partial

import click

from derwin_db.cli.output import command, confirm, json_option, progress, show, yes_option
from derwin_db.cli.owner import as_owner
from derwin_db.deploy.citus import distribute as distribute_tables
from derwin_db.deploy.migrations import refuse_transaction_pooler
from derwin_db.deploy.targets import owner_connection


@click.command()
@yes_option
@json_option
@command
async def distribute(yes: bool, as_json: bool) -> None:
    """Distribute the tables over the workers of a Citus cluster, by project. Idempotent; not to be undone."""
    owner = await asyncio.to_thread(owner_connection)
    confirm("Distribute all tables", owner, yes=yes)
    await refuse_transaction_pooler(owner)
    with progress("distribute", as_json=as_json) as bar:
        result = await as_owner(partial(distribute_tables, progress=bar))
    text = f"Tables distributed: {len(result.distributed)}; distributed before: {len(result.before)}."
    show(result, text, as_json=as_json)
