"""`derwin-db seed`."""

import sys
from pathlib import Path

import click

from derwin_db.cli.output import command, json_option, progress, show

NEXT = """
Next:
  {program} status
  {program} psql -c "SELECT slug, type, mode FROM projects"
  {program} seed --demo        a believable history to look at"""


@click.command()
@click.option(
    "--demo", is_flag=True, help="Add a history of 60 days: runs, signals, tickets, attempts, artifacts, spend, past fixes."
)
@click.option("--scale", default=1, show_default=True, type=click.IntRange(1, 10_000), help="Size of the history.")
@json_option
@command
async def seed(demo: bool, scale: int, as_json: bool) -> None:
    """Write the project Lifeline with its profile, policy and logs. Idempotent."""
    from derwin_db.database import Database
    from derwin_db.seed import seed_demo, seed_lifeline

    async with Database() as db:
        project = await seed_lifeline(db)
        counts = None
        if demo:
            with progress("demo", as_json=as_json) as bar:
                counts = await seed_demo(db, scale=scale, progress=bar)
    row = {"slug": project.slug, "type": project.type.value, "mode": project.mode.value}
    text = " | ".join(row.values()) + (f"\n{counts}" if counts else "") + "\n" + NEXT.format(program=_program())
    show({**row, **({"demo": vars(counts)} if counts else {})}, text, as_json=as_json)


def _program() -> str:
    """Return how this command was called, as one types it again."""
    called = Path(sys.argv[0])
    here = Path.cwd()
    return str(called.relative_to(here)) if called.is_relative_to(here) else called.name
