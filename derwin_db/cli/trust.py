"""`derwin-db trust`."""

import click

from derwin_db.cli.output import command, json_option, progress, show


@click.group()
def trust() -> None:
    """Recompute trust scores."""


@trust.command()
@click.option("--project", help="Slug or id of one project; all of them by default.")
@json_option
@command
async def refresh(project: str | None, as_json: bool) -> None:
    """Recompute the trust scores, as their window of 30 days slides. For cron, once a day."""
    from derwin_db import repos
    from derwin_db.database import Database

    scores = 0
    async with Database() as db:
        if project is not None:
            chosen = [project]
        else:
            async with db.admin(reason="refresh trust scores of all projects") as admin:
                chosen = [str(row.id) async for row in repos.projects.stream(admin)]
        with progress("trust", as_json=as_json) as bar:
            for done, one in enumerate(chosen, 1):
                async with db.project(one) as session:
                    scores += await repos.classification_trust.refresh(session)
                bar("projects", done, len(chosen))
    show(
        {"projects": len(chosen), "scores": scores},
        f"{scores} scores of {len(chosen)} projects are up to date.",
        as_json=as_json,
    )
