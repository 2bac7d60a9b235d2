"""`derwin-db trust`."""

import sys

import click

from derwin_db.cli.output import REFUSED, command, json_option, log_to_stderr, progress, show


@click.group()
def trust() -> None:
    """Recompute trust scores."""


@trust.command()
@click.option("--project", help="Slug or id of one project; all of them by default.")
@json_option
@command
async def refresh(project: str | None, as_json: bool) -> None:
    """Recompute the trust scores, as their window of 30 days slides. For cron, once a day.

    A project that fails keeps no other from its turn; the exit code is 1 then.
    """
    from derwin_db import repos
    from derwin_db.database import Database
    from derwin_db.workers.sweep import Visited, refresh_trust

    log_to_stderr("derwin_db.retention", as_json=as_json)
    async with Database() as db:
        if project is not None:
            done = Visited(1, await db.run(project, repos.classification_trust.refresh))
        else:
            with progress("trust", as_json=as_json) as bar:
                done = await refresh_trust(db, bar)
    failed = len(done.errors)
    text = f"{done.count:,} scores of {done.projects - failed:,} projects are up to date."
    if failed:
        text += f"\n{failed:,} projects failed: their errors are in the log."
    show({"projects": done.projects, "scores": done.count, "failed": failed}, text, as_json=as_json)
    if failed:
        sys.exit(REFUSED)
