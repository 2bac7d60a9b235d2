"""`derwin-db erase`."""

import asyncio

import click

from derwin_db.cli.output import command, confirm, json_option, show, yes_option
from derwin_db.deploy.targets import owner_connection


@click.command()
@click.argument("project")
@click.option("--despite-retention", is_flag=True, help="Erase evidence too that must still be kept.")
@yes_option
@json_option
@command
async def erase(project: str, despite_retention: bool, yes: bool, as_json: bool) -> None:
    """Delete one project (slug or id) with all its rows but the ledger, and report what went and what stays."""
    from derwin_db import repos
    from derwin_db.database import Database
    from derwin_db.session import parse_project

    wanted = parse_project(project)
    confirm(f"Erase the project {project}", await asyncio.to_thread(owner_connection), yes=yes)
    async with Database() as db, db.admin(reason=f"erase {project}") as admin:
        root = await repos.projects.get(admin, wanted)
        gone = await repos.projects.delete(admin, root.id, despite_retention=despite_retention)
        spent = (await repos.spend_ledger.totals_by_project(admin)).get(root.slug)
    lines = [f"  {table:<24}{rows:>10,}" for table, rows in gone.items() if rows]
    stays = f"The ledger stays: {spent} US dollars; the slug stays taken with it." if spent is not None else "Nothing stays."
    value = {"slug": root.slug, "project_id": str(root.id), "erased": gone, "ledger_usd": None if spent is None else str(spent)}
    show(value, "\n".join([f"Erased {root.slug}:", *lines, stays]), as_json=as_json)
