"""`derwin-db spend`."""

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import click

from derwin_db import repos
from derwin_db.cli.arguments import MOMENT
from derwin_db.cli.door import as_admin, in_project, reason_of, reason_option
from derwin_db.cli.output import command, json_option, progress, show
from derwin_db.cli.tables import table
from derwin_db.database import Database
from derwin_db.deploy.blocking import run
from derwin_db.errors import ProjectNotFound
from derwin_db.workers.queue import all_projects

Bounds = dict[str, datetime | None]


@click.command()
@click.argument("project", required=False)
@click.option("--by", type=click.Choice(["project", "model", "source", "day"]), help="By what the sums are parted.")
@click.option("--since", type=MOMENT, help="From this day or time on.")
@click.option("--until", type=MOMENT, help="Before this day or time.")
@reason_option
@json_option
@command
def spend(
    project: str | None, by: str | None, since: datetime | None, until: datetime | None, reason: str | None, as_json: bool
) -> None:
    """Sum up what was spent, in US dollars: of one project (slug or id), by model where nothing else is said.

    Without a project, of all of them: by project, those that were erased included, or of the projects that are there by
    model, source or day. That opens the admin door, which wants a reason.
    """
    if project is not None and by == "project":
        raise click.UsageError("--by project is for all projects: leave the project out.")
    key: Any = by or ("project" if project is None else "model")
    bounds: Bounds = {"since": since, "until": until}
    if project is not None:
        sums = in_project(project, lambda session: repos.spend_ledger.totals_by(session, key, **bounds))
    elif key == "project":
        sums = as_admin(reason_of(reason), lambda admin: repos.spend_ledger.totals_by_project(admin, **bounds))
    else:
        why = reason_of(reason)
        with progress("spend", as_json=as_json) as bar:
            sums = run(_of_all(why, key, bounds, bar))
    total = sum(sums.values(), Decimal(0))
    ordered = sorted(sums.items(), key=(lambda item: str(item[0])) if key == "day" else (lambda item: -item[1]))
    rows: list[dict[str, Any]] = [{key: name, "usd": amount} for name, amount in ordered]
    text = table([*rows, {key: "total", "usd": total}], empty="") if rows else "Nothing was spent."
    plain = [{key: None if name is None else str(name), "usd": str(amount)} for name, amount in ordered]
    show({"by": key, "sums": plain, "total_usd": str(total)}, text, as_json=as_json)


async def _of_all(reason: str, key: Any, bounds: Bounds, bar: Callable[[str, int, int], None]) -> dict[Any, Decimal]:
    """Add up the projects that are there, each read in its own scope: the admin door sees no model and no source."""
    sums: defaultdict[Any, Decimal] = defaultdict(Decimal)
    async with Database() as db:
        ids = await all_projects(db, reason=reason)
        for done, project_id in enumerate(ids, 1):
            try:
                async with db.project(project_id) as session:
                    parts = await repos.spend_ledger.totals_by(session, key, **bounds)
            except ProjectNotFound:  # erased meanwhile
                parts = {}
            for name, amount in parts.items():
                sums[name] += amount
            bar("projects", done, len(ids))
    return sums
