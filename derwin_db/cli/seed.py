"""`derwin-db seed`."""

import click

from derwin_db.cli.output import command, json_option, progress, show

NEXT = """
Next:
  derwin-db status                                  where the database stands
  derwin-db psql -c "SELECT slug, type, mode FROM projects"
  derwin-db seed --demo                             a believable history to look at"""


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
    text = " | ".join(row.values()) + (f"\n{counts}" if counts else "") + "\n" + NEXT
    show({**row, **({"demo": vars(counts)} if counts else {})}, text, as_json=as_json)
