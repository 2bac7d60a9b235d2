"""A TCP proxy before a server, whose mode can be switched while connections are open.

    pass        hand everything on
    lost_ack    the server gets COMMIT and answers; the answer never arrives, the connection breaks
    lost_req    the connection breaks when COMMIT is sent; the server never gets it
    blackhole   nothing arrives any more, in either direction, and nobody is told; what came meanwhile arrives in the next mode
    refuse      a new connection is reset at once
    delay       everything arrives `delay` seconds later

`lost_*` break as many commits as `armed` says, then hand everything on.
"""

import asyncio
import contextlib
import socket
import struct
from dataclasses import replace
from typing import Literal, Self

from derwin_db.settings import ConnectionInfo
from derwin_db.testing import TestDatabase

Mode = Literal["pass", "lost_ack", "lost_req", "blackhole", "refuse", "delay"]

_COMMIT = b"COMMIT\0"


class Proxy:
    """Listens on 127.0.0.1 and hands on to a Unix socket, or to a host and port. `async with Proxy(path) as proxy`."""

    def __init__(self, target: str | tuple[str, int]) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.mode: Mode = "pass"
        self.delay = 0.0
        self.armed = 1_000_000_000
        self.broken = 0
        self.accepted = 0
        self._commit_came = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.break_all()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def before(self, connection: ConnectionInfo) -> ConnectionInfo:
        """Return the connection, through this proxy."""
        return replace(connection, host="127.0.0.1", port=self.port, sslmode="disable")

    def before_all(self, database: TestDatabase) -> TestDatabase:
        """Return the database, with the service's login through this proxy and the others past it."""
        return replace(database, service=self.before(database.service))

    def break_all(self) -> None:
        """Reset all connections."""
        for writer in list(self._writers):
            _reset(writer)

    def next_commit(self) -> asyncio.Event:
        """Return an event that is set when the next COMMIT has reached this proxy, whatever becomes of it."""
        self._commit_came = asyncio.Event()
        return self._commit_came

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, str):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(*self._target)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.mode == "refuse":
            _reset(writer)
            return
        try:
            up_reader, up_writer = await self._connect()
        except OSError:
            _reset(writer)
            return
        pair = {writer, up_writer}
        self._writers |= pair
        down = asyncio.create_task(self._pump(up_reader, writer, up_writer, to_server=False))
        up = asyncio.create_task(self._pump(reader, up_writer, writer, to_server=True))
        for pump in (down, up):
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)
        await asyncio.wait({down, up})
        self._writers -= pair

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter, *, to_server: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if to_server and data.endswith(_COMMIT):
                    self._commit_came.set()
                if to_server and self.mode in {"lost_ack", "lost_req"} and data.endswith(_COMMIT) and self.armed > 0:
                    await self._break(data, writer, back)
                    return
                if self.mode == "delay":
                    await asyncio.sleep(self.delay)
                while self.mode == "blackhole":  # arrives late, or never
                    await asyncio.sleep(0.02)
                if writer.is_closing():  # uvloop's would raise
                    return
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _break(self, data: bytes, server: asyncio.StreamWriter, client: asyncio.StreamWriter) -> None:
        self.armed -= 1
        self.broken += 1
        if self.mode == "lost_ack":
            answered = asyncio.Event()
            client.write = lambda _: answered.set()  # type: ignore[method-assign]  # nothing more reaches the client
            server.write(data)
            await asyncio.wait_for(answered.wait(), 5)
        _reset(client)
        server.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST rather than FIN."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
