"""Export and import of one project: JSON Lines, compressed, checksummed, identical after a round trip.

The rows travel as the database writes them (`to_jsonb`) and reads them (`jsonb_populate_recordset`): no value passes through a
type that could change it. The first line says what the file is, the last one how many rows it holds and their digest; a file
that is truncated, altered, or of another schema revision is refused, and nothing of it stays.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import IO, Any, Protocol
from uuid import UUID

import sqlalchemy as sa
import zstandard
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlmodel import SQLModel

from derwin_db import repos
from derwin_db.errors import Conflict, InvalidInput
from derwin_db.guard import PROJECT
from derwin_db.repository import scope_of
from derwin_db.session import AdminSession, ProjectSession
from derwin_db.sql import HEAD_REVISION
from derwin_db.statement import Statement, command, scalars
from derwin_db.types import project_id_of

logger = logging.getLogger(__name__)

FORMAT = "derwin-db project"
VERSION = 1
TABLES = (
    "project_profiles",
    "ingested_docs",
    "profile_evolution_logs",
    "qa_runs",
    "qa_tickets",
    "raw_signals",
    "qa_fix_attempts",
    "classification_trust",
    "rag_corpus",
    "audit_artifacts",
    "policies",
    "project_mode_logs",
    "spend_ledger",
)
"""Parents first: an import writes them in this order."""

_BATCH = 500
_LONGEST_LINE = 64 * 1024 * 1024

Progress = Callable[[str, int, int], None]
"""Called with a table's name, how many of its rows are done, and how many there are."""


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
    """Write one project, as one snapshot, to a binary stream. Constant memory. Errors: ProjectNotFound."""
    async with db.project(project, read_only=True, snapshot=True) as session:
        root = await repos.projects.current(session)
        counts = {name: (await session.fetch(_count_statement(name), {}))[0] for name in TABLES}
        report = Report(root.slug, root.id)
        with zstandard.ZstdCompressor(level=9, write_checksum=True).stream_writer(sink, closefd=False) as compressed:
            writer = _Writer(compressed)
            header = {"format": FORMAT, "version": VERSION, "revision": HEAD_REVISION, "slug": root.slug, "rows": counts}
            writer.line(json.dumps({**header, "exported_at": (now or datetime.now(UTC)).isoformat()}))
            async for row in session.stream(_export_statement("projects"), {}):
                writer.line(_line("projects", row))
            for name in TABLES:
                done = 0
                async for row in session.stream(_export_statement(name), {}):
                    writer.line(_line(name, row))
                    done += 1
                    if progress is not None and (done % _BATCH == 0 or done == counts[name]):
                        progress(name, done, counts[name])
                report.rows[name] = done
            writer.line(json.dumps({"end": True, "rows": report.rows, "sha256": writer.digest()}))
    return report


async def import_project(db: Opener, source: IO[bytes], *, progress: Progress | None = None) -> Report:
    """Read one project back, whole or not at all, with its ids, times and logs.

    Its own ledger may still be on the books: rows that are there and equal stay. Errors: InvalidInput for a file that is no
    export, truncated, altered or of another revision; Conflict where the project exists, or its ledger says otherwise.
    """
    lines = _Lines(source)
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
    return report


async def _create_root(admin: AdminSession, report: Report, row: str) -> None:
    admin.note("import")
    if await repos.projects.exists(admin, report.project_id):
        raise Conflict("A project of this slug exists already. Erase it first, or import elsewhere.")
    await admin.execute(_import_root_statement(), {"rows": f"[{row}]"})


async def _write_rows(
    session: ProjectSession, lines: "_Lines", report: Report, totals: dict[str, int], progress: Progress | None
) -> None:
    duplicates: list[dict[str, str]] = []
    for name, batch in lines.batches():
        text = "[" + ",".join(json.dumps(row, ensure_ascii=False) for row in batch) + "]"
        written = await session.execute(_import_statement(name), {"rows": text})
        if name == "spend_ledger":
            report.ledger_kept += len(batch) - written
            if (await session.fetch(_same_statement(name), {"rows": text}))[0] != len(batch):
                raise Conflict("The ledger on the books has other content under the same id or key.")
        elif name == "qa_tickets":
            duplicates += [
                {"id": row["id"], "duplicate_of_id": row["duplicate_of_id"]} for row in batch if row["duplicate_of_id"]
            ]
        report.rows[name] = report.rows.get(name, 0) + len(batch)
        if progress is not None:
            progress(name, report.rows[name], totals.get(name, 0))
    if duplicates:
        await session.execute(_duplicates_statement(), {"rows": json.dumps(duplicates)})
    lines.check_end({name: report.rows.get(name, 0) for name in TABLES})
    report.rows = {name: report.rows.get(name, 0) for name in TABLES}


# --- the file ---------------------------------------------------------------------------------------------------------


class _Writer:
    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._sum = hashlib.sha256()

    def line(self, text: str) -> None:
        data = text.encode() + b"\n"
        self._sum.update(data)
        self._sink.write(data)

    def digest(self) -> str:
        return self._sum.hexdigest()


