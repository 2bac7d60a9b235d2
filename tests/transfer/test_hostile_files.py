"""An import is whole or nothing, whoever ends it and when; a file of anybody's making takes no memory, books or log line."""

import asyncio
import errno
import io
import json
import logging
import os
import resource
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import zstandard

from derwin_db import Database, repos
from derwin_db.connection.driver import connect
from derwin_db.errors import (
    APPEND_ONLY_TABLES,
    ConfigurationError,
    Conflict,
    DerwinError,
    InvalidInput,
    ProjectNotFound,
    StorageFull,
    TooLarge,
)
from derwin_db.fields.scalars import project_id_of
from derwin_db.models import ProjectCreate, ProjectType
from derwin_db.observe.events import Observer, UnitObserver
from derwin_db.testing import TestDatabase, TestServer
from derwin_db.transfer import export_project, import_project
from derwin_db.transfer.lines import TABLES
from tests.forking import program
from tests.isolation.fences import make_plain
from tests.repos.rows import a_charge, a_profile, a_run, a_ticket, an_artifact
from tests.transfer.files import erase, exists, lines_of, packed

SLUG, REFUSED = "moving", "refused"
TICKETS = 1200

CHILD = """
import asyncio, os, pathlib, signal, sys
from derwin_db import Database
from derwin_db.transfer import import_project

def kill(table, done, total):
    if table == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    url, admin, direct = sys.argv[2].split("|")
    async with Database(url, admin_url=admin, direct_url=direct) as db:
        with pathlib.Path(sys.argv[1]).open("rb") as file:
            await import_project(db, file, progress=kill)

asyncio.run(main())
"""

MEASURED = """
import asyncio, io, pathlib, resource, sys
from derwin_db import Database
from derwin_db.errors import DerwinError
from derwin_db.settings import Settings
from derwin_db.transfer import import_project

async def main():
    url, admin, direct = sys.argv[2].split("|")
    settings = Settings(import_memory_mib=int(sys.argv[3]))
    async with Database(url, admin_url=admin, direct_url=direct, settings=settings) as db:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            with pathlib.Path(sys.argv[1]).open("rb") as file:
                await import_project(db, file)
            said = "imported"
        except DerwinError as error:
            said = error.code
        print(said, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)

asyncio.run(main())
"""


def urls_of(database: TestDatabase) -> str:
    urls = database.urls
    return "|".join((urls["url"], urls["admin_url"], urls["direct_url"]))


@pytest.fixture(scope="module")
async def stored(server: TestServer) -> tuple[TestDatabase, bytes]:
    """A database that a project is gone from, its ledger excepted, and the project's file."""
    database = await asyncio.to_thread(server.migrated)
    sink = io.BytesIO()
    async with Database(**database.urls) as db:
        async with db.admin(reason="a test") as admin:
            await repos.projects.create(admin, ProjectCreate(slug=SLUG, name="Moving", type=ProjectType.CRM))
        async with db.project(SLUG) as session:
            await repos.project_profiles.create(session, a_profile(), actor="ada", reason="a test")
            first = await repos.qa_tickets.create(session, a_ticket())
            await repos.qa_tickets.create_many(session, [a_ticket(title=f"ticket {n}") for n in range(TICKETS - 2)])
            last = await repos.qa_tickets.create(session, a_ticket())
            await repos.qa_tickets.mark_duplicate(session, first.id, of=last.id)
            await repos.audit_artifacts.record(session, an_artifact())
            await repos.spend_ledger.append(session, a_charge())
            await repos.qa_runs.enqueue(session, a_run())
            await repos.qa_runs.claim(session, "a worker")
        await export_project(db, SLUG, sink)
        await erase(db, SLUG)
    return database, sink.getvalue()


@pytest.fixture
async def own_database(server: TestServer, stored: tuple[TestDatabase, bytes]) -> AsyncIterator[TestDatabase]:
    """A copy of that database for one test."""
    database = await asyncio.to_thread(server.clone, stored[0])
    yield database
    await asyncio.to_thread(server.drop, database)


@pytest.fixture
async def exported(stored: tuple[TestDatabase, bytes]) -> bytes:
    """The file of the project."""
    return stored[1]


@pytest.fixture(scope="module")
async def begin(db: Database) -> list[Any]:
    """The first two lines of a file: the head, and the project, which is gone from a database that nobody imports into."""
    async with db.admin(reason="a test") as admin:
        await repos.projects.create(admin, ProjectCreate(slug=REFUSED, name="Moving", type=ProjectType.CRM))
    sink = io.BytesIO()
    await export_project(db, REFUSED, sink)
    await erase(db, REFUSED)
    return lines_of(sink.getvalue())[:2]


class Interrupted(Exception):
    """What a progress callback raises."""


