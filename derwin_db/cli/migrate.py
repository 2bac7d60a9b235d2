"""`derwin-db migrate`."""

from pathlib import Path

import click

from derwin_db.cli.arguments import PATIENCE
from derwin_db.cli.output import command, json_option, log_to_stderr, show, then_option
from derwin_db.deploy.migrations import MigrationSettings, upgrade, upgrade_service
from derwin_db.deploy.targets import owner_connection


@click.command()
@click.option("--to", default="head", show_default=True, help="Revision to stop at.")
@click.option(
    "--wait",
    type=PATIENCE,
    default=MigrationSettings.wait_seconds,
    show_default=True,
    help="Seconds to wait for another starter that migrates.",
)
@then_option
@json_option
@command
def migrate(to: str, wait: float, then: Path | None, as_json: bool) -> None:
    """Bring the database to the newest revision. Safe to run from several starters at once, and again."""
    log_to_stderr("derwin_db.migrations", as_json=as_json)
    log_to_stderr("derwin_db.embedded", as_json=as_json)
    connection = owner_connection()
    settings = MigrationSettings(connection, wait_seconds=wait)
    after = upgrade(settings, to)
    if then is not None:
        upgrade_service(settings, then)
    newest = "" if after.pending else " (the newest)"
    text = after.schema.sentence if after.is_ahead else f"{connection.place} is at revision {after.current}{newest}."
    show(
        {"database": connection.database, "current": after.current, "head": after.head, "pending": after.pending},
        text,
        as_json=as_json,
    )
