"""A pooler in transaction mode, small enough to read: any number of clients take turns on one server connection.

It forwards the messages of PostgreSQL's protocol (version 3.0). A client has the server from its first message until the
server says that it is idle outside of a transaction; the next one waits. Like real poolers it tells clients a backend pid of
its own making, resets nothing between them, and ends the server connection when a client leaves inside a transaction.
"""

import asyncio
import contextlib
import os
import socket
import struct
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg

from derwin_db.settings import ConnectionInfo

_SSL_REQUEST, _CANCEL_REQUEST = 80877103, 80877102
_IDLE = b"I"


class Pooler:
    """One server connection, lent to one client at a time."""

    def __init__(self, server: ConnectionInfo) -> None:
        self._info = server
        self._turn = asyncio.Lock()
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._opened: Any = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.turns = 0
        """How often the server was lent."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            if await self._greet(reader, writer):
                await self._take_turns(reader, writer)
        writer.close()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._end_server()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer the start of a client as a server does that asks for no password. False for a cancel request."""
        while True:
            length, code = struct.unpack("!ii", await reader.readexactly(8))
            await reader.readexactly(length - 8)
            if code == _CANCEL_REQUEST:
                return False
            if code != _SSL_REQUEST:
                break
            writer.write(b"N")
        settings = {"server_version": "18.0", "client_encoding": "UTF8", "server_encoding": "UTF8",
                    "standard_conforming_strings": "on", "integer_datetimes": "on", "TimeZone": "UTC"}  # fmt: skip
        writer.write(_message(b"R", struct.pack("!i", 0)))
        for name, value in settings.items():
            writer.write(_message(b"S", name.encode() + b"\0" + value.encode() + b"\0"))
        writer.write(_message(b"K", os.urandom(8)) + _message(b"Z", _IDLE))
        await writer.drain()
        return True

    async def _take_turns(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        coming = asyncio.ensure_future(_read(reader))
        try:
            while (await coming)[0] != b"X":
                async with self._turn:
                    self.turns += 1
                    try:
                        coming = await self._one_transaction(coming, reader, writer)
                    except BaseException:
                        self._end_server()  # the client left inside a transaction
                        raise
        finally:
            coming.cancel()

    async def _one_transaction(
        self, coming: "asyncio.Future[Any]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> "asyncio.Future[Any]":
        """Forward until the server is idle and has answered everything. Returns the client's next message, to come."""
        from_server, to_server = await self._connected()
        answer = asyncio.ensure_future(_read(from_server))
        unanswered = 0
        try:
            while True:
                await asyncio.wait({coming, answer}, return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    kind, message = coming.result()
                    if kind == b"X":
                        raise ConnectionError
                    unanswered += kind in (b"Q", b"S")
                    to_server.write(message)
                    coming = asyncio.ensure_future(_read(reader))
                if answer.done():
                    kind, message = answer.result()
                    writer.write(message)
                    unanswered -= kind == b"Z"
                    if kind == b"Z" and not unanswered and message[-1:] == _IDLE:
                        await writer.drain()
                        return coming
                    answer = asyncio.ensure_future(_read(from_server))
        finally:
            answer.cancel()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Let the driver log in, whatever the server asks for, and take its socket over."""
        if self._server is None:
            self._opened = await asyncpg.connect(**{**self._info.connect_arguments(), "ssl": False}, statement_cache_size=0)
            self._opened._transport.pause_reading()
            taken = socket.socket(fileno=os.dup(self._opened._transport.get_extra_info("socket").fileno()))
            taken.setblocking(False)
            self._server = await asyncio.open_connection(sock=taken)
        return self._server

    def _end_server(self) -> None:
        if self._server is not None:
            self._server[1].close()
            self._opened.terminate()
            self._server = None


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    header = await reader.readexactly(5)
    body = await reader.readexactly(struct.unpack("!i", header[1:])[0] - 4)
    return header[:1], header + body


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


@asynccontextmanager
async def pooled(server: ConnectionInfo) -> AsyncIterator[tuple[Pooler, ConnectionInfo]]:
    """Start a pooler before this login, and yield it with the connection that leads through it."""
    with tempfile.TemporaryDirectory() as folder:
        pooler = Pooler(server)
        listening = await asyncio.start_unix_server(pooler.serve, str(Path(folder) / ".s.PGSQL.5432"))
        try:
            yield pooler, replace(server, host=folder, port=5432, is_pooled=True)
        finally:
            listening.close()
            await pooler.close()
