"""FastAPI's `max_body_size` answers in plain text, behind the error handlers' back: here it is a problem like all others."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI

from derwin_db.errors import TooLarge
from derwin_db.fastapi.problem import problem

_Message = MutableMapping[str, Any]
_Send = Callable[[_Message], Awaitable[None]]
_Receive = Callable[[], Awaitable[_Message]]
_STATUS = 413
_PLAIN = {b"content-type": b"text/plain; charset=utf-8", b"content-length": str(len(b"Content Too Large")).encode()}
"""The headers of that answer. Source: starlette.middleware.body_limit."""


def install_body_limit(app: FastAPI) -> None:
    """Have the app answer with a problem to a body that is larger than its `max_body_size`."""
    build = app.build_middleware_stack
    app.build_middleware_stack = lambda: BodyLimitAsProblem(build())  # type: ignore[method-assign]


class BodyLimitAsProblem:
    """Sends a problem in the place of the answer to a body that is larger than `max_body_size`."""

    def __init__(self, app: Callable[[Any, _Receive, _Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        """Serve one connection."""
        is_replaced = False

        async def send_or_replace(message: _Message) -> None:
            nonlocal is_replaced
            if message["type"] == "http.response.start" and message["status"] == _STATUS:
                is_replaced = dict(message["headers"]).items() >= _PLAIN.items()
                if is_replaced:
                    await problem(_STATUS, TooLarge.code, "The body of the request is too large.")(scope, receive, send)
            if not is_replaced:
                await send(message)

        await self._app(scope, receive, send_or_replace if scope["type"] == "http" else send)
