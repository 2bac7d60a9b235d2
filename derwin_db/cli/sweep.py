"""`derwin-db sweep`."""

import sys
from datetime import timedelta
from typing import get_args

import click

from derwin_db.cli.arguments import LENGTH
from derwin_db.cli.output import REFUSED, command, json_option, log_to_stderr, progress, show
from derwin_db.workers.sweep import STALLED_AFTER, What


@click.command()
@click.argument("what", nargs=-1, type=click.Choice(get_args(What)))
@click.option(
    "--stalled-after",
    default=f"{STALLED_AFTER.seconds}s",
    show_default=True,
    type=LENGTH,
    help="How long without a heartbeat: 90s, 15m; as `stalled_seconds` of the workers.",
)
@click.option(
    "--limit-per-unit", default=500, show_default=True, type=click.IntRange(1, 500), help="Artifacts in one transaction."
)
@json_option
@command
async def sweep(what: tuple[What, ...], stalled_after: timedelta, limit_per_unit: int, as_json: bool) -> None:
    """Sweep over all projects: queue stalled runs again, remove expired evidence, compute trust scores. For cron.

    Does all of it, or what is named. Of evidence only rows go: where blobs have to be removed too, a service calls
    `db.sweep(delete_blob=...)`. A project that fails keeps no other from its turn; the exit code is 1 then.
    """
    from derwin_db.database import Database

    log_to_stderr("derwin_db.retention", as_json=as_json)
    async with Database() as db:
        with progress("sweep", as_json=as_json) as bar:
            done = await db.sweep(*what, stalled_after=stalled_after, limit_per_unit=limit_per_unit, progress=bar)
    wanted = what or get_args(What)
    lines = {
        "stalled": f"{done.requeued:,} stalled runs are in the queue again.",
        "evidence": f"{done.pruned:,} artifacts pruned, {done.remaining:,} expired ones left.",
        "trust": f"{done.scores:,} trust scores are up to date.",
    }
    failed = [f"{done.failed:,} projects failed: their errors are in the log."] * bool(done.failed)
    show(done, "\n".join([*(lines[one] for one in wanted), *failed]), as_json=as_json)
    if done.failed:
        sys.exit(REFUSED)
