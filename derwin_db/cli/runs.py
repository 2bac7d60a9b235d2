"""`derwin-db runs`."""

from datetime import timedelta
from typing import Any

import click

from derwin_db import repos
from derwin_db.cli.arguments import LENGTH, MOMENT, cursor_option, limit_option, member_of
from derwin_db.cli.door import in_project
from derwin_db.cli.output import command, json_option, show
from derwin_db.cli.tables import table
from derwin_db.models import RunStatus

_LISTED = ("id", "status", "trigger", "claimed_by", "created_at", "started_at", "heartbeat_at", "finished_at", "error")
_ERROR_LENGTH = 60


@click.group()
def runs() -> None:
    """List the runs of a project; requeue what stalled."""


@runs.command("list")
@click.argument("project")
@click.option("--status", type=member_of(RunStatus), multiple=True, help="Only in this status; may be repeated.")
@click.option("--since", type=MOMENT, help="Only those that were enqueued from this day or time on.")
@limit_option
@cursor_option
@json_option
@command
def list_(project: str, status: tuple[str, ...], since: Any, limit: int, cursor: str | None, as_json: bool) -> None:
    """List the runs of one project (slug or id), the newest first."""
    filters: Any = {**({"status": status} if status else {}), **({"since": since} if since else {})}
    page = in_project(project, lambda session: repos.qa_runs.list(session, limit=limit, cursor=cursor, **filters))
    rows = [{name: getattr(row, name) for name in _LISTED} for row in page.items]
    text = table([{**row, "error": _shortened(row["error"])} for row in rows], empty="There is none.")
    if page.next_cursor is not None:
        text += f"\n\nThere are more: --cursor {page.next_cursor}"
    value = {"runs": [row.model_dump(mode="json") for row in page.items], "next_cursor": page.next_cursor}
    show(value, text, as_json=as_json)


@runs.command()
@click.argument("project")
@click.option(
    "--older-than", type=LENGTH, default="10m", show_default=True, help="How long its worker was silent: 90s, 15m, 2h."
)
@json_option
@command
def requeue(project: str, older_than: timedelta, as_json: bool) -> None:
    """Put runs of one project (slug or id) back into the queue whose worker gave no sign of life for so long."""
    number = in_project(project, lambda session: repos.qa_runs.requeue_stalled(session, older_than=older_than))
    show({"requeued": number}, f"{number:,} runs are in the queue again.", as_json=as_json)


def _shortened(text: str | None) -> str | None:
    return text if text is None or len(text) <= _ERROR_LENGTH else f"{text[: _ERROR_LENGTH - 1]}…"
