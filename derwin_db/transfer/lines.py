"""The file of an export: JSON Lines in one zstd frame, with a head, a last line, and a digest over all before it.

A file may be anybody's. Nothing in it is believed before it was looked at, and no line of it takes more memory than the limit
allows: neither as text nor as what Python makes of it. Rows go on as the text they are, so that no value passes through a type
that could change it.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, ClassVar, NoReturn

import zstandard
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from derwin_db.errors import InvalidInput, TooLarge
from derwin_db.fields.scalars import Slug, project_id_of
from derwin_db.sql import HEAD_REVISION

FORMAT = "derwin-db project"
VERSION = 1
BATCH = 500
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
"""Parents first: an export writes them in this order, and an import takes no other."""

_CHUNK = 256 * 1024
_WINDOW = 16 * 1024 * 1024
"""Largest window of the compression that is read; that of an export is a quarter of it."""
_ROW = re.compile(r'\s*\{\s*"table"\s*:\s*"([a-z_0-9]+)"\s*,\s*"row"\s*:\s*(\{.*\})\s*\}\s*', re.DOTALL)
_OWN = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
_NOT_AN_EXPORT = "The file is no export, or it was altered or truncated. Nothing was imported."
_ALTERED = "The file was truncated or altered: its digest does not match. Nothing was imported."


class Writer:
    """Writes lines and keeps their digest."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._sum = hashlib.sha256()

    def line(self, text: str) -> None:
        """Write one line."""
        data = text.encode() + b"\n"
        self._sum.update(data)
        self._sink.write(data)

    def lines(self, texts: Iterable[str]) -> None:
        """Write several lines."""
        for text in texts:
            self.line(text)

    def digest(self) -> str:
        """Return the SHA-256 of all lines so far."""
        return self._sum.hexdigest()


def row_line(table: str, row: str) -> str:
    """Return the line of one row, whose JSON is the database's own."""
    return f'{{"table": "{table}", "row": {row}}}'


@dataclass(frozen=True)
class Limits:
    """What one line and one batch may take, for an import that takes `memory_mib` at most."""

    memory_mib: int

    @property
    def line_bytes(self) -> int:
        """Longest line, and most text of a batch."""
        return self.memory_mib * 1024 * 1024 // 16

    @property
    def line_values(self) -> int:
        """Most values in a line. Source: CPython 3.11 to 3.13 take up to 90 bytes for each bracket, comma and colon of JSON."""
        return self.memory_mib * 1024 * 1024 // 160