class _Lines:
    """The lines of a file, checked as they come."""

    def __init__(self, source: IO[bytes]) -> None:
        self._lines = self._read(source)
        self._sum = hashlib.sha256()
        self._before_last = ""
        self._end: dict[str, Any] | None = None

    def _read(self, source: IO[bytes]) -> Iterator[bytes]:
        pending = b""
        try:
            with zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=False) as reader:
                while chunk := reader.read(1 << 20):
                    *whole, pending = (pending + chunk).split(b"\n")
                    yield from whole
                    if len(pending) > _LONGEST_LINE:
                        raise InvalidInput("The file has a line that no export writes.")
        except zstandard.ZstdError:
            raise InvalidInput("The file is no export, or it was altered or truncated. Nothing was imported.") from None
        if pending:
            raise InvalidInput("The file was truncated. Nothing was imported.")

    def _next(self) -> dict[str, Any] | None:
        line = next(self._lines, None)
        if line is None:
            return None
        self._before_last = self._sum.hexdigest()
        self._sum.update(line + b"\n")
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise InvalidInput("The file is no export, or it was altered. Nothing was imported.")
        return value

    def header(self) -> dict[str, Any]:
        header = self._next() or {}
        if header.get("format") != FORMAT or header.get("version") != VERSION:
            raise InvalidInput("The file is no export of derwin-db, or of a version that this code does not read.")
        if header.get("revision") != HEAD_REVISION:
            raise InvalidInput(
                f"The file was exported at schema revision {str(header.get('revision'))[:12]}, and this is {HEAD_REVISION}. Import "
                "it with the version that wrote it, then migrate."
            )
        return header

    def root(self, project_id: UUID, slug: str) -> str:
        line = self._next() or {}
        row = line.get("row")
        if (
            line.get("table") != "projects"
            or not isinstance(row, dict)
            or (row.get("id"), row.get("slug")) != (str(project_id), slug)
        ):
            raise InvalidInput("The file does not begin with its project. Nothing was imported.")
        return json.dumps(row, ensure_ascii=False)

    def batches(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        batch: list[dict[str, Any]] = []
        current = ""
        while (line := self._next()) is not None:
            if line.get("end"):
                self._end = line
                break
            name, row = line.get("table"), line.get("row")
            if name not in TABLES or not isinstance(row, dict):
                raise InvalidInput("The file holds something that is no row of a project. Nothing was imported.")
            if batch and (name != current or len(batch) == _BATCH):
                yield current, batch
                batch = []
            current = name
            batch.append(row)
        if batch:
            yield current, batch

    def check_end(self, rows: dict[str, int]) -> None:
        if self._end is None or self._end.get("rows") != rows or self._end.get("sha256") != self._before_last:
            raise InvalidInput("The file was truncated or altered: its digest does not match. Nothing was imported.")
        if self._next() is not None:
            raise InvalidInput("The file goes on behind its end. Nothing was imported.")


def _line(table: str, row: str) -> str:
    return f'{{"table": "{table}", "row": {row}}}'


# --- statements -------------------------------------------------------------------------------------------------------


def _table(name: str) -> sa.Table:
    return SQLModel.metadata.tables[f"public.{name}"]


def _given(name: str) -> Any:
    """The rows of the parameter, read by the database as rows of the table."""
    table = _table(name)
    shape: sa.ColumnElement[Any] = sa.literal_column(f"NULL::public.{name}")
    rows = sa.cast(sa.bindparam("rows", type_=sa.Text()), JSONB)
    columns = [sa.column(column.name, column.type) for column in table.columns]
    return sa.func.jsonb_populate_recordset(shape, rows).table_valued(*columns, name="given")


@cache
def _count_statement(name: str) -> Statement[int]:
    return scalars("export", sa.select(sa.func.count()).select_from(_table(name)).where(scope_of(_table(name))))


@cache
def _export_statement(name: str) -> Statement[str]:
    table = _table(name)
    query = sa.select(sa.cast(sa.func.to_jsonb(table.table_valued()), sa.Text)).select_from(table).where(scope_of(table))
    return scalars("export", query.order_by(table.c.id))


@cache
def _import_root_statement() -> Statement[None]:
    table, given = _table("projects"), _given("projects")
    names = [column.name for column in table.columns]
    return command("import", sa.insert(table).from_select(names, sa.select(*(given.c[n] for n in names))), is_scoped=False)


@cache
def _import_statement(name: str) -> Statement[None]:
    table, given = _table(name), _given(name)
    names = [column.name for column in table.columns if column.name not in ("project_id", "duplicate_of_id")]
    query: Any = insert(table).from_select(["project_id", *names], sa.select(PROJECT, *(_raw(given.c[n]) for n in names)))
    return command("import", query.on_conflict_do_nothing() if name == "spend_ledger" else query)


def _raw(column: Any) -> Any:
    """Select the column as it is: the type's own conversion on the way out would undo the one on the way in."""
    return sa.type_coerce(column, sa.types.NULLTYPE)


@cache
def _same_statement(name: str) -> Statement[int]:
    table, given = _table(name), _given(name)
    same = sa.and_(table.c.id == given.c.id, *(table.c[c.name].is_not_distinct_from(given.c[c.name]) for c in table.columns if c.name != "project_id"))  # fmt: skip  # noqa: E501
    return scalars("import", sa.select(sa.func.count()).select_from(table.join(given, same)).where(scope_of(table)))


@cache
def _duplicates_statement() -> Statement[None]:
    table, given = _table("qa_tickets"), _given("qa_tickets")
    query = sa.update(table).where(scope_of(table), table.c.id == given.c.id).values(duplicate_of_id=given.c.duplicate_of_id)
    return command("import", query)
