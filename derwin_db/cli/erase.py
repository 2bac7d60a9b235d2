"""`derwin-db erase`, which is `derwin-db projects erase` too."""

from decimal import Decimal

import click

from derwin_db import repos
from derwin_db.cli.asking import confirm_project
from derwin_db.cli.door import as_admin, reason_of, reason_option
from derwin_db.cli.output import Option, command, json_option, show, yes_option
from derwin_db.models import Project
from derwin_db.session import AdminSession, parse_project

despite_option: Option = click.option("--despite-retention", is_flag=True, help="Erase evidence too that must still be kept.")


@click.command()
@click.argument("project")
@despite_option
@reason_option
@yes_option
@json_option
@command
def erase(project: str, despite_retention: bool, reason: str | None, yes: bool, as_json: bool) -> None:
    """Delete one project (slug or id) with all its rows but the ledger, and report what went and what stays.

    Without --reason it is logged as `erase` and the project; `projects erase` wants a reason.
    """
    parse_project(project)
    why = reason_of(f"erase {project}" if reason is None else reason)
    erase_project(project, why, despite_retention=despite_retention, yes=yes, as_json=as_json)


def erase_project(project: str, reason: str, *, despite_retention: bool, yes: bool, as_json: bool) -> None:
    """Ask, erase and report."""
    confirm_project("Erase", project, yes=yes)

    async def work(admin: AdminSession) -> tuple[Project, dict[str, int], Decimal | None]:
        root = await repos.projects.get(admin, parse_project(project))
        gone = await repos.projects.delete(admin, root.id, despite_retention=despite_retention)
        return root, gone, (await repos.spend_ledger.totals_by_project(admin)).get(root.slug)

    root, gone, spent = as_admin(reason, work)
    lines = [f"  {table:<24}{rows:>10,}" for table, rows in gone.items() if rows]
    stays = f"The ledger stays: {spent} US dollars; the slug stays taken with it." if spent is not None else "Nothing stays."
    value = {"slug": root.slug, "project_id": str(root.id), "erased": gone, "ledger_usd": None if spent is None else str(spent)}
    show(value, "\n".join([f"Erased {root.slug}:", *lines, stays]), as_json=as_json)
