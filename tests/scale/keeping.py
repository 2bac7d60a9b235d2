"""A transaction pooler that keeps prepared statements, as PgBouncer does from 1.22 on where `max_prepared_statements` is set.

It has one server connection, which clients have by turns, a transaction each. What a client prepares by name has a name of
the pooler's on the server, and is prepared there anew where it went. `forgets` makes one that loses count of that after
DEALLOCATE ALL, as PgBouncer 1.21 does.
"""

import asyncio
import contextlib
import struct
from collections import deque
from typing import Self

_CANCEL = 80877102
_ASKS = (3, 5, 10, 11)
"""Requests of the server for something that proves who the client is."""

_STARTUP = struct.Struct("!II")


class KeepingPooler:
    """One of them, on a port of its own, before the server at this address."""

    def __init__(self, host: str, port: int, *, forgets: bool = False) -> None:
        self.port = 0
        self.prepared = 0
        """How many statements the server was asked to prepare."""
        self.known: set[bytes] = set()
        """The names of those that it has."""
        self.turn = asyncio.Lock()
        self._server_at = (host, port)
        self.forgets = forgets
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._greeting = b""
        self._numbers: dict[bytes, int] = {}
        self._listening: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listening is not None
        self._listening.close()
        self.drop_server()

    def drop_server(self) -> None:
        if self._server is not None:
            self._server[1].close()
        self._server = None
        self.known.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            size, code = _STARTUP.unpack(await reader.readexactly(_STARTUP.size))
            startup = _STARTUP.pack(size, code) + await reader.readexactly(size - _STARTUP.size)
            if code == _CANCEL:  # every client was told the key of the one server connection
                asked, asking = await self._connect()
                asking.write(startup)
                await asked.read()  # the server says nothing, and hangs up
                asking.close()
            else:
                await _Client(self, reader, writer).serve(startup)
        writer.close()

    async def log_in(self, startup: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Greet a client. The first one logs in on the connection to the server, and the others are told what it was."""
        if self._server is not None:
            writer.write(framed(b"R", struct.pack("!I", 0)) + self._greeting)
            return
        server = await self._connect()
        server[1].write(startup)
        kind, self._greeting = b"", b""
        while kind != b"Z":
            kind, body = await message(server[0])
            self._greeting += framed(kind, body) if kind in b"SKZ" else b""
            writer.write(framed(kind, body))
            if kind == b"R" and struct.unpack("!I", body[:4])[0] in _ASKS:
                server[1].write(framed(*await message(reader)))
        self._server = server

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._server_at
        path = f"{host}/.s.PGSQL.{port}"
        return await (asyncio.open_unix_connection(path) if host.startswith("/") else asyncio.open_connection(host, port))

    def server(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the connection to the server."""
        if self._server is None:
            raise ConnectionError
        return self._server

    def name_of(self, parse: bytes) -> bytes:
        """Return the pooler's name of a statement: the same for the same text."""
        return b"KEPT_%d" % self._numbers.setdefault(parse, len(self._numbers))


class _Client:
    """One client: what it prepared, and by which names."""

    def __init__(self, pooler: KeepingPooler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._pooler = pooler
        self._reader = reader
        self._writer = writer
        self._named: dict[bytes, bytes] = {}
        self._answers: deque[bool] = deque()
        """Of each statement that the server was asked to prepare, whether the client asked for that itself."""

    async def serve(self, startup: bytes) -> None:
        async with self._pooler.turn:
            await self._pooler.log_in(startup, self._reader, self._writer)
        while True:
            first = await message(self._reader)
            if first[0] == b"X":
                return
            async with self._pooler.turn:
                await self._transaction(first)

    async def _transaction(self, first: tuple[bytes, bytes]) -> None:
        """Have the server's connection until no transaction is open on it."""
        server = self._pooler.server()
        try:
            kind, body = first
            while kind != b"X":
                if kind in b"SQH":
                    server[1].write(framed(*((b"S", b"") if kind == b"H" else (kind, body))))
                    state = await self._answer(server[0], is_flushed=kind == b"H")
                    if kind != b"H" and state == b"I":
                        return
                else:
                    self._forward(server[1], kind, body)
                kind, body = await message(self._reader)
            raise ConnectionError
        except BaseException:
            self._pooler.drop_server()
            raise

    def _forward(self, server: asyncio.StreamWriter, kind: bytes, body: bytes) -> None:
        """Send it on, by the pooler's name of a statement in place of the client's. What has no name goes as it came."""
        at = _at_name(kind, body)
        if at is None or body[at : at + 1] == b"\0":
            self._answers.extend([True] if kind == b"P" else [])
            server.write(framed(kind, body))
            return
        name, rest = body[at:].split(b"\0", 1)
        if kind == b"P":
            self._named[name] = rest
            self._prepare(server, rest, is_asked=True)
        elif kind == b"C":  # on the server it stays, for others; something that is not there is closed
            self._named.pop(name, None)
            server.write(framed(kind, b"Snothing\0"))
        else:
            self._prepare(server, self._named[name], is_asked=False)
            server.write(framed(kind, body[:at] + self._pooler.name_of(self._named[name]) + b"\0" + rest))

    def _prepare(self, server: asyncio.StreamWriter, parse: bytes, *, is_asked: bool) -> None:
        """Have the server prepare it, unless it has. To prepare comes first in what a driver sends, and so does its answer."""
        name = self._pooler.name_of(parse)
        if name in self._pooler.known:
            if is_asked:
                self._writer.write(framed(b"1", b""))
            return
        self._pooler.known.add(name)
        self._pooler.prepared += 1
        self._answers.append(is_asked)
        server.write(framed(b"P", name + b"\0" + parse))

    async def _answer(self, server: asyncio.StreamReader, *, is_flushed: bool) -> bytes:
        """Hand the server's answers on up to the end of this message, and return how the transaction stands.

        What is flushed is synchronized here, so that it has an end; the client is not told of that.
        """
        while True:
            kind, body = await message(server)
            if kind == b"1" and not self._answers.popleft():
                continue
            if kind == b"C" and body in (b"DEALLOCATE ALL\0", b"DISCARD ALL\0") and not self._pooler.forgets:
                self._pooler.known.clear()
                self._named.clear()
            if not (is_flushed and kind == b"Z"):
                self._writer.write(framed(kind, body))
            if kind == b"Z":
                self._answers.clear()  # after an error, what followed was skipped
                return body


def _at_name(kind: bytes, body: bytes) -> int | None:
    """Return where a statement's name stands in the message; None where it names none."""
    if kind == b"P":
        return 0
    if kind == b"B":
        return body.index(b"\0") + 1
    return 1 if kind in b"DC" and body[:1] == b"S" else None


async def message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read one message of the protocol."""
    kind, size = struct.unpack("!cI", await reader.readexactly(5))
    return kind, await reader.readexactly(size - 4)


def framed(kind: bytes, body: bytes) -> bytes:
    """Return the message as it travels."""
    return kind + struct.pack("!I", len(body) + 4) + body
