"""`derwin-db seed`."""

import sys
from pathlib import Path

import click

from derwin_db.cli.output import command, json_option, log_to_stderr, progress, show

NEXT = """
Next:
  {program} status
  {program} psql -c "SELECT slug, type, mode FROM projects"
  {program} seed --demo        a believable history to look at"""


@click.command()
@click.option(
    "--demo", is_flag=True, help="Add a history of 60 days: runs, signals, tickets, attempts, artifacts, spend, past fixes."
)
@click.option("--scale", type=click.IntRange(1, 10_000), help="Size of the history; 1 by default. Needs --demo.")
@json_option
@command
async def seed(demo: bool, scale: int | None, as_json: bool) -> None:
    """Write the project Lifeline with its profile, policy and logs. Idempotent."""
    from derwin_db.database import Database
    from derwin_db.seed import DemoCounts, seed_demo, seed_lifeline

    if scale is not None and not demo:
        raise click.UsageError("--scale is the size of the history that --demo adds: say --demo too.")
    log_to_stderr("derwin_db.embedded", as_json=as_json)
    async with Database() as db:
        project = await seed_lifeline(db)
        counts = None
        if demo:
            with progress("demo", as_json=as_json) as bar:
                counts = await seed_demo(db, scale=scale or 1, progress=bar)
    row = {"slug": project.slug, "type": project.type.value, "mode": project.mode.value}
    lines = [" | ".join(row.values()), *([str(counts)] if counts else [])]
    if counts is not None and scale is not None and counts != DemoCounts.at(scale):
        lines.append("A history of another scale is there already, and stays: `reset` first for one of this scale.")
    text = "\n".join([*lines, NEXT.format(program=_program())])
    show({**row, **({"demo": vars(counts)} if counts else {})}, text, as_json=as_json)


def _program() -> str:
    """Return how this command was called, as one types it again."""
    called = Path(sys.argv[0])
    here = Path.cwd()
    return str(called.relative_to(here)) if called.is_relative_to(here) else called.name
