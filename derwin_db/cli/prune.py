"""`derwin-db prune`."""

import click

from derwin_db.cli.output import command, json_option, log_to_stderr, progress, show


@click.command()
@click.option(
    "--limit-per-unit", default=500, show_default=True, type=click.IntRange(1, 500), help="Artifacts in one transaction."
)
@click.option("--dry-run", is_flag=True, help="Count, and remove nothing.")
@json_option
@command
async def prune(limit_per_unit: int, dry_run: bool, as_json: bool) -> None:
    """Remove evidence whose retention has ended and that is not on hold, in all projects. For cron.

    Only rows go. Where blobs have to be removed too, a service calls `db.prune(delete_blob=...)`.
    """
    from derwin_db.database import Database

    log_to_stderr("derwin_db.retention", as_json=as_json)
    async with Database() as db:
        with progress("prune", as_json=as_json) as bar:
            result = await db.prune(limit_per_unit=limit_per_unit, dry_run=dry_run, progress=bar)
    text = f"{result.pruned:,} artifacts pruned, {result.remaining:,} expired ones left." + (" (A dry run.)" if dry_run else "")
    show(result, text, as_json=as_json)
