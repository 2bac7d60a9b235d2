"""One unit of work for a command: through the admin door, with the reason that it wants, or of one project."""

import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from derwin_db.cli.output import Option, log_to_stderr
from derwin_db.database import Database
from derwin_db.deploy.blocking import run
from derwin_db.errors import ScopeError
from derwin_db.session import AdminSession, ProjectSession, check_reason

T = TypeVar("T")

reason_option: Option = click.option("--reason", help="Why this is done; it is logged. Asked for at a terminal.")


def reason_of(given: str | None, *, logger: str = "derwin_db.admin") -> str:
    """Return why it is done, asking for it at a terminal, and have what this logger records shown on standard error.

    It is asked before an event loop runs, so that Ctrl-C ends the question.

    Errors:
        ScopeError without a reason and a terminal, or for one that is not a line of 1 to 500 characters.
    """
    if given is None:
        if not sys.stdin.isatty():
            raise ScopeError("This wants a reason, which is logged: say --reason. There is no terminal to ask at.")
        given = click.prompt("Reason", err=True)
    log_to_stderr(logger, as_json=False)
    return check_reason(given)


def as_admin(reason: str, work: Callable[[AdminSession], Awaitable[T]]) -> T:
    """Do the work in one unit of the admin door."""

    async def unit() -> T:
        async with Database() as db, db.admin(reason=reason) as admin:
            return await work(admin)

    return run(unit())


def in_project(project: str, work: Callable[[ProjectSession], Awaitable[T]]) -> T:
    """Do the work in one unit of the project."""

    async def unit() -> T:
        async with Database() as db, db.project(project) as session:
            return await work(session)

    return run(unit())
