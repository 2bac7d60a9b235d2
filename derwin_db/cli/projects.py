"""`derwin-db projects`."""

import json
import sys
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from derwin_db import repos
from derwin_db.cli.arguments import cursor_option, limit_option, member_of
from derwin_db.cli.asking import actor_of, actor_option, confirm_project
from derwin_db.cli.door import as_admin, in_project, reason_of, reason_option
from derwin_db.cli.erase import despite_option, erase_project
from derwin_db.cli.output import Option, command, json_option, show, yes_option
from derwin_db.cli.tables import pairs, table
from derwin_db.errors import InvalidInput
from derwin_db.models import (
    ComplianceMode,
    Project,
    ProjectCreate,
    ProjectMode,
    ProjectSettings,
    ProjectType,
    ProjectUpdate,
    RunStatus,
)
from derwin_db.repos.validation import invalid
from derwin_db.session import AdminSession, ProjectSession, parse_project

_LISTED = ("slug", "name", "type", "mode", "compliance_mode", "created_at")

type_option: Option = click.option("--type", "kind", type=member_of(ProjectType), help="What kind of product it is.")
compliance_option: Option = click.option(
    "--compliance-mode", type=member_of(ComplianceMode), help="Under which rule its evidence is kept."
)
repo_option: Option = click.option("--repo-url", help="Where its code is.")
settings_option: Option = click.option(
    "--settings",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="JSON file of its public settings; - is standard input.",
)


@click.group()
def projects() -> None:
    """List, make, change, archive and erase projects."""


