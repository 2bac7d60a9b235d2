"""`derwin-db reset`."""

from pathlib import Path

import click

from derwin_db.cli.output import command, confirm, json_option, log_to_stderr, show, then_option, yes_option
from derwin_db.database import Database
from derwin_db.deploy.blocking import run
from derwin_db.deploy.migrations import MigrationSettings, downgrade, downgrade_service, upgrade, upgrade_service
from derwin_db.deploy.targets import owner_connection
from derwin_db.seed import seed_lifeline


@click.command()
@click.option("--seed/--no-seed", "with_seed", default=True, show_default=True, help="Write Lifeline afterwards.")
@then_option
@yes_option
@json_option
@command
def reset(with_seed: bool, then: Path | None, yes: bool, as_json: bool) -> None:
    """Remove all tables and data of derwin-db, ledger and logs included, then migrate and seed.

    Tables of a service that refer to them go with `--then`, by its own revisions, and come back empty.
    """
    log_to_stderr("derwin_db.migrations", as_json=as_json)
    connection = owner_connection()
    confirm("Remove all projects and their data", connection, yes=yes)
    settings = MigrationSettings(connection)
    if then is not None:
        downgrade_service(settings, then, "base")
    downgrade(settings, "base")
    after = upgrade(settings)
    if then is not None:
        upgrade_service(settings, then)
    if with_seed:
        run(_seed())
    seeded = " and holds the project lifeline" if with_seed else " and holds no project"
    show(
        {"database": connection.database, "current": after.current, "seeded": with_seed},
        f"{connection.place} is new{seeded}.",
        as_json=as_json,
    )


async def _seed() -> None:
    async with Database() as db:
        await seed_lifeline(db)
