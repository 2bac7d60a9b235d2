"""What a request asks for: its project as a read-only unit of work, the place in a list, a number of days."""

import re
from typing import cast

from starlette.requests import Request

from derwin_db import repos
from derwin_db.database import Database
from derwin_db.errors import InvalidInput, ProjectNotFound, ScopeError
from derwin_db.models import Project
from derwin_db.session import ProjectSession
from derwin_db.studio.views import Views

_DIGITS = re.compile(r"[0-9]{1,4}", re.ASCII)


def database(request: Request) -> Database:
    """Return the database of the app."""
    return cast("Database", request.app.state.db)


def unit(request: Request) -> ProjectSession:
    """Return a read-only unit of work of the project in the path.

    Errors:
        ProjectNotFound for what can't name one.
    """
    try:
        return database(request).project(request.path_params["project"], read_only=True)
    except ScopeError:
        raise ProjectNotFound from None


def views(request: Request) -> Views:
    """Return the views of the app."""
    return cast("Views", request.app.state.views)


async def current(request: Request, session: ProjectSession) -> Project:
    """Return the project of the page, having seen, once an app, which tables of the service are there."""
    project = await repos.projects.current(session)
    await views(request).look(session)
    return project


def query(request: Request, *names: str) -> dict[str, str]:
    """Return what is given of these parameters; a field that was left empty is not.

    Errors:
        InvalidInput for any other.
    """
    given = request.query_params.multi_items()
    if len({name for name, _ in given}) < len(given):
        raise InvalidInput("Each filter can be given once.")
    unknown = next((name for name, _ in given if name not in names), None)
    if unknown is not None:
        raise InvalidInput(f"{unknown[:64]}: no such filter. There are: {', '.join(names) or 'none'}.")
    return {name: value.strip() for name, value in given if value.strip()}


def place(request: Request) -> str | None:
    """Return where a list goes on, of a page that asks nothing else."""
    return query(request, "cursor").get("cursor")


def whole(value: str | None, name: str, default: int) -> int:
    """Return a whole number.

    Errors:
        InvalidInput.
    """
    if value is None:
        return default
    if not _DIGITS.fullmatch(value):
        raise InvalidInput(f"{name}: a whole number.")
    return int(value)
