"""Legal holds: which evidence a command is about, and the change of all of it."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import click

from derwin_db import repos
from derwin_db.cli.arguments import member_of
from derwin_db.cli.door import reason_of, reason_option
from derwin_db.cli.output import command, json_option, progress, show
from derwin_db.cli.tables import table
from derwin_db.database import Database
from derwin_db.deploy.blocking import run
from derwin_db.errors import NotFound
from derwin_db.models import ArtifactKind, AuditArtifact
from derwin_db.observe.text import one_line
from derwin_db.repos.audit_artifacts import logger
from derwin_db.session import ProjectSession, parse_project

_BATCH = 500
_LISTED = ("id", "kind", "created_at", "retention_until", "legal_hold", "storage_uri")

Change = Callable[[ProjectSession, UUID], Awaitable[AuditArtifact]]


def holding_command(name: str, change: Change, *, is_held: bool, text: str) -> click.Command:
    """Return the command that changes the hold of artifacts, named one by one or by what they are evidence of."""

    @click.command(name, help=text)
    @click.argument("project")
    @click.argument("artifacts", nargs=-1, type=click.UUID)
    @click.option("--ticket", "ticket_id", type=click.UUID, help="All evidence of this ticket.")
    @click.option("--run", "run_id", type=click.UUID, help="All evidence of this run.")
    @click.option("--fix-attempt", "fix_attempt_id", type=click.UUID, help="All evidence of this fix attempt.")
    @click.option("--kind", type=member_of(ArtifactKind), help="Only of this kind.")
    @click.option("--all", "is_all", is_flag=True, help="All evidence of the project.")
    @click.option("--dry-run", is_flag=True, help="List what it would be, and change nothing.")
    @reason_option
    @json_option
    @command
    def hold(
        project: str, artifacts: tuple[UUID, ...], is_all: bool, dry_run: bool, reason: str | None, as_json: bool, **given: Any
    ) -> None:
        filters = {field: value for field, value in given.items() if value is not None}
        if sum((bool(artifacts), bool(filters), is_all)) != 1:
            raise click.UsageError("Say which evidence: ids, or --ticket, --run, --fix-attempt, --kind, or --all.")
        parse_project(project)
        why = None if dry_run else reason_of(reason, logger="derwin_db.retention")
        with progress(name, as_json=as_json) as bar:
            rows = run(_chosen(project, artifacts, filters, is_held=is_held))
            if why is not None:
                said = f"{name} of %d artifacts of {one_line(project)}: {one_line(why)}"
                changed = run(_change(project, [row.id for row in rows], change, lambda count: logger.info(said, count), bar))
                rows = [row for row in rows if row.id in changed]
        done = f"{len(rows):,} artifacts {'would be' if dry_run else 'are'} {'on hold' if is_held else 'released'}."
        listed = table([{field: getattr(row, field) for field in _LISTED} for row in rows], empty="") if dry_run else ""
        value = {"dry_run": dry_run, "artifacts": [str(row.id) for row in rows]}
        show(value, f"{listed}\n\n{done}".lstrip(), as_json=as_json)

    return hold


async def _chosen(project: str, artifacts: tuple[UUID, ...], filters: dict[str, Any], *, is_held: bool) -> list[AuditArtifact]:
    """Return those whose hold is to change.

    Errors:
        ProjectNotFound; NotFound where one of the ids names none.
    """
    async with Database() as db, db.project(project) as session:
        await repos.projects.current(session)
        if not artifacts:
            return [row async for row in repos.audit_artifacts.stream(session, **filters) if row.legal_hold is not is_held]
        found: dict[UUID, AuditArtifact] = {}
        for start in range(0, len(artifacts), _BATCH):
            found |= await repos.audit_artifacts.get_many(session, artifacts[start : start + _BATCH])
    missing = [one for one in artifacts if one not in found]
    if missing:
        raise NotFound(f"No artifact {missing[0]} in this project. Nothing was changed.")
    return [row for row in found.values() if row.legal_hold is not is_held]


async def _change(
    project: str, ids: list[UUID], change: Change, log: Callable[[int], None], bar: Callable[[str, int, int], None]
) -> set[UUID]:
    """Change the holds, a unit of work for each 500, and log each. Return what is changed: what was pruned meanwhile is not."""
    changed: set[UUID] = set()
    async with Database() as db:
        for start in range(0, len(ids), _BATCH):
            before = len(changed)
            async with db.project(project) as session:
                for one in ids[start : start + _BATCH]:
                    with contextlib.suppress(NotFound):
                        changed.add((await change(session, one)).id)
            log(len(changed) - before)
            bar("artifacts", min(start + _BATCH, len(ids)), len(ids))
    return changed
