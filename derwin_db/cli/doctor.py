"""`derwin-db doctor`."""

import os
import stat
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from derwin_db.cli.output import REFUSED, command, json_option, replacing, show

if TYPE_CHECKING:
    from derwin_db.doctor import Check, Mended, Report


@click.command()
@click.option("--fix", "is_fixing", is_flag=True, help="Mend what can be mended safely, as the owner, and look again.")
@click.option(
    "--textfile",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the checks as metrics too, for the textfile collector of Prometheus' node_exporter.",
)
@json_option
@command
async def doctor(is_fixing: bool, textfile: Path | None, as_json: bool) -> None:
    """Look at server, schema, logins and fences, and say what to mend. Exit code 1 if something has to be mended."""
    from derwin_db.doctor import examine, mend

    report = await examine()
    mended = await mend(report) if is_fixing and not report.ok else []
    if mended:
        report = await examine()
    if textfile is not None:
        _write(textfile, metrics_of(report))
    lines = [_of_mended(one) for one in mended]
    for check in report.checks:
        lines.append(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
        if not check.ok and check.fix:
            lines.append(f"      mend: {_way(check, is_fixing=is_fixing)}")
    lines.append("All is well." if report.ok else "Something has to be mended.")
    value: dict[str, Any] = {**asdict(report), **({"mended": [asdict(one) for one in mended]} if is_fixing else {})}
    show(value, "\n".join(lines), as_json=as_json)
    if not report.ok:
        sys.exit(REFUSED)


def _of_mended(one: "Mended") -> str:
    return f"mended  {one.name}: {'; '.join(one.done)}" if one.problem is None else f"not mended  {one.name}: {one.problem}"


def _way(check: "Check", *, is_fixing: bool) -> str | None:
    """Return what mends it: the command that does it by itself, unless that has just been tried, or what is done by hand."""
    from derwin_db.doctor import MENDERS

    return check.fix if is_fixing or check.name not in MENDERS else f"`derwin-db doctor --fix`, or by hand: {check.fix}"


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # the mode of a device is everybody's
            os.fchmod(file.fileno(), 0o644)  # the collector is another user, and nothing in it is secret


def metrics_of(report: "Report") -> str:
    """Return the checks in the text format of Prometheus: 1 for what is well, and when it was looked at."""
    lines = [
        "# HELP derwin_doctor_check_ok Whether this check of derwin-db doctor is well.",
        "# TYPE derwin_doctor_check_ok gauge",
    ]
    lines += [f'derwin_doctor_check_ok{{check="{check.name}"}} {int(check.ok)}' for check in report.checks]
    lines += [
        "# HELP derwin_doctor_timestamp_seconds When derwin-db doctor looked.",
        "# TYPE derwin_doctor_timestamp_seconds gauge",
    ]
    return "\n".join([*lines, f"derwin_doctor_timestamp_seconds {time.time():.0f}", ""])
