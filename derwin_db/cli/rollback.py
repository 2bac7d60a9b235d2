"""`derwin-db rollback`."""

import click

from derwin_db.cli.output import command, confirm, json_option, log_to_stderr, show, yes_option
from derwin_db.deploy.migrations import MigrationSettings, downgrade
from derwin_db.deploy.targets import owner_connection


@click.command()
@click.option("--to", default="-1", show_default=True, help="Revision to go back to: an id, -1 for the one before, or base.")
@yes_option
@json_option
@command
def rollback(to: str, yes: bool, as_json: bool) -> None:
    """Take the database back by a revision. What the revision added is removed, with its data."""
    log_to_stderr("derwin_db.migrations", as_json=as_json)
    connection = owner_connection()
    confirm(f"Roll back to {'the revision before' if to == '-1' else to}", connection, yes=yes)
    after = downgrade(MigrationSettings(connection), to)
    text = f"{connection.place} is at revision {after.current or 'none'}; pending: {', '.join(after.pending) or 'none'}."
    show(
        {"database": connection.database, "current": after.current, "head": after.head, "pending": after.pending},
        text,
        as_json=as_json,
    )
