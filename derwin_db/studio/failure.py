"""Errors as pages. As over any other HTTP, a row of another project is exactly like one that is not there."""

import logging
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from derwin_db.errors import (
    ConfigurationError,
    DatabaseTimeout,
    DatabaseUnavailable,
    DerwinError,
    InvalidCursor,
    InvalidInput,
    NotFound,
)
from derwin_db.studio.rendering import render

logger: logging.Logger = logging.getLogger("derwin_db.studio")

_STATUSES: dict[type[DerwinError], int] = {
    DerwinError: 500,
    InvalidInput: 422,
    InvalidCursor: 400,
    NotFound: 404,
    DatabaseUnavailable: 503,
    DatabaseTimeout: 504,
    ConfigurationError: 503,
}
_TITLES = {
    400: "This page has moved on",
    404: "Not found",
    405: "The studio only reads",
    422: "That can't be asked",
    503: "The database does not answer",
    504: "The database took too long",
}
_INTERNAL = "The studio failed. The error is in its log."


def _of_the_database(request: Request, error: Exception) -> Response:
    assert isinstance(error, DerwinError)
    status = next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
    if status == 500:
        logger.error("%s: %s", type(error).__name__, error.message)
        return _page(request, status, _INTERNAL)
    return _page(request, status, error.message if status < 500 else error.default)


def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _page(request, error.status_code, "There is no such page.", error.headers)


def _of_ours(request: Request, _: Exception) -> Response:
    return _page(request, 500, _INTERNAL)


def _page(request: Request, status: int, message: str, headers: Any = None) -> Response:
    title = _TITLES.get(status, "Something went wrong")
    response = render(request, "failure.html", status_code=status, title=title, message=message)
    response.headers.update(headers or {})
    return response


HANDLERS: dict[Any, Callable[[Request, Exception], Response]] = {
    DerwinError: _of_the_database,
    HTTPException: _of_http,
    Exception: _of_ours,
}
"""By the class of the error. What is no error of ours is also raised again, so that the server logs it."""
