"""`derwin-db explain`."""

from pathlib import Path

import click

from derwin_db.cli.output import command, json_option, show
from derwin_db.errors import codes


@click.command()
@click.argument("code", type=click.Choice(sorted(codes())), metavar="CODE")
@json_option
@command
def explain(code: str, as_json: bool) -> None:
    """Say what the error of this code means, and what to do about it."""
    text = (_pages() / f"{code}.md").read_text(encoding="utf-8")
    show({"code": code, "text": text}, text.rstrip(), as_json=as_json)


def _pages() -> Path:
    """Return the folder of the pages: inside the package when installed, that of the documentation in a checkout."""
    package = Path(__file__).parent.parent
    folder = package / "explained"
    return folder if folder.is_dir() else package.parent / "docs" / "reference" / "errors"
