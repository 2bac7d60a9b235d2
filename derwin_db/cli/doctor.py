"""`derwin-db doctor`."""

import sys

import click

from derwin_db.cli.output import REFUSED, command, json_option, show


@click.command()
@json_option
@command
async def doctor(as_json: bool) -> None:
    """Look at server, schema, logins and fences, and say what to mend. Exit code 1 if something has to be mended."""
    from derwin_db.doctor import examine

    report = await examine()
    lines = []
    for check in report.checks:
        lines.append(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
        if not check.ok and check.fix:
            lines.append(f"      mend: {check.fix}")
    lines.append("All is well." if report.ok else "Something has to be mended.")
    show(report, "\n".join(lines), as_json=as_json)
    if not report.ok:
        sys.exit(REFUSED)
