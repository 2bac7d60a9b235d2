"""A project out and in again is what it was; a file that is not what was written is refused and leaves nothing."""

import asyncio
import hashlib
import io
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest
import sqlalchemy as sa
import zstandard

from derwin_db import Database, repos, transfer
from derwin_db.errors import Conflict, InvalidInput, ProjectNotFound, RetentionLocked
from derwin_db.fields.scalars import project_id_of
from derwin_db.isolation.preamble import Preamble
from derwin_db.models import TicketStatus
from derwin_db.observe.progress import Progress
from derwin_db.seed import LIFELINE, seed_demo, seed_lifeline
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase, TestServer
from derwin_db.transfer import Report, export_project, import_project
from derwin_db.transfer.lines import TABLES

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
BY_HAND = """
INSERT INTO spend_ledger (project_id, project_slug, kind, source, amount_usd, idempotency_key, occurred_at)
SELECT id, slug, 'CHARGE', 'OTHER', 0.5, 'by hand', now() FROM public.projects
"""


@pytest.fixture(scope="module")
async def stored(server: TestServer) -> TestDatabase:
    """A database with Lifeline, its demo, a duplicate ticket, and an amount that SQL by hand wrote with one digit."""
    database = await asyncio.to_thread(server.migrated)
    async with Database(**database.urls) as db:
        await seed_lifeline(db)
        await seed_demo(db)
        async with db.project(LIFELINE) as session:
            first, second, *_ = (await repos.qa_tickets.list(session, status=TicketStatus.OPEN)).items
            await repos.qa_tickets.mark_duplicate(session, first.id, of=second.id)
            await session.sql.execute(sa.text(BY_HAND))
    return database


@pytest.fixture
async def own_database(server: TestServer, stored: TestDatabase) -> AsyncIterator[TestDatabase]:
    """A copy of it for one test."""
    database = await asyncio.to_thread(server.clone, stored)
    yield database
    await asyncio.to_thread(server.drop, database)


@pytest.fixture
def filled(own_db: Database) -> Database:
    return own_db


async def exported(db: Database) -> tuple[bytes, Report]:
    sink = io.BytesIO()
    report = await export_project(db, LIFELINE, sink, now=MOMENT)
    return sink.getvalue(), report


async def erase(db: Database) -> None:
    async with db.project(LIFELINE) as session:
        held = [row.id async for row in repos.audit_artifacts.stream(session) if row.legal_hold]
        for artifact in held:
            await repos.audit_artifacts.release(session, artifact)
    async with db.admin(reason="a test") as admin:
        await repos.projects.delete(admin, project_id_of(LIFELINE), despite_retention=True)


@pytest.fixture(scope="module")
async def erased(server: TestServer, stored: TestDatabase) -> AsyncIterator[tuple[Database, bytes]]:
    """A database that the project is gone from, which no test here imports into, and its file."""
    database = await asyncio.to_thread(server.clone, stored)
    async with Database(**database.urls) as db:
        data, _ = await exported(db)
        await erase(db)
        yield db, data
    await asyncio.to_thread(server.drop, database)


def lines_of(data: bytes) -> list[bytes]:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data).splitlines(keepends=True)


def packed(lines: list[bytes]) -> io.BytesIO:
    return io.BytesIO(zstandard.ZstdCompressor(write_checksum=True).compress(b"".join(lines)))


def slow() -> Progress:
    """Takes longer than a unit of work may, once."""
    waits = iter([0.7])
    return lambda *_: time.sleep(next(waits, 0))


