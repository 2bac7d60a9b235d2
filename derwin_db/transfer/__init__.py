"""Export and import of one project: JSON Lines, compressed, checksummed, identical after a round trip.

The rows travel as the database writes them (`to_jsonb`) and reads them (`jsonb_populate_recordset`): no value passes through a
type that could change it. The first line says what the file is, the last one how many rows it holds and their digest.

An import looks at the whole file before it writes the first row, and writes all of it in one transaction of the owner's login:
nobody sees the project before it is whole, and whatever ends the import earlier, a kill included, leaves nothing of it.
"""

import asyncio
import errno
import json
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import IO, Any, Protocol
from uuid import UUID

import sqlalchemy as sa
import zstandard

from derwin_db import repos
from derwin_db.errors import Conflict, InvalidInput, StorageFull
from derwin_db.fields.scalars import project_id_of
from derwin_db.observe.progress import Progress
from derwin_db.repos.rules.history import close_history, open_history
from derwin_db.repos.rules.own import own_tables
from derwin_db.session import ImportSession, ProjectSession
from derwin_db.settings import Settings
from derwin_db.sql import HEAD_REVISION
from derwin_db.transfer.lines import BATCH, FORMAT, TABLES, VERSION, Batch, Header, Limits, Lines, Writer, row_line
from derwin_db.transfer.statements import (
    count_statement,
    duplicates_statement,
    export_statement,
    import_root_statement,
    import_statement,
    same_statement,
    table_named,
    to_come_statement,
)

_UP_TO_NOW = (("spend_ledger", "created_at"), ("qa_runs", "heartbeat_at"))
"""Times that are never to come: every cap would count such an entry for good, and such a run would never count as stalled."""


class Opener(Protocol):
    """What opens units of work: a `Database`."""

    settings: Settings

    def project(self, project: str | UUID, *, read_only: bool = False, snapshot: bool = False) -> ProjectSession: ...

    def importing(self, project_id: UUID, *, reason: str) -> ImportSession: ...


@dataclass
class Report:
    """What was moved: rows by table. `ledger_kept` counts ledger rows that were on the books already."""

    slug: str
    project_id: UUID
    rows: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    """Tables of the service whose rows belong to the project and that are not fenced: no export reads them."""
    ledger_kept: int = 0


async def export_project(
    db: Opener, project: str | UUID, sink: IO[bytes], *, now: datetime | None = None, progress: Progress | None = None
) -> Report:
    """Write one project, as one snapshot, to a binary stream. Constant memory.

    Errors:
        ProjectNotFound.
    """
    async with db.project(project, read_only=True, snapshot=True) as session:
        await session.allow_long_statements()
        root = await repos.projects.current(session)
        own = await own_tables(session)
        fenced = {one.name: one for one in own if one.is_fenced}
        tables = {**{name: table_named(name) for name in TABLES}, **{name: one.table for name, one in fenced.items()}}
        counts = {name: (await session.fetch(count_statement(table), {}))[0] for name, table in tables.items()}
        report = Report(root.slug, root.id, left_out=[one.name for one in own if not one.is_fenced])
        with zstandard.ZstdCompressor(level=9, write_checksum=True).stream_writer(sink, closefd=False) as compressed:
            writer = Writer(compressed)
            header = {"format": FORMAT, "version": VERSION, "revision": HEAD_REVISION, "slug": root.slug, "rows": counts}
            if fenced:
                header["own"] = {name: sorted(one.columns) for name, one in fenced.items()}
            writer.line(json.dumps({**header, "exported_at": (now or datetime.now(UTC)).isoformat()}))
            await _write_table(session, writer, "projects", table_named("projects"), 1, None)
            for name, table in tables.items():
                report.rows[name] = await _write_table(session, writer, name, table, counts[name], progress)
            writer.line(json.dumps({"end": True, "rows": report.rows, "sha256": writer.digest()}))
    return report


async def _write_table(
    session: ProjectSession, writer: Writer, name: str, table: sa.Table, total: int, progress: Progress | None
) -> int:
    """Write the rows of a table, a batch at a time off the event loop: compressing takes its time. Returns how many."""
    lines: list[str] = []
    count = 0
    async for row in session.stream(export_statement(table), {}):
        lines.append(row_line(name, row))
        count += 1
        if len(lines) == BATCH or count == total:
            await asyncio.to_thread(writer.lines, lines)
            lines = []
            if progress is not None:
                progress(name, count, total)
    await asyncio.to_thread(writer.lines, lines)
    return count


async def import_project(db: Opener, source: IO[bytes], *, progress: Progress | None = None) -> Report:
    """Read one project back, whole or not at all, with its ids, times and logs.

    Takes the owner's login. The project's own ledger may still be on the books, whole and as the file has it: then it stays. A
    source that can't be read twice is kept in a temporary file meanwhile.

    Errors:
        InvalidInput for a file that is no export, truncated, altered or of another revision; TooLarge for one that takes more
        memory than DERWIN_IMPORT_MEMORY_MIB; Conflict where the project exists, or its ledger says otherwise;
        ConfigurationError without the owner's login, which on Citus no policy may hold; StorageFull without room for
        temporary files.
    """
    try:
        return await _import(db, source, progress)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise StorageFull(
            f"There is no room in {tempfile.gettempdir()} for temporary files of the import. Nothing was imported."
        ) from None


