"""TLS: verified in full off this machine, and a connection that can't be is refused with one sentence.

The server listens on the loopback; its name, which is none of this machine, is resolved to it for these tests alone.
"""

import asyncio
import contextlib
import os
import random
import ssl
import struct
from dataclasses import replace

import pytest

from derwin_db import Database, repos
from derwin_db.errors import ConfigurationError, DatabaseUnavailable, ProjectNotFound
from derwin_db.settings import ConnectionInfo, Settings
from tests.faults.certificates import HOST, Authority
from tests.faults.load import raised
from tests.faults.victim import Victim


class Door:
    """A server's TLS, spoken by this process: the embedded server is built without. Hands on to the server's socket."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.context: ssl.SSLContext | None = None
        self.encrypted = self.plain = 0
        self.seen: set[str] = set()
        """The names on the certificates that clients have shown."""
        self._open: set[asyncio.StreamWriter] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(8)
        if first == struct.pack("!ll", 8, 80877103):
            writer.write(b"S")
            await writer.drain()
            try:
                await writer.start_tls(self.context)
            except (OSError, ssl.SSLError):
                writer.transport.abort()
                return
            self.encrypted += 1
            shown = writer.get_extra_info("peercert") or {}
            self.seen |= {value for part in shown.get("subject", ()) for name, value in part if name == "commonName"}
            first = b""
        else:
            self.plain += 1
        up_reader, up_writer = await asyncio.open_unix_connection(self._target)
        up_writer.write(first)
        self._open |= {writer, up_writer}
        await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))
        self._open -= {writer, up_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def shut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def door(victim: Victim, authority: Authority):
    """A server that shows a good certificate, until a test changes that."""
    made = Door(victim.socket)
    made.context = authority.issue()
    async with await asyncio.start_server(made.accept, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made
        made.shut()


@pytest.fixture(autouse=True)
async def resolver(monkeypatch):
    """Resolves the server's name to this machine."""
    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def create_connection(protocol, host, *arguments, **options):
        return await connect(protocol, "127.0.0.1" if host == HOST else host, *arguments, **options)

    monkeypatch.setattr(loop, "create_connection", create_connection)


@pytest.fixture
def connect(make_db, database, door: Door):
    """Makes a `Database` whose service's login goes over TCP, with these parameters in its URL."""

    def make(parameters: str = "", *, host: str = HOST, port: int | None = None) -> Database:
        service = replace(database.service, host=host, port=port or door.port)
        return make_db(replace(database, service=service), parameters=parameters)

    return make


async def is_encrypted(db: Database, door: Door) -> bool:
    """Tell whether the service's connection is, as the server sees it."""
    door.encrypted = door.plain = 0
    await db.close()
    await db.start()
    assert bool(door.encrypted) != bool(door.plain)
    return bool(door.encrypted)


async def refusal(db: Database) -> str:
    """The sentence with which the start is refused."""
    error = await raised(db.start())
    assert type(error) is ConfigurationError, error
    assert "\n" not in error.message
    return error.message


class TestTheRightServer:
    async def test_is_served_encrypted(self, connect, door: Door, authority: Authority):
        db = connect(f"sslrootcert={authority.file}")
        assert await is_encrypted(db, door)
        assert type(await raised(count(db))) is ProjectNotFound

    @pytest.mark.parametrize("mode", ["verify-full", "verify-ca", "require"])
    async def test_in_every_mode_that_asks_for_it(self, connect, door: Door, authority: Authority, mode):
        assert await is_encrypted(connect(f"sslmode={mode}&sslrootcert={authority.file}"), door)


async def count(db: Database) -> int:
    async with db.project("nobody") as session:
        return await repos.qa_tickets.count(session)


