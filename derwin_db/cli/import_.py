"""`derwin-db import`."""

import contextlib
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from derwin_db.cli.interruption import interruptible
from derwin_db.cli.output import command, json_option, progress, show
from derwin_db.deploy.blocking import run

if TYPE_CHECKING:
    from derwin_db.observe.progress import Progress
    from derwin_db.transfer import Report


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@json_option
@command
def import_(file: Path, as_json: bool) -> None:
    """Read an export back, whole or not at all; - is standard input."""
    with contextlib.ExitStack() as stack:  # a pipe is opened here, where Ctrl-C ends the wait for its other end
        source: IO[bytes] = sys.stdin.buffer if str(file) == "-" else stack.enter_context(file.open("rb"))
        bar = stack.enter_context(progress("import", as_json=as_json))
        report = run(_import(source, bar))
    kept = f"; {report.ledger_kept:,} ledger rows were on the books already" if report.ledger_kept else ""
    show(vars(report), f"{report.slug}: {sum(report.rows.values()):,} rows are back{kept}.", as_json=as_json)


async def _import(source: IO[bytes], bar: "Progress") -> "Report":
    from derwin_db.database import Database
    from derwin_db.transfer import import_project

    with interruptible(source) as read:
        async with Database() as db:
            return await import_project(db, read, progress=bar)