async def _import(db: Opener, source: IO[bytes], progress: Progress | None) -> Report:
    limits = Limits(db.settings.import_memory_mib)
    with ExitStack() as stack:
        twice = _Twice(source, stack)
        header, digest = await _prove(Lines(twice.first, limits))
        lines = Lines(await asyncio.to_thread(twice.again), limits)
        report = Report(header.slug, project_id_of(header.slug))
        async with db.importing(report.project_id, reason=f"import of {header.slug}") as session:
            await _write_root(session, lines, report.project_id)
            tables = {name: table_named(name) for name in TABLES} | await _own_tables(session, header.own)
            await _write_rows(session, lines, report, tables, header.rows, progress)
            if lines.digest() != digest:
                raise InvalidInput("The file was changed while it was imported. Nothing was imported.")
            await session.leave_project()
            await close_history(session, report.project_id)
    return report


class _Twice:
    """A source that is read twice: by seeking, or by a private copy where it can't seek."""

    def __init__(self, source: IO[bytes], stack: ExitStack) -> None:
        can_seek = getattr(source, "seekable", None)
        self._source = self._copy = source
        self._begin = 0
        self.first: Any = source
        if can_seek is not None and can_seek():
            self._begin = source.tell()
        else:
            self._copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the stack closes it
            self.first = self

    def read(self, size: int = -1) -> bytes:
        """Read of the source, and keep what was read."""
        data = self._source.read(size)
        self._copy.write(data)
        return data

    def again(self) -> IO[bytes]:
        """Return what is read the second time."""
        self._copy.seek(self._begin)
        return self._copy


async def _prove(lines: Lines) -> tuple[Header, str]:
    """Read the whole file, a batch at a time off the event loop. Returns its head and its digest.

    Errors:
        InvalidInput, TooLarge.
    """
    header = await asyncio.to_thread(lines.header)
    await asyncio.to_thread(lines.root)
    while await asyncio.to_thread(lines.batch) is not None:
        pass
    lines.check_counts(header)
    return header, lines.digest()


async def _write_root(session: ImportSession, lines: Lines, project_id: UUID) -> None:
    await asyncio.to_thread(lines.header)
    row = await asyncio.to_thread(lines.root)
    try:
        await session.execute(import_root_statement(), {"rows": f"[{row}]"})
    except Conflict:
        raise Conflict("A project of this slug exists already. Erase it first, or import elsewhere.") from None
    await open_history(session, project_id)
    await session.enter_project()


async def _own_tables(session: ImportSession, wanted: dict[str, list[str]]) -> dict[str, sa.Table]:
    """Return the tables of the service that the file holds rows of.

    Errors:
        InvalidInput unless each is here, fenced and of the same columns: values of others would be lost without a word.
    """
    present = {one.name: one for one in await own_tables(session) if one.is_fenced} if wanted else {}
    for name, columns in wanted.items():
        if name not in present:
            raise InvalidInput(f"The file holds rows of {name[:64]}, a table of a service that is not here, or not fenced.")
        if sorted(present[name].columns) != sorted(columns):
            raise InvalidInput(f"The file's {name} has other columns than the one here. Bring both to the same revision.")
    return {name: one.table for name, one in present.items() if name in wanted}


async def _write_rows(
    session: ImportSession,
    lines: Lines,
    report: Report,
    tables: dict[str, sa.Table],
    totals: dict[str, int],
    progress: Progress | None,
) -> None:
    with tempfile.TemporaryFile("w+") as duplicates:
        while (batch := await asyncio.to_thread(lines.batch)) is not None:
            written = await _write_batch(session, batch, tables[batch.table])
            if batch.table == "spend_ledger":
                report.ledger_kept += batch.count - written
                if (await session.fetch(same_statement(batch.table), {"rows": batch.rows}))[0] != batch.count:
                    raise Conflict("The ledger on the books has other content under the same id or key.")
            duplicates.writelines(json.dumps({"id": id, "duplicate_of_id": of}) + "\n" for id, of in batch.duplicates)
            if progress is not None:
                progress(batch.table, lines.counts[batch.table], totals[batch.table])
        await _write_duplicates(session, duplicates)
    if (await session.fetch(count_statement(table_named("spend_ledger")), {}))[0] != lines.counts["spend_ledger"]:
        raise Conflict("The ledger on the books holds entries of this project that the file does not have.")
    for table, column in _UP_TO_NOW:
        if (await session.fetch(to_come_statement(table, column), {}))[0]:
            raise _is_to_come(table, column)
    report.rows = lines.counts


async def _write_batch(session: ImportSession, batch: Batch, table: sa.Table) -> int:
    try:
        return await session.execute(import_statement(table), {"rows": batch.rows})
    except InvalidInput as error:
        if error.constraint == f"ck_{batch.table}_is_over":
            raise _is_to_come(batch.table, "created_at") from error
        raise


def _is_to_come(table: str, column: str) -> InvalidInput:
    return InvalidInput(f"The file has a {column} of {table} of a time to come. Nothing was imported.")


async def _write_duplicates(session: ImportSession, duplicates: IO[str]) -> None:
    """Say of which ticket a ticket is the duplicate: all tickets are there."""
    duplicates.seek(0)
    while pairs := list(islice(duplicates, BATCH)):
        await session.execute(duplicates_statement(), {"rows": f"[{','.join(pairs)}]"})
