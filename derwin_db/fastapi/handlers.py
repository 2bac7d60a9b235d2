"""`install_error_handlers`: one form for every error of a service."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.exception_handlers import (
    http_exception_handler,
    request_validation_exception_handler,
    websocket_request_validation_exception_handler,
)
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.utils import is_body_allowed_for_status_code
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocketState

from derwin_db.errors import ConfigurationError, DerwinError, InvalidStatement, ScopeError
from derwin_db.fastapi.body_limit import install_body_limit
from derwin_db.fastapi.openapi import describe_problems
from derwin_db.fastapi.problem import INTERNAL, problem, problem_of, status_of
from derwin_db.fastapi.validation import refusal

logger: logging.Logger = logging.getLogger("derwin_db.fastapi")

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
}
_POLICY_VIOLATION, _INTERNAL_ERROR = 1008, 1011
"""Close codes of a web socket. Source: RFC 6455, section 7.4.1."""


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of the app with application/problem+json, and say so in its OpenAPI description.

    `DerwinError`s by their statuses, with Retry-After on 503; refused requests by fields and rules, without what was sent;
    `HTTPException`s in the same form, and a body larger than the app's `max_body_size`; anything else as a 500 without a text
    (and the server logs it, as ever). Handlers that the app has put in place itself stay.
    """
    handlers: dict[Any, Any] = app.exception_handlers  # Starlette's type leaves out those of web sockets
    handlers.setdefault(DerwinError, _derwin_error)
    handlers.setdefault(Exception, _unknown_error)
    for kind, (fastapis, ours) in _IN_ITS_PLACE.items():
        if handlers.get(kind) is fastapis:
            handlers[kind] = ours
    install_body_limit(app)
    describe_problems(app)


async def _derwin_error(connection: Request | WebSocket, error: Any) -> Response | None:
    status = status_of(error)
    if isinstance(error, ScopeError | InvalidStatement | ConfigurationError):
        logger.error("%s: %s", error.code, error.message, exc_info=error)
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.warning("%s: %s", error.code, error.message)
    if isinstance(connection, WebSocket):
        is_ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        if WebSocketState.DISCONNECTED not in (connection.application_state, connection.client_state):
            await connection.close(_INTERNAL_ERROR if is_ours else _POLICY_VIOLATION, reason=error.code)
        return None
    return problem_of(error)


async def _request_validation_error(_: Request, error: Any) -> Response:
    return refusal(error.errors())


async def _web_socket_validation_error(socket: WebSocket, _: Any) -> None:
    await socket.close(_POLICY_VIOLATION, reason="invalid_input")


async def _http_exception(_: Request, error: Any) -> Response:
    if not is_body_allowed_for_status_code(error.status_code):
        return Response(status_code=error.status_code, headers=error.headers)
    code = _CODES.get(error.status_code, f"http_{error.status_code}")
    return problem(error.status_code, code, error.detail, is_plain=True, headers=error.headers)


async def _unknown_error(_: Request, __: Exception) -> Response:
    return problem(500, "internal_error", INTERNAL, is_plain=True)


_IN_ITS_PLACE: dict[type[Exception], tuple[Any, Any]] = {
    HTTPException: (http_exception_handler, _http_exception),
    RequestValidationError: (request_validation_exception_handler, _request_validation_error),
    WebSocketRequestValidationError: (websocket_request_validation_exception_handler, _web_socket_validation_error),
}
"""By error, FastAPI's own handler and the one that takes its place."""
