"""What an operator is asked: the slug of a project once more before something happens to it."""

import getpass
import sys

import click

from derwin_db import repos
from derwin_db.cli.door import in_project
from derwin_db.cli.output import REFUSED, Option
from derwin_db.deploy.targets import owner_connection
from derwin_db.session import parse_project
from derwin_db.settings import Settings

actor_option: Option = click.option("--actor", help="Who does it; the name of this system user by default.")


def actor_of(given: str | None) -> str:
    """Return who does it."""
    if given is not None:
        return given
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "operator"


def confirm_project(action: str, project: str, *, yes: bool) -> None:
    """Have the slug of the project typed again, unless `--yes` answers, which it has to where there is no terminal.

    Errors:
        ScopeError for what can't name a project; ProjectNotFound.
    """
    parse_project(project)
    if yes:
        return
    if not sys.stdin.isatty():
        click.secho(f"{action} {project}: say --yes to do this without a terminal.", fg="red", err=True)
        sys.exit(REFUSED)
    slug = in_project(project, repos.projects.current).slug
    place = (Settings.load().connection("admin_url") or owner_connection()).place  # where the admin door leads
    typed = click.prompt(f"{action} {slug} in {place}. Type its slug to go on", default="", show_default=False, err=True)
    if typed != slug:
        click.echo("Nothing was done.", err=True)
        sys.exit(REFUSED)