class Header(BaseModel):
    """The first line."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)

    slug: Slug
    rows: dict[str, NonNegativeInt]
    own: dict[str, list[str]] = Field(default_factory=dict)
    """Tables of the service, parents first, with the names of their columns."""


@dataclass(frozen=True)
class Row:
    """A row as it stands in the file, and of a ticket the (id, of which) where it is a duplicate."""

    table: str
    text: str
    duplicate: tuple[str, str] | None


@dataclass(frozen=True)
class Batch:
    """Rows of one table, as a JSON array, and of tickets which of them are duplicates: (id, of which)."""

    table: str
    rows: str
    count: int
    duplicates: list[tuple[str, str]]


class Lines:
    """The lines of a file, looked at as they come. Blocking: it reads, and decompresses."""

    def __init__(self, source: IO[bytes], limits: Limits) -> None:
        self._limits = limits
        self.tables: tuple[str, ...] = TABLES
        """Whose rows the file may hold: of the service's own tables, those that the first line names."""
        self._lines = self._read(source)
        self._sum = hashlib.sha256()
        self._before_last = ""
        self._rows = self._read_rows()
        self._kept: Row | None = None
        self._slug = ""
        self._end_rows: Any = None
        self.counts: dict[str, int] = {}

    def _read(self, source: IO[bytes]) -> Iterator[bytes]:
        parts: list[bytes] = []
        size = 0
        try:
            decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
            with decompressor.stream_reader(source, closefd=False) as reader:
                while chunk := reader.read(_CHUNK):
                    first, *rest = chunk.split(b"\n")
                    parts.append(first)
                    size += len(first)
                    for begin in rest:
                        yield b"".join(parts)
                        parts, size = [begin], len(begin)
                    if size > self._limits.line_bytes:
                        raise _too_long()
        except zstandard.ZstdError:
            raise InvalidInput(_NOT_AN_EXPORT) from None
        if size:
            raise InvalidInput("The file was truncated. Nothing was imported.")

    def _next(self) -> str | None:
        line = next(self._lines, None)
        if line is None:
            return None
        if len(line) > self._limits.line_bytes:
            raise _too_long()
        self._before_last = self._sum.hexdigest()
        self._sum.update(line)
        self._sum.update(b"\n")
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise InvalidInput(_NOT_AN_EXPORT) from None

    def _parsed(self, text: str | None) -> dict[str, Any]:
        """Return the JSON object that the text is.

        Errors:
            InvalidInput; TooLarge for one of more values than the memory allows.
        """
        if text is None:
            raise InvalidInput(_NOT_AN_EXPORT)
        if sum(map(text.count, "[{,:")) > self._limits.line_values:
            raise _too_long()
        try:
            value = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise InvalidInput(_NOT_AN_EXPORT)
        return value

    def header(self) -> Header:
        """Return the first line.

        Errors:
            InvalidInput unless it is of this format and schema revision, and names a project and its rows.
        """
        header = self._parsed(self._next())
        if header.get("format") != FORMAT or header.get("version") != VERSION:
            raise InvalidInput("The file is no export of derwin-db, or of a version that this code does not read.")
        if header.get("revision") != HEAD_REVISION:
            raise InvalidInput(
                f"The file was exported at another schema revision than {HEAD_REVISION}, the one of this code. Import it with "
                "the version that wrote it, then migrate."
            )
        try:
            result = Header.model_validate(header)
        except ValidationError:
            raise InvalidInput("The first line of the file names no project, or not its rows. Nothing was imported.") from None
        if any(name in TABLES or _OWN.fullmatch(name) is None for name in result.own):
            raise InvalidInput(_NOT_AN_EXPORT)
        self._slug, self.tables = result.slug, (*TABLES, *result.own)
        self.counts = dict.fromkeys(self.tables, 0)
        return result

    def root(self) -> str:
        """Return the row of the project, as JSON.

        Errors:
            InvalidInput unless it is the one of the first line.
        """
        found = _ROW.fullmatch(self._next() or "")
        row = self._parsed(found[2]) if found is not None and found[1] == "projects" else {}
        if found is None or (row.get("id"), row.get("slug")) != (str(project_id_of(self._slug)), self._slug):
            raise InvalidInput("The file does not begin with its project. Nothing was imported.")
        return found[2]

    def batch(self) -> Batch | None:
        """Return the next rows of one table, as many as one statement takes; None behind the last, which is looked at.

        Errors:
            InvalidInput, TooLarge.
        """
        rows: list[Row] = []
        size = 0
        while (row := self._kept or next(self._rows, None)) is not None:
            self._kept = row
            size += len(row.text)
            if rows and (row.table != rows[0].table or len(rows) == BATCH or size > self._limits.line_bytes):
                break
            self._kept = None
            rows.append(row)
        if not rows:
            return None
        self.counts[rows[0].table] += len(rows)
        text = "[" + ",".join(row.text for row in rows) + "]"
        return Batch(rows[0].table, text, len(rows), [row.duplicate for row in rows if row.duplicate is not None])

    def _read_rows(self) -> Iterator[Row]:
        """Yield the rows, in the order of the tables, up to the last line, which has to fit."""
        reached = 0
        while (line := self._next()) is not None:
            found = _ROW.fullmatch(line)
            if found is None:
                self._check_end(self._parsed(line))
                return
            if found[1] not in self.tables[reached:]:
                raise InvalidInput("The file holds something that is no row of a project. Nothing was imported.")
            reached = self.tables.index(found[1])
            yield self._row(found[1], found[2])
        raise InvalidInput(_ALTERED)

    def _row(self, table: str, text: str) -> Row:
        content = self._parsed(text)
        if table == "spend_ledger" and content.get("project_slug") != self._slug:
            raise InvalidInput("The file's ledger names another project. Nothing was imported.")
        of = content.get("duplicate_of_id") if table == "qa_tickets" else None
        return Row(table, text, None if of is None else (str(content.get("id")), str(of)))

    def _check_end(self, end: dict[str, Any]) -> None:
        if end.get("end") is not True or end.get("sha256") != self._before_last:
            raise InvalidInput(_ALTERED)
        self._end_rows = end.get("rows")
        if self._next() is not None:
            raise InvalidInput("The file goes on behind its end. Nothing was imported.")

    def check_counts(self, header: Header) -> None:
        """Compare how many rows the first and the last line promise with how many came.

        Errors:
            InvalidInput.
        """
        if not header.rows == self._end_rows == self.counts:
            raise InvalidInput(_ALTERED)

    def digest(self) -> str:
        """Return the SHA-256 of all lines so far."""
        return self._sum.hexdigest()


def _too_long() -> TooLarge:
    return TooLarge(
        "The file has a line that takes more memory than an import may: no export of usual rows has. If it is one, raise "
        "DERWIN_IMPORT_MEMORY_MIB. Nothing was imported."
    )


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError  # NaN and the infinities are no JSON