@projects.command("list")
@type_option
@click.option("--mode", type=member_of(ProjectMode), help="Only those in this mode.")
@compliance_option
@click.option("--archived", is_flag=True, help="Those that are archived, all on one page.")
@limit_option
@cursor_option
@reason_option
@json_option
@command
def list_(
    kind: str | None,
    mode: str | None,
    compliance_mode: str | None,
    archived: bool,
    limit: int,
    cursor: str | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """List the projects that are not archived, the newest first."""
    given = {"type": kind, "mode": mode, "compliance_mode": compliance_mode}
    filters: Any = {name: value for name, value in given.items() if value is not None}

    async def work(admin: AdminSession) -> tuple[list[Project], str | None]:
        if archived:  # a page has none of them
            return [row async for row in repos.projects.stream(admin, **filters) if row.archived_at is not None], None
        page = await repos.projects.list(admin, limit=limit, cursor=cursor, **filters)
        return list(page.items), page.next_cursor

    rows, further = as_admin(reason_of(reason), work)
    shown = ("archived_at", *_LISTED) if archived else _LISTED
    text = table([{name: getattr(row, name) for name in shown} for row in rows], empty="There is none.")
    if further is not None:
        text += f"\n\nThere are more: --cursor {further}"
    show({"projects": [_plain(row) for row in rows], "next_cursor": further}, text, as_json=as_json)


@projects.command("show")
@click.argument("project")
@json_option
@command
def show_(project: str, as_json: bool) -> None:
    """Show one project (slug or id): its row, its runs and tickets by status, its evidence, and what it spent."""
    row, counts, sums = in_project(project, _looked_at)
    value = {**_plain(row), **counts, **sums}
    facts = [(name, getattr(row, name)) for name in ("id", *_LISTED, "repo_url", "updated_at", "archived_at")]
    counted = [(name, _counted(found)) for name, found in counts.items()]
    show(value, pairs([*facts, *counted, *sums.items()]), as_json=as_json)


async def _looked_at(session: ProjectSession) -> tuple[Project, dict[str, dict[str, int]], dict[str, Any]]:
    """Return the row, what is counted by status, and what is summed up."""
    row = await repos.projects.current(session)
    runs = {status.value: await repos.qa_runs.count(session, status=status) for status in RunStatus}
    tickets = {status.value: number for status, number in (await repos.qa_tickets.counts_by_status(session)).items()}
    artifacts = await repos.audit_artifacts.count(session)
    return (
        row,
        {"runs": runs, "tickets": tickets},
        {"artifacts": artifacts, "spent_usd": await repos.spend_ledger.total(session)},
    )


@projects.command()
@click.argument("slug")
@click.option("--name", help="Its name; the slug by default.")
@click.option("--type", "kind", type=member_of(ProjectType), required=True, help="What kind of product it is.")
@click.option(
    "--mode", type=member_of(ProjectMode), default=ProjectMode.OBSERVE.value, show_default=True, help="Its first mode."
)
@click.option(
    "--compliance-mode",
    type=member_of(ComplianceMode),
    default=ComplianceMode.STANDARD.value,
    show_default=True,
    help="Under which rule its evidence is kept.",
)
@repo_option
@settings_option
@reason_option
@json_option
@command
def create(
    slug: str,
    name: str | None,
    kind: str,
    mode: str,
    compliance_mode: str,
    repo_url: str | None,
    settings: Path | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Make a project. Its slug names it for ever: a-z, 0-9 and single hyphens, up to 63."""
    fields = {"slug": slug, "name": slug if name is None else name, "type": kind, "mode": mode, "repo_url": repo_url}
    fields |= {"compliance_mode": compliance_mode, **_settings(settings)}
    data = _checked(ProjectCreate, fields)
    row = as_admin(reason_of(reason), lambda admin: repos.projects.create(admin, data))
    _tell(row, "is made", as_json=as_json)


@projects.command()
@click.argument("project")
@click.option("--name", help="Its name.")
@type_option
@compliance_option
@repo_option
@click.option("--no-repo-url", is_flag=True, help="It has no code any more that is known.")
@settings_option
@reason_option
@json_option
@command
def update(
    project: str,
    name: str | None,
    kind: str | None,
    compliance_mode: str | None,
    repo_url: str | None,
    no_repo_url: bool,
    settings: Path | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Change what is named of one project (slug or id). A rule that keeps evidence longer counts for what is there."""
    given = {"name": name, "type": kind, "compliance_mode": compliance_mode, "repo_url": repo_url, **_settings(settings)}
    fields = {field: value for field, value in given.items() if value is not None}
    if no_repo_url and repo_url is not None:
        raise click.UsageError("--repo-url and --no-repo-url: one of them.")
    if no_repo_url:
        fields["repo_url"] = None
    if not fields:
        raise click.UsageError("Nothing to change: say --name, --type, --compliance-mode, --repo-url or --settings.")
    data, project_id = _checked(ProjectUpdate, fields), parse_project(project)
    row = as_admin(reason_of(reason), lambda admin: repos.projects.update(admin, project_id, data))
    _tell(row, "is changed", as_json=as_json)


@projects.command()
@click.argument("project")
@reason_option
@yes_option
@json_option
@command
def archive(project: str, reason: str | None, yes: bool, as_json: bool) -> None:
    """Leave one project (slug or id) out of lists. It goes on working; nothing of it goes."""
    project_id = parse_project(project)
    why = reason_of(reason)
    confirm_project("Archive", project, yes=yes)
    row = as_admin(why, lambda admin: repos.projects.archive(admin, project_id))
    _tell(row, "is archived", as_json=as_json)


@projects.command("set-mode")
@click.argument("project")
@click.argument("mode", type=member_of(ProjectMode))
@actor_option
@reason_option
@json_option
@command
def set_mode(project: str, mode: str, actor: str | None, reason: str | None, as_json: bool) -> None:
    """Change the mode of one project (slug or id); who did it and why stay in its log."""
    who, why = actor_of(actor), reason_of(reason)
    row = in_project(project, lambda session: repos.projects.set_mode(session, ProjectMode(mode), actor=who, reason=why))
    _tell(row, f"is in the mode {mode}", as_json=as_json)


@projects.command()
@click.argument("project")
@despite_option
@reason_option
@yes_option
@json_option
@command
def erase(project: str, despite_retention: bool, reason: str | None, yes: bool, as_json: bool) -> None:
    """Delete one project (slug or id) with all its rows but the ledger, and report what went and what stays."""
    erase_project(project, reason_of(reason), despite_retention=despite_retention, yes=yes, as_json=as_json)


def _checked(kind: Any, fields: dict[str, Any]) -> Any:
    """Return the input of a verb.

    Errors:
        InvalidInput that names the field and its rule.
    """
    try:
        return kind(**fields)
    except ValidationError as error:
        raise invalid(error) from None


def _settings(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    text = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    try:
        return {"settings": ProjectSettings.model_validate(json.loads(text))}
    except ValidationError as error:
        raise invalid(error, "settings") from None
    except (ValueError, RecursionError):
        raise InvalidInput("--settings: the file is no JSON.") from None


def _plain(row: Project) -> dict[str, Any]:
    return row.model_dump(mode="json")


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items() if number) or "none"


def _tell(row: Project, what: str, *, as_json: bool) -> None:
    show(_plain(row), f"{row.slug} {what}.", as_json=as_json)
