"""`derwin-db export`."""

import contextlib
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from derwin_db.cli.interruption import interruptible
from derwin_db.cli.output import command, json_option, progress, replacing, show
from derwin_db.deploy.blocking import run

if TYPE_CHECKING:
    from derwin_db.observe.progress import Progress
    from derwin_db.transfer import Report


@click.command()
@click.argument("project")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write; else, or for -, standard output."
)
@json_option
@command
def export(project: str, output: Path | None, as_json: bool) -> None:
    """Write one project (slug or id) as compressed JSON Lines.

    A file that --output names is replaced when the new one is whole; its owner alone may read it.

    derwin-db export acme --output acme.jsonl.zst
    """
    if str(output) == "-":
        output = None
    if output is not None and not output.name:
        raise click.UsageError("--output wants the name of a file.")
    if output is None and sys.stdout.isatty():
        raise click.UsageError("An export is binary: say --output, or send it into a file or pipe.")
    with contextlib.ExitStack() as stack:  # a pipe is opened here, where Ctrl-C ends the wait for its other end
        sink: IO[bytes] = sys.stdout.buffer if output is None else stack.enter_context(replacing(output))
        bar = stack.enter_context(progress("export", as_json=as_json or output is None))
        report = run(_export(project, sink, bar))
    if output is not None:
        total = sum(report.rows.values())
        left_out = f". Left out, not fenced: {', '.join(report.left_out)}" if report.left_out else ""
        show(vars(report), f"{report.slug}: {total:,} rows in {output}{left_out}", as_json=as_json)


async def _export(project: str, sink: IO[bytes], bar: "Progress") -> "Report":
    from derwin_db.database import Database
    from derwin_db.transfer import export_project

    with interruptible(sink) as written:
        async with Database() as db:
            return await export_project(db, project, written, progress=bar)
