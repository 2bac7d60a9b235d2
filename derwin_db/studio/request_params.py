"""What a request asks for: its project as a read-only unit of work, filters, the place in a list, a number of days."""

import re
from typing import Any, cast

from starlette.requests import Request

from derwin_db.database import Database
from derwin_db.errors import InvalidInput, ProjectNotFound, ScopeError
from derwin_db.session import ProjectSession

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,4}", re.ASCII)
_PLACES = ("cursor", "limit")
PAGE_SIZE = 50


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
        raise InvalidInput(f"{unknown[:64]}: no such filter. There are: {', '.join(names)}.")
    return {name: value.strip() for name, value in given if value.strip()}


def listing(request: Request, filters: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """Return what was asked of a list, and the keywords of the repository's `list`. A day begins at midnight in UTC."""
    asked = query(request, *filters, *_PLACES)
    found: dict[str, Any] = dict(asked)
    for name in ("since", "until"):
        if _DAY.fullmatch(found.get(name, "")):
            found[name] += "T00:00:00Z"
    found["limit"] = whole(found.get("limit"), "limit", PAGE_SIZE)
    return {name: value for name, value in asked.items() if name not in _PLACES}, found


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
