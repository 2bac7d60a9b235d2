"""The file of an export: JSON Lines in one zstd frame, with a head, a last line, and a digest over all before it."""

import hashlib
import json
from collections.abc import Iterator
from typing import IO, Any
from uuid import UUID

import zstandard

from derwin_db.errors import InvalidInput
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
"""Parents first: an import writes them in this order."""

_LONGEST_LINE = 64 * 1024 * 1024


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

    def digest(self) -> str:
        """Return the SHA-256 of all lines so far."""
        return self._sum.hexdigest()


class Lines:
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
        """Return the first line.

        Errors:
            InvalidInput unless it is of this format and schema revision.
        """
        header = self._next() or {}
        if header.get("format") != FORMAT or header.get("version") != VERSION:
            raise InvalidInput("The file is no export of derwin-db, or of a version that this code does not read.")
        if header.get("revision") != HEAD_REVISION:
            raise InvalidInput(
                f"The file was exported at another schema revision than {HEAD_REVISION}, the one of this code. Import it with "
                "the version that wrote it, then migrate."
            )
        return header

    def root(self, project_id: UUID, slug: str) -> str:
        """Return the row of the project, as JSON.

        Errors:
            InvalidInput unless it is the one of the first line.
        """
        line = self._next() or {}
        row = line.get("row")
        if line.get("table") != "projects" or not isinstance(row, dict):
            row = {}
        if (row.get("id"), row.get("slug")) != (str(project_id), slug):
            raise InvalidInput("The file does not begin with its project. Nothing was imported.")
        return json.dumps(row, ensure_ascii=False)

    def batches(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yield rows of one table, up to BATCH at a time, until the last line.

        Errors:
            InvalidInput.
        """
        batch: list[dict[str, Any]] = []
        current = ""
        while (line := self._next()) is not None:
            if line.get("end"):
                self._end = line
                break
            name, row = line.get("table"), line.get("row")
            if name not in TABLES or not isinstance(row, dict):
                raise InvalidInput("The file holds something that is no row of a project. Nothing was imported.")
            if batch and (name != current or len(batch) == BATCH):
                yield current, batch
                batch = []
            current = name
            batch.append(row)
        if batch:
            yield current, batch

    def check_end(self, rows: dict[str, int]) -> None:
        """Compare the last line with what was read.

        Errors:
            InvalidInput.
        """
        if self._end is None or self._end.get("rows") != rows or self._end.get("sha256") != self._before_last:
            raise InvalidInput("The file was truncated or altered: its digest does not match. Nothing was imported.")
        if self._next() is not None:
            raise InvalidInput("The file goes on behind its end. Nothing was imported.")


def row_line(table: str, row: str) -> str:
    """Return the line of one row, whose JSON is the database's own."""
    return f'{{"table": "{table}", "row": {row}}}'