class TestBoth:
    async def test_may_take_longer_than_a_unit_of_work(self, filled: Database, own_database: TestDatabase) -> None:
        data, _ = await exported(filled)
        await erase(filled)
        async with Database(**own_database.urls, settings=Settings(transaction_timeout=0.5)) as db:
            await import_project(db, io.BytesIO(data), progress=slow())
            await export_project(db, LIFELINE, io.BytesIO(), progress=slow())

    async def test_tell_how_far_they_are(self, filled: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (transfer, transfer.lines):
            monkeypatch.setattr(module, "BATCH", 100)
        told: list[list[tuple[str, int, int]]] = [[], []]
        sink = io.BytesIO()
        report = await export_project(filled, LIFELINE, sink, progress=lambda *seen: told[0].append(seen))
        await erase(filled)
        await import_project(filled, io.BytesIO(sink.getvalue()), progress=lambda *seen: told[1].append(seen))
        assert max(report.rows.values()) > 100
        assert (
            told
            == [
                [
                    (name, min(done, total), total)
                    for name, total in report.rows.items()
                    for done in range(100, total + 100, 100)
                ]
            ]
            * 2
        )

    async def test_say_so_to_the_server(self, own_database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
        """An export has the time of delete_timeout, for each statement too; an import has no limit as a whole."""
        seen = []

        def looking(real):
            async def looked(session, *arguments):
                query = sa.text("SELECT name, setting FROM pg_settings WHERE name = ANY(ARRAY[:a, :b]) ORDER BY 1")
                rows = await session.sql.execute(query, {"a": "statement_timeout", "b": "transaction_timeout"})
                seen.append({name: int(value) for name, value in rows})
                return await real(session, *arguments)

            return looked

        for name in ("own_tables", "open_history"):
            monkeypatch.setattr(transfer, name, looking(getattr(transfer, name)))
        limits = {"transaction_timeout": 3, "statement_timeout": 2, "delete_timeout": 600}
        async with Database(**own_database.urls, settings=Settings(_env_file=None, **limits)) as db:
            await seed_lifeline(db)
            data, _ = await exported(db)
            await erase(db)
            await import_project(db, io.BytesIO(data))
        export, load = seen
        assert (export["statement_timeout"], load["statement_timeout"]) == (600_000, 2_000)
        assert (export.get("transaction_timeout", 600_000), load.get("transaction_timeout", 0)) == (600_000, 0)

    @pytest.mark.parametrize(("version", "is_told"), [(169999, False), (170000, True)])
    async def test_name_no_setting_that_the_server_does_not_know(self, version: int, is_told: bool) -> None:
        sent: list[str] = []

        class Noting:
            async def execute(self, text: str) -> None:
                sent.append(text)

        await Preamble(None, server_version=version).for_import(Noting())  # type: ignore[arg-type]  # all that is asked of it
        assert ("transaction_timeout" in sent[0]) is is_told


class TestExport:
    async def test_holds_every_row_of_the_project(self, filled: Database) -> None:
        data, report = await exported(filled)
        async with filled.project(LIFELINE) as session:
            counts = {name: await getattr(repos, name).count(session) for name in TABLES}
        assert report.rows == counts
        assert all(counts[name] for name in TABLES if name != "ingested_docs")
        assert len(lines_of(data)) == sum(counts.values()) + 3

    async def test_has_a_checksum_that_any_program_can_look_at(self, filled: Database) -> None:
        assert zstandard.get_frame_parameters((await exported(filled))[0]).has_checksum

    async def test_is_the_same_twice(self, filled: Database) -> None:
        assert (await exported(filled))[0] == (await exported(filled))[0]

    async def test_of_an_unknown_project(self, own_db: Database) -> None:
        with pytest.raises(ProjectNotFound):
            await export_project(own_db, "nobody", io.BytesIO())

    async def test_is_one_moment(self, filled: Database) -> None:
        """What is committed while the export runs is in none of its tables."""
        before = (await exported(filled))[0]
        async with filled.project(LIFELINE, read_only=True, snapshot=True) as session:
            count = await repos.qa_tickets.count(session)
            async with filled.project(LIFELINE) as other:
                ticket = (await repos.qa_tickets.list(other, limit=1)).items[0]
                await repos.raw_signals.count(other)
                await repos.qa_tickets.assign_bucket(other, ticket.id, "NOISE")
            assert await repos.qa_tickets.count(session) == count
            assert (await repos.qa_tickets.get(session, ticket.id)).final_bucket == ticket.final_bucket
        assert (await exported(filled))[0] != before


class TestImport:
    async def test_brings_back_every_row_as_it_was_and_takes_back_its_own_ledger(self, filled: Database) -> None:
        data, report = await exported(filled)
        await erase(filled)
        back = await import_project(filled, io.BytesIO(data))
        assert back.rows == report.rows
        assert back.ledger_kept == report.rows["spend_ledger"]
        async with filled.project(LIFELINE) as session:
            assert await repos.spend_ledger.count(session) == report.rows["spend_ledger"]
        assert lines_of((await exported(filled))[0]) == lines_of(data)

    async def test_goes_into_another_database(self, filled: Database, server: TestServer) -> None:
        data, _ = await exported(filled)
        other = await asyncio.to_thread(server.migrated)
        async with Database(**other.urls) as db:
            await import_project(db, io.BytesIO(data))
            assert lines_of((await exported(db))[0]) == lines_of(data)

    async def test_refuses_a_ledger_that_says_otherwise(self, filled: Database, own_database: TestDatabase) -> None:
        data, _ = await exported(filled)
        await erase(filled)
        lines = lines_of(data)
        number = next(i for i, line in enumerate(lines) if b'"spend_ledger"' in line and b'"table"' in line)
        lines[number] = lines[number].replace(b'"source": "', b'"source": "OTHER", "ignored": "', 1)
        with pytest.raises((Conflict, InvalidInput)):
            await import_project(filled, packed(resealed(lines)))
        await nothing_is_left(filled)

    async def test_refuses_a_project_that_exists(self, filled: Database) -> None:
        data, _ = await exported(filled)
        with pytest.raises(Conflict, match="exists already"):
            await import_project(filled, io.BytesIO(data))
        async with filled.project(LIFELINE) as session:
            assert (await repos.projects.current(session)).slug == LIFELINE


def resealed(lines: list[bytes]) -> list[bytes]:
    """The lines with a last one that fits them: what somebody writes who knows the format."""
    end = json.loads(lines[-1])
    end["sha256"] = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    return [*lines[:-1], json.dumps(end).encode() + b"\n"]


async def nothing_is_left(db: Database) -> None:
    async with db.admin(reason="a test") as admin:
        assert not await repos.projects.exists(admin, project_id_of(LIFELINE))


class TestRefusal:
    @pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.999])
    async def test_a_truncated_file(self, erased: tuple[Database, bytes], share: float) -> None:
        db, data = erased
        with pytest.raises(InvalidInput):
            await import_project(db, io.BytesIO(data[: int(len(data) * share)]))
        await nothing_is_left(db)

    @pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99])
    async def test_a_flipped_bit(self, erased: tuple[Database, bytes], share: float) -> None:
        db, data = erased
        altered = bytearray(data)
        altered[int(len(data) * share)] ^= 0x10
        with pytest.raises(InvalidInput):
            await import_project(db, io.BytesIO(bytes(altered)))
        await nothing_is_left(db)

    async def test_a_line_that_was_changed(self, erased: tuple[Database, bytes]) -> None:
        db, data = erased
        lines = lines_of(data)
        number = next(i for i, line in enumerate(lines) if b'"title": "' in line)
        lines[number] = lines[number].replace(b'"title": "', b'"title": "Not ', 1)  # a row as good as the other one
        with pytest.raises(InvalidInput, match="digest"):
            await import_project(db, packed(lines))
        await nothing_is_left(db)

    async def test_a_line_that_was_taken_out(self, erased: tuple[Database, bytes]) -> None:
        db, data = erased
        lines = lines_of(data)
        with pytest.raises(InvalidInput):
            await import_project(db, packed([*lines[:-5], *lines[-4:]]))
        await nothing_is_left(db)

    async def test_lines_behind_the_end(self, erased: tuple[Database, bytes]) -> None:
        db, data = erased
        lines = lines_of(data)
        with pytest.raises(InvalidInput):
            await import_project(db, packed([*lines, lines[-2]]))
        await nothing_is_left(db)

    async def test_the_beginning_of_a_line_behind_the_end(self, erased: tuple[Database, bytes]) -> None:
        db, data = erased
        with pytest.raises(InvalidInput, match="truncated"):
            await import_project(db, packed([*lines_of(data), b"{"]))
        await nothing_is_left(db)

    @pytest.mark.parametrize(
        ("find", "replace"),
        [
            (b'"derwin-db project"', b'"something else"'),
            (b'"version": 1', b'"version": 2'),
            (b'"revision": "', b'"revision": "0'),
            (b'"slug": "lifeline"', b'"slug": "lifelong"'),
        ],
    )
    async def test_another_head(self, erased: tuple[Database, bytes], find: bytes, replace: bytes) -> None:
        db, data = erased
        lines = lines_of(data)
        lines[0] = lines[0].replace(find, replace)
        with pytest.raises(InvalidInput):
            await import_project(db, packed(resealed(lines)))
        await nothing_is_left(db)

    async def test_rows_of_another_project_become_its_own_or_nothing(self, filled: Database) -> None:
        """The project of a row is the session's, whatever the file says."""
        data, _ = await exported(filled)
        await erase(filled)
        own, other = str(project_id_of(LIFELINE)).encode(), str(project_id_of("another")).encode()
        lines = lines_of(data)
        lines = [*lines[:2], *(line.replace(own, other) for line in lines[2:-1]), lines[-1]]
        await import_project(filled, packed(resealed(lines)))
        assert lines_of((await exported(filled))[0])[:-1] == lines_of(data)[:-1]

    async def test_what_is_no_export_at_all(self, erased: tuple[Database, bytes]) -> None:
        for data in (b"", b"\x00" * 1000, b"PK\x03\x04zip", zstandard.ZstdCompressor().compress(b"[]\n")):
            with pytest.raises(InvalidInput):
                await import_project(erased[0], io.BytesIO(data))
        await nothing_is_left(erased[0])


class TestErase:
    async def test_a_hold_beats_it(self, filled: Database) -> None:
        async with filled.admin(reason="a test") as admin:
            with pytest.raises(RetentionLocked):
                await repos.projects.delete(admin, project_id_of(LIFELINE), despite_retention=True)


class TestBackup:
    async def test_the_owner_without_superuser_is_refused_a_partial_dump(self, own_database: TestDatabase) -> None:
        """Under FORCE a dump by an ordinary owner would lack rows; row_security = off makes it an error instead."""
        connection = await asyncpg.connect(**own_database.service.connect_arguments())
        try:
            await connection.execute("SET row_security = off")
            with pytest.raises(asyncpg.PostgresError):
                await connection.fetch("SELECT * FROM public.qa_tickets")
        finally:
            await connection.close()