def at(table: str, act: Callable[[], object]) -> Callable[[str, int, int], None]:
    """A progress callback that acts at the first rows of a table."""
    done: list[str] = []

    def progress(name: str, _done: int, _total: int) -> None:
        if name == table and not done:
            done.append(name)
            act()

    return progress


def in_a_thread(work: Callable[[], Any]) -> Any:
    """Do something with the database while the import's own event loop waits."""
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(asyncio.run(work())))
    thread.start()
    thread.join()
    return result[0]


class TestWholeOrNothing:
    @pytest.mark.parametrize("table", ["qa_tickets", "spend_ledger"])
    async def test_killed(
        self, own_db: Database, own_database: TestDatabase, exported: bytes, tmp_path: Path, table: str
    ) -> None:
        (tmp_path / "file").write_bytes(exported)
        killed = await asyncio.to_thread(
            program, CHILD, str(tmp_path / "file"), urls_of(own_database), table, environment=os.environ
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not await exists(own_db, SLUG)
        assert (await import_project(own_db, io.BytesIO(exported))).rows["qa_tickets"] == TICKETS

    @pytest.mark.parametrize("table", ["qa_tickets", "spend_ledger"])
    async def test_its_connection_ended(
        self, own_db: Database, own_database: TestDatabase, exported: bytes, table: str
    ) -> None:
        async def end() -> None:
            connection = await connect(own_database.owner)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND usename = current_user AND datname = current_database()"
            )
            await connection.close()

        with pytest.raises(DerwinError):
            await import_project(own_db, io.BytesIO(exported), progress=at(table, lambda: in_a_thread(end)))
        assert not await exists(own_db, SLUG)
        assert (await import_project(own_db, io.BytesIO(exported))).ledger_kept == 1

    async def test_an_error_of_the_caller(self, own_db: Database, exported: bytes) -> None:
        def fail() -> None:
            raise Interrupted

        with pytest.raises(Interrupted):
            await import_project(own_db, io.BytesIO(exported), progress=at("spend_ledger", fail))
        assert not await exists(own_db, SLUG)

    async def test_nobody_sees_the_project_before_its_end(
        self, own_db: Database, own_database: TestDatabase, exported: bytes
    ) -> None:
        seen: list[object] = []

        async def look() -> list[object]:
            async with Database(**own_database.urls) as other:
                found: list[object] = [await exists(other, SLUG)]
                try:
                    async with other.project(SLUG) as session:
                        found.append(await repos.qa_tickets.create(session, a_ticket()))
                except ProjectNotFound:
                    found.append("not found")
                return found

        await import_project(own_db, io.BytesIO(exported), progress=at("spend_ledger", lambda: seen.extend(in_a_thread(look))))
        assert seen == [False, "not found"]
        async with own_db.project(SLUG) as session:
            assert await repos.qa_tickets.count(session) == TICKETS

    async def test_the_file_is_looked_at_before_anything_is_written(self, own_db: Database, exported: bytes) -> None:
        began: list[str] = []
        with pytest.raises(InvalidInput):
            await import_project(own_db, io.BytesIO(exported[:-20]), progress=lambda *seen: began.append(seen[0]))
        assert began == []

    async def test_a_file_that_is_changed_between_its_two_readings(self, own_db: Database, exported: bytes) -> None:
        lines = lines_of(exported)
        tickets = [line for line in lines if line.get("table") == "qa_tickets"]
        tickets[3]["row"]["title"] = "another"

        class Changing(io.BytesIO):
            """A file that says something else when it is read again."""

            def seek(self, position: int, whence: int = 0) -> int:
                self.__init__(packed(lines))  # type: ignore[misc]
                return super().seek(position, whence)

        with pytest.raises(InvalidInput, match="changed"):
            await import_project(own_db, Changing(exported))
        assert not await exists(own_db, SLUG)

    async def test_a_file_is_read_from_where_it_stands(self, own_db: Database, exported: bytes) -> None:
        source = io.BytesIO(b"before" + exported)
        source.seek(len(b"before"))
        assert (await import_project(own_db, source)).rows["qa_tickets"] == TICKETS

    async def test_a_pipe_is_read_once(self, own_db: Database, exported: bytes) -> None:
        class Pipe:
            """What can only be read."""

            def __init__(self) -> None:
                self._file = io.BytesIO(exported)

            def read(self, size: int = -1) -> bytes:
                return self._file.read(size)

        source: Any = Pipe()
        assert (await import_project(own_db, source)).rows["qa_tickets"] == TICKETS
        again = io.BytesIO()
        await export_project(own_db, SLUG, again)
        assert lines_of(again.getvalue())[1:] == lines_of(exported)[1:]

    async def test_without_room_for_the_copy_of_a_pipe(self, own_db: Database, monkeypatch) -> None:
        def full() -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("tempfile.TemporaryFile", full)
        source: Any = object()
        with pytest.raises(StorageFull, match="Nothing was imported"):
            await import_project(own_db, source)

    async def test_a_source_that_fails_says_what_it_said(self, db: Database) -> None:
        class Broken(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:  # the signature of its base
                raise OSError(errno.EIO, "Input/output error")

        with pytest.raises(OSError, match="Input/output error"):
            await import_project(db, Broken())

    async def test_without_the_owners_login(self, own_database: TestDatabase, own_db: Database, exported: bytes) -> None:
        urls = own_database.urls
        async with Database(urls["url"], admin_url=urls["admin_url"]) as db:
            with pytest.raises(ConfigurationError, match="DIRECT_URL"):
                await import_project(db, io.BytesIO(exported))

    async def test_leaves_one_record_of_the_admin_door(self, own_db: Database, exported: bytes, caplog) -> None:
        entered: list[object] = []

        class Seeing(Observer):
            def entered(self, project_id: UUID | None) -> UnitObserver:
                entered.append(project_id)
                return UnitObserver()

        own_db.observers.append(Seeing())
        with caplog.at_level(logging.INFO, "derwin_db.admin"):
            await import_project(own_db, io.BytesIO(exported))
        assert entered == [project_id_of(SLUG)], "to observers it is a unit of its project"
        (record,) = [record for record in caplog.records if record.name == "derwin_db.admin"]
        assert (record.reason, record.outcome, record.operations) == ("import of moving", "committed", ("import",))


class TestPlainScope:
    async def test_takes_a_project_too(self, own_db: Database, exported: bytes, owner: asyncpg.Connection) -> None:
        """Each of its rows goes in under the policies of its project there as well."""
        await own_db.close()
        await make_plain(owner)
        assert (await import_project(own_db, io.BytesIO(exported))).rows["qa_tickets"] == TICKETS
        async with own_db.project(SLUG) as session:
            assert await repos.qa_tickets.count(session) == TICKETS


class TestTheBooks:
    async def test_another_projects_slug_is_not_booked(self, own_db: Database, exported: bytes) -> None:
        lines = lines_of(exported)
        for line in lines:
            if line.get("table") == "spend_ledger":
                line["row"]["project_slug"] = "victim"
        with pytest.raises(InvalidInput, match="another project"):
            await import_project(own_db, io.BytesIO(packed(lines)))

    @pytest.mark.parametrize(
        ("table", "column"), [*((table, "created_at") for table in APPEND_ONLY_TABLES), ("qa_runs", "heartbeat_at")]
    )
    @pytest.mark.parametrize(("hours", "is_taken"), [(23, True), (25, False)])
    async def test_a_time_to_come_would_count_for_good_or_keep_a_run_for_good(
        self, server: TestServer, exported: bytes, hours: int, is_taken: bool, table: str, column: str
    ) -> None:
        lines = lines_of(exported)
        for line in lines:
            if line.get("table") == table:
                line["row"][column] = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
        elsewhere = await asyncio.to_thread(server.migrated)
        async with Database(**elsewhere.urls) as db:
            with nullcontext() if is_taken else pytest.raises(InvalidInput, match=r"a time to come\. Nothing was imported"):
                await import_project(db, io.BytesIO(packed(lines)))
            assert await exists(db, SLUG) is is_taken
        await asyncio.to_thread(server.drop, elsewhere)

    async def test_a_file_without_the_entries_does_not_take_the_slug(self, own_db: Database, exported: bytes) -> None:
        lines = [line for line in lines_of(exported) if line.get("table") in (None, "projects")]
        with pytest.raises(Conflict, match="entries of this project that the file does not have"):
            await import_project(own_db, io.BytesIO(packed(lines)))
        assert not await exists(own_db, SLUG)


def hostile(lines: list[Any]) -> dict[str, tuple[Callable[[], bytes], type[DerwinError]]]:
    """Files that say what no export says."""
    head, root = lines[0], lines[1]
    text = json.dumps(root).encode() + b"\n"
    slug = "x (committed): nothing done\n2026-01-01 admin door: audited"
    none = dict.fromkeys(TABLES, 0)

    def row(body: str) -> bytes:
        return packed([head, root, f'{{"table": "raw_signals", "row": {body}}}\n'.encode()], {**none})

    def windowed() -> bytes:
        parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
        return zstandard.ZstdCompressor(compression_params=parameters).compress(os.urandom(1 << 20) * 40)

    policy, run = {"table": "policies", "row": {}}, {"table": "qa_runs", "row": {}}
    list_of_rows: Any = []
    invalid: dict[str, Callable[[], bytes]] = {
        "no slug": lambda: packed([{k: v for k, v in head.items() if k != "slug"}, root]),
        "a slug that is a list": lambda: packed([{**head, "slug": ["x"]}, root]),
        "a slug of several lines": lambda: packed([{**head, "slug": slug}, root]),
        "no rows in the head": lambda: packed([{k: v for k, v in head.items() if k != "rows"}, root]),
        "rows that are a list": lambda: packed([head, root], list_of_rows),
        "a number of rows that is none": lambda: packed([head, root], {**none, "policies": "1"}),  # type: ignore[dict-item]
        "more rows than there are": lambda: packed([head, root], {**none, "policies": 1}),
        "an own table of no name": lambda: packed([{**head, "own": {"x; y": []}}, root]),
        "an own table that is one of ours": lambda: packed([{**head, "own": {"policies": ["id"]}}, root]),
        "no last line": lambda: zstandard.ZstdCompressor().compress(json.dumps(head).encode() + b"\n" + text),
        "a table that is none": lambda: packed([head, root], {**none, "alembic_version": 0}),
        "rows of a table that is none": lambda: packed([head, root, {"table": "projects", "row": root["row"]}]),
        "tables in another order": lambda: packed([head, root, policy, run]),
        "two rows in a line": lambda: row('{"id": 1}, {"id": 2}'),
        "a row that is a list": lambda: row("[]"),
        "a row that is deep": lambda: row('{"a": ' + "[" * 50_000 + "]" * 50_000 + "}"),
        "a head that is deep": lambda: packed([b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"\n", root]),
        "NaN": lambda: row('{"id": NaN}'),
        "half a character": lambda: packed([head, text[:-3] + b"\xff}}\n"]),
        "UTF-16": lambda: packed([head, json.dumps(root).encode("utf-16") + b"\n"]),
        "a window that is large": windowed,
    }
    large: dict[str, Callable[[], bytes]] = {
        "a row of many values": lambda: row('{"a": [' + "0," * 2_000_000 + "0]}"),
        "a row of long text": lambda: row('{"a": "' + "x" * (17 * 1024 * 1024) + '"}'),
        "a line without an end": lambda: zstandard.ZstdCompressor().compress(b"x" * (40 * 1024 * 1024)),
    }
    return {name: (made, InvalidInput) for name, made in invalid.items()} | {n: (made, TooLarge) for n, made in large.items()}


NAMES = list(hostile([{}, {}]))


LARGE: dict[str, tuple[Callable[[int], str], int, int]] = {
    "long text": (lambda times: '"' + "x" * times + '"', 15 * 1024 * 1024 // 256, 20),
    "lists": (lambda times: "[" + "[]," * times + "[]]", 2734, 5),
    "objects": (lambda times: "[" + "{}," * times + "{}]", 1953, 20),
    "escapes": (lambda times: '"' + "\\ud83d\\ude00" * times + '"', 3906, 10),
}
"""Values nearly as large as a line may hold: how they are made, how large for a mebibyte of the setting, in how many lines."""


class TestHostileFiles:
    @pytest.mark.parametrize("name", NAMES)
    async def test_is_refused_with_nothing_left_and_no_line_forged(
        self, db: Database, begin: list[Any], name: str, caplog
    ) -> None:
        made, expected = hostile(begin)[name]
        data = made()
        caplog.set_level(logging.INFO, "derwin_db.admin")
        with pytest.raises(expected, match="Nothing was imported"):
            await import_project(db, io.BytesIO(data))
        assert not [record for record in caplog.records if record.name == "derwin_db.admin"]
        assert not await exists(db, REFUSED)

    @pytest.mark.parametrize(
        ("kind", "memory"),
        [
            ("long text", 64),
            ("lists", 64),
            *(pytest.param(kind, 256, marks=pytest.mark.long) for kind in LARGE),
        ],
    )
    async def test_takes_no_more_memory_than_the_setting(
        self, migrated: TestDatabase, begin: list[Any], tmp_path: Path, kind: str, memory: int
    ) -> None:
        """A few hundred kilobytes of file; the head promises more rows than there are, so that all of it is looked at."""
        value, per_mebibyte, count = LARGE[kind]
        line = f'{{"table": "raw_signals", "row": {{"a": {value(memory * per_mebibyte)}}}}}\n'.encode()
        (tmp_path / "file").write_bytes(packed([*begin, *[line] * count], {**dict.fromkeys(TABLES, 0), "raw_signals": 1}))
        arguments = (str(tmp_path / "file"), urls_of(migrated), str(memory))
        measured = await asyncio.to_thread(program, MEASURED, *arguments, environment=os.environ)
        outcome, grown = measured.stdout.split()
        assert outcome == "invalid_input", measured.stderr
        assert 0 < int(grown) < memory


def test_the_measure_is_in_kilobytes() -> None:
    """ru_maxrss is in kilobytes here; on macOS it would be in bytes."""
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 64 * 1024 * 1024
