"""The door: what every request passes before a page sees it, and the headers that every answer carries.

The token is the first segment of every path. A cookie would do as well for one server, but is sent to all ports of this
machine; a path is not, and `Referrer-Policy: no-referrer` keeps it from what a page links to.
"""

import ipaddress
import secrets
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_BYTES = 32
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_METHODS = ("GET", "HEAD")
_CLOSED = "Nothing here. Open the address that `derwin-db studio` printed."

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""No script runs at all, and no other site shows, embeds or is told of a page."""


def new_token() -> str:
    """Return a token that can't be guessed."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Door:
    """Lets in who names this server as its `Host`, knows the token, and only reads.

    A site that points its own name at this address (DNS rebinding) is refused by the name: it is none of `hosts`. Where the
    server listens beyond loopback, any IP address is one of its names as well: no other site can have an address for a name.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: Collection[str] = LOOPBACK, takes_addresses: bool = False) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = frozenset(host.lower() for host in hosts)
        self._takes_addresses = takes_addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, _with_headers(send))
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        first = scope["path"].split("/", 2)[1] if scope["path"].startswith("/") else ""
        app: ASGIApp = self._app
        if not self._is_ours(Headers(scope=scope).getlist("host")):
            app = PlainTextResponse("This server does not go by that name.", 403)
        elif not secrets.compare_digest(first.encode("utf-8", "surrogatepass"), self._token):
            app = PlainTextResponse(_CLOSED, 404)
        elif scope["method"] not in _METHODS:
            app = PlainTextResponse("The studio only reads.", 405, headers={"Allow": ", ".join(_METHODS)})
        await app({**scope, "root_path": f"/{first}"}, receive, send)

    def _is_ours(self, names: list[str]) -> bool:
        if len(names) != 1:
            return False
        name = _without_port(names[0]).lower()
        return name in self._hosts or (self._takes_addresses and _is_address(name))


def _without_port(name: str) -> str:
    """Return the host of a `Host` header, an IPv6 address without its brackets."""
    if name.startswith("["):
        address, bracket, port = name[1:].partition("]")
        return address if bracket and (not port or port.startswith(":")) else ""
    return name.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
        await send(message)

    return wrapped