class TestClientCertificate:
    """The server asks who is there, as PostgreSQL does with the method `cert`."""

    @pytest.fixture
    def asking(self, door: Door, authority: Authority) -> Door:
        context = authority.issue()
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.file)
        door.context = context
        return door

    async def test_is_shown_by_the_url(self, connect, asking: Door, authority: Authority):
        certificate, key = authority.issue_to("derwin_service")
        db = connect(f"sslrootcert={authority.file}&sslcert={certificate}&sslkey={key}")
        assert await is_encrypted(db, asking)
        assert asking.seen == {"derwin_service"}
        assert type(await raised(count(db))) is ProjectNotFound

    async def test_is_shown_by_the_settings_key_and_certificate_in_one_file(
        self, connect, asking: Door, authority: Authority, monkeypatch, tmp_path
    ):
        both = tmp_path / "both.pem"
        both.write_bytes(b"".join(path.read_bytes() for path in authority.issue_to("both")))
        info = ConnectionInfo.parse(f"postgresql://u@{HOST}/d").completed(Settings(sslrootcert=authority.file, sslcert=both))
        assert (info.sslcert, info.sslkey, info.sslrootcert) == (str(both), None, str(authority.file))
        assert await is_encrypted(connect(f"sslrootcert={authority.file}&sslcert={both}"), asking)
        assert asking.seen == {"both"}

    async def test_that_was_renewed_is_read_again(self, connect, asking: Door, authority: Authority):
        certificate, key = authority.issue_to("first")
        db = connect(f"sslrootcert={authority.file}&sslcert={certificate}&sslkey={key}")
        await db.start()
        for path, renewed in zip((certificate, key), authority.issue_to("second"), strict=True):
            path.write_bytes(renewed.read_bytes())
            os.utime(path, (1, 1))  # another time than before, whatever the clock's grain
        assert await is_encrypted(db, asking)
        assert asking.seen == {"first", "second"}

    async def test_missing_or_unreadable_is_one_sentence(self, connect, asking: Door, authority: Authority):
        certificate, key = authority.issue_to("derwin_service")
        error = await raised(connect(f"sslrootcert={authority.file}").start())
        assert isinstance(error, DatabaseUnavailable | ConfigurationError)
        other = authority.issue_to("other")[1]
        said = await refusal(connect(f"sslrootcert={authority.file}&sslcert={certificate}&sslkey={other}"))
        assert "belong together" in said
        key.write_text("canary-7f3a9c")
        assert "canary" not in await refusal(connect(f"sslrootcert={authority.file}&sslcert={certificate}&sslkey={key}"))

    @pytest.mark.parametrize(
        ("query", "said"),
        [
            ("sslkey={0}", "an sslkey without its sslcert"),
            ("sslcert={0}&sslmode=prefer", "sslcert goes with sslmode=require"),
            ("sslcert={0}.none", "a file as sslcert that is not on this machine"),
        ],
    )
    def test_what_can_not_be_is_refused(self, authority: Authority, query, said):
        with pytest.raises(ConfigurationError, match=said):
            ConnectionInfo.parse(f"postgresql://u@h/d?{query.format(authority.file)}")


class TestTheWrongServer:
    async def test_an_authority_that_nobody_knows(self, connect):
        assert "certificate" in await refusal(connect())

    async def test_a_certificate_that_signs_itself(self, connect, door: Door, authority: Authority):
        door.context = authority.self_signed()
        assert "certificate" in await refusal(connect(f"sslrootcert={authority.file}"))
        assert "certificate" in await refusal(connect(f"sslmode=require&sslrootcert={authority.file}"))

    async def test_a_certificate_of_another_host(self, connect, door: Door, authority: Authority):
        door.context = authority.issue(host="other.example.test")
        assert "for this host" in await refusal(connect(f"sslrootcert={authority.file}"))
        assert await is_encrypted(connect(f"sslmode=verify-ca&sslrootcert={authority.file}"), door)

    async def test_a_certificate_that_has_expired(self, connect, door: Door, authority: Authority):
        door.context = authority.issue(days=-1)
        for mode in ("verify-full", "verify-ca", "require"):
            assert "certificate" in await refusal(connect(f"sslmode={mode}&sslrootcert={authority.file}"))

    async def test_without_an_authority_require_encrypts_alone(self, connect, door: Door, authority: Authority):
        door.context = authority.self_signed()
        assert await is_encrypted(connect("sslmode=require"), door)


class TestDowngrade:
    @pytest.fixture
    async def plain(self):
        """Somebody in the middle who says that the server has no TLS."""

        async def answer(reader, writer):
            await reader.read(8)
            writer.write(b"N")
            await writer.drain()
            await reader.read()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]

    @pytest.mark.parametrize("parameters", ["", "sslmode=verify-full", "sslmode=verify-ca", "sslmode=require"])
    async def test_a_server_without_tls_is_refused(self, connect, plain, parameters):
        assert "no TLS" in await refusal(connect(parameters, port=plain))

    async def test_one_that_talks_before_tls_is_refused(self, connect):
        async def answer(reader, writer):
            await reader.read(8)
            writer.write(b"ESFATAL\0C28000\0Mcanary-7f3a9c\0\0")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            error = await raised(connect(port=server.sockets[0].getsockname()[1]).start())
        assert type(error) in {ConfigurationError, DatabaseUnavailable}

    async def test_one_that_breaks_off_is_unavailable(self, connect):
        async def answer(reader, writer):
            await reader.read(8)
            writer.write(b"S")
            await writer.drain()
            await reader.read(64)
            writer.transport.abort()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            error = await raised(connect("sslmode=require", port=server.sockets[0].getsockname()[1]).start())
        assert type(error) is DatabaseUnavailable

    async def test_on_purpose_it_goes_without(self, connect, door: Door):
        assert not await is_encrypted(connect("sslmode=disable"), door)

    async def test_this_machine_may(self, connect, door: Door, authority: Authority):
        door.context = authority.self_signed()
        assert await is_encrypted(connect(host="127.0.0.1"), door)  # preferred where it is to be had


class TestAUnitOverTls:
    async def test_is_cancelled_and_ended_like_any_other(self, connect, door: Door, authority: Authority):
        db = connect(f"sslrootcert={authority.file}")
        await db.start()
        for _ in range(10):
            task = asyncio.create_task(count(db))
            await asyncio.sleep(random.uniform(0, 0.01))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert type(await raised(count(db))) is ProjectNotFound
        assert not door.plain


def test_the_place_is_named_and_the_password_is_not():
    info = ConnectionInfo.parse(f"postgresql://app:canary-7f3a9c@{HOST}/qa")
    assert info.place == f"database 'qa' on {HOST}:5432"
