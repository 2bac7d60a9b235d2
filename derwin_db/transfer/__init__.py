"""Export and import of one project: JSON Lines, compressed, checksummed, identical after a round trip.

The rows travel as the database writes them (`to_jsonb`) and reads them (`jsonb_populate_recordset`): no value passes through a
type that could change it. The first line says what the file is, the last one how many rows it holds and their digest; a file
that is truncated, altered, or of another schema revision is refused, and nothing of it stays.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Protocol
from uuid import UUID

import zstandard

from derwin_db import repos
from derwin_db.errors import Conflict
from derwin_db.fields.scalars import project_id_of
from derwin_db.observe.progress import Progress
from derwin_db.repos.rules.history import close_history, open_history
from derwin_db.session import AdminSession, ProjectSession
from derwin_db.sql import HEAD_REVISION
from derwin_db.transfer.lines import BATCH, FORMAT, TABLES, VERSION, Lines, Writer, row_line
from derwin_db.transfer.statements import (
    count_statement,
    duplicates_statement,
    export_statement,
    import_root_statement,
    import_statement,
    same_statement,
)


class Opener(Protocol):
    """What opens units of work: a `Database`."""

    def project(self, project: str | UUID, *, read_only: bool = False, snapshot: bool = False) -> ProjectSession: ...

    def admin(self, *, reason: str) -> AdminSession: ...


@dataclass
class Report:
    """What was moved: rows by table. `ledger_kept` counts ledger rows that were on the books already."""

    slug: str
    project_id: UUID
    rows: dict[str, int] = field(default_factory=dict)
    ledger_kept: int = 0


async def export_project(
    db: Opener, project: str | UUID, sink: IO[bytes], *, now: datetime | None = None, progress: Progress | None = None
) -> Report:
    """Write one project, as one snapshot, to a binary stream. Constant memory.

    Errors:
        ProjectNotFound.
    """
    async with db.project(project, read_only=True, snapshot=True) as session:
        root = await repos.projects.current(session)
        counts = {name: (await session.fetch(count_statement(name), {}))[0] for name in TABLES}
        report = Report(root.slug, root.id)
        with zstandard.ZstdCompressor(level=9, write_checksum=True).stream_writer(sink, closefd=False) as compressed:
            writer = Writer(compressed)
            header = {"format": FORMAT, "version": VERSION, "revision": HEAD_REVISION, "slug": root.slug, "rows": counts}
            writer.line(json.dumps({**header, "exported_at": (now or datetime.now(UTC)).isoformat()}))
            async for row in session.stream(export_statement("projects"), {}):
                writer.line(row_line("projects", row))
            for name in TABLES:
                done = 0
                async for row in session.stream(export_statement(name), {}):
                    writer.line(row_line(name, row))
                    done += 1
                    if progress is not None and (done % BATCH == 0 or done == counts[name]):
                        progress(name, done, counts[name])
                report.rows[name] = done
            writer.line(json.dumps({"end": True, "rows": report.rows, "sha256": writer.digest()}))
    return report


async def import_project(db: Opener, source: IO[bytes], *, progress: Progress | None = None) -> Report:
    """Read one project back, whole or not at all, with its ids, times and logs.

    Its own ledger may still be on the books: rows that are there and equal stay.

    Errors:
        InvalidInput for a file that is no export, truncated, altered or of another revision; Conflict where the project exists,
        or its ledger says otherwise.
    """
    lines = Lines(source)
    header = lines.header()
    slug = str(header["slug"])
    report = Report(slug, project_id_of(slug))
    async with db.admin(reason=f"import of {slug}") as admin:
        await _create_root(admin, report, lines.root(report.project_id, slug))
    try:
        async with db.project(report.project_id) as session:
            await _write_rows(session, lines, report, header["rows"], progress)
    except BaseException:
        async with db.admin(reason=f"undo the import of {slug}") as admin:
            await repos.projects.delete(admin, report.project_id, despite_retention=True)
        raise
    async with db.admin(reason=f"end of the import of {slug}") as admin:
        await close_history(admin, report.project_id)
    return report


async def _create_root(admin: AdminSession, report: Report, row: str) -> None:
    admin.note("import")
    if await repos.projects.exists(admin, report.project_id):
        raise Conflict("A project of this slug exists already. Erase it first, or import elsewhere.")
    await admin.execute(import_root_statement(), {"rows": f"[{row}]"})
    await open_history(admin, report.project_id)


async def _write_rows(
    session: ProjectSession, lines: Lines, report: Report, totals: dict[str, int], progress: Progress | None
) -> None:
    duplicates: list[dict[str, str]] = []
    for name, batch in lines.batches():
        text = "[" + ",".join(json.dumps(row, ensure_ascii=False) for row in batch) + "]"
        written = await session.execute(import_statement(name), {"rows": text})
        if name == "spend_ledger":
            report.ledger_kept += len(batch) - written
            if (await session.fetch(same_statement(name), {"rows": text}))[0] != len(batch):
                raise Conflict("The ledger on the books has other content under the same id or key.")
        elif name == "qa_tickets":
            duplicates += [
                {"id": row["id"], "duplicate_of_id": row["duplicate_of_id"]} for row in batch if row["duplicate_of_id"]
            ]
        report.rows[name] = report.rows.get(name, 0) + len(batch)
        if progress is not None:
            progress(name, report.rows[name], totals.get(name, 0))
    if duplicates:
        await session.execute(duplicates_statement(), {"rows": json.dumps(duplicates)})
    lines.check_end({name: report.rows.get(name, 0) for name in TABLES})
    report.rows = {name: report.rows.get(name, 0) for name in TABLES}
