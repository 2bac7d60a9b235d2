"""`derwin-db import`."""

import contextlib
import sys
from pathlib import Path
from typing import IO

import click

from derwin_db.cli.output import command, json_option, progress, show


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@json_option
@command
async def import_(file: Path, as_json: bool) -> None:
    """Read an export back, whole or not at all; - is standard input."""
    from derwin_db.database import Database
    from derwin_db.transfer import import_project

    with contextlib.ExitStack() as stack:
        source: IO[bytes] = sys.stdin.buffer if str(file) == "-" else stack.enter_context(file.open("rb"))
        async with Database() as db:
            bar = stack.enter_context(progress("import", as_json=as_json))
            report = await import_project(db, source, progress=bar)
    kept = f"; {report.ledger_kept:,} ledger rows were on the books already" if report.ledger_kept else ""
    show(vars(report), f"{report.slug}: {sum(report.rows.values()):,} rows are back{kept}.", as_json=as_json)
