"""The file of an export alone: what is read of it before a row is looked at."""

import hashlib
import io
import json
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import zstandard

from derwin_db.errors import InvalidInput, TooLarge
from derwin_db.fields.scalars import project_id_of
from derwin_db.sql import HEAD_REVISION
from derwin_db.transfer.lines import FORMAT, TABLES, VERSION, Limits, Lines

LIMITS = Limits(16)
NONE = dict.fromkeys(TABLES, 0)


def packed(data: bytes) -> io.BytesIO:
    return io.BytesIO(zstandard.ZstdCompressor().compress(data))


def file_of(*rows: tuple[str, Any], head: dict[str, int] | None = None, **end: Any) -> io.BytesIO:
    """A whole file of these rows; the head may say other numbers of rows, and the last line something else."""
    tables = [table for table, _ in rows]
    counts = {name: tables.count(name) for name in TABLES}
    first = {"format": FORMAT, "version": VERSION, "revision": HEAD_REVISION, "slug": "acme", "rows": head or counts}
    root = {"id": str(project_id_of("acme")), "slug": "acme"}
    lines = [first, *({"table": table, "row": row} for table, row in (("projects", root), *rows))]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    last = {"end": True, "rows": counts, "sha256": hashlib.sha256(body).hexdigest(), **end}
    return packed(body + json.dumps(last).encode() + b"\n")


def read(file: io.BytesIO, limits: Limits = LIMITS) -> list[tuple[str, int]]:
    """Read the whole file; the table and the number of rows of each batch."""
    lines = Lines(file, limits)
    header = lines.header()
    lines.root()
    batches = []
    while (batch := lines.batch()) is not None:
        assert len(json.loads(batch.rows)) == batch.count
        batches.append((batch.table, batch.count))
    lines.check_counts(header)
    return batches


class TestBatches:
    def test_are_of_one_table_and_no_more_rows_than_a_statement_takes(self) -> None:
        rows: Sequence[tuple[str, Any]] = [("qa_runs", {})] * 2 + [("qa_tickets", {})] * 1001 + [("policies", {})]
        assert read(file_of(*rows)) == [
            ("qa_runs", 2),
            ("qa_tickets", 500),
            ("qa_tickets", 500),
            ("qa_tickets", 1),
            ("policies", 1),
        ]

    def test_are_no_larger_than_the_longest_line(self) -> None:
        half = {"title": "x" * (LIMITS.line_bytes // 2 - 100)}
        assert read(file_of(*[("qa_tickets", half)] * 5)) == [("qa_tickets", 2), ("qa_tickets", 2), ("qa_tickets", 1)]


class TestHead:
    @pytest.mark.parametrize("number", ["1", True, 1.0, -1, None])
    def test_of_what_is_no_number_of_rows_is_refused(self, number: Any) -> None:
        with pytest.raises(InvalidInput, match="The first line of the file"):
            read(file_of(("qa_runs", {}), head={**NONE, "qa_runs": number}))


class TestRoot:
    OWN: ClassVar[dict[str, str]] = {"id": str(project_id_of("acme")), "slug": "acme"}

    @pytest.mark.parametrize(
        "line",
        [
            None,
            [],
            {"table": "qa_runs", "row": OWN},
            {"table": "projects", "row": {**OWN, "slug": "other"}},
            {"table": "projects", "row": {**OWN, "id": str(project_id_of("other"))}},
            {"table": "projects", "row": {}},
        ],
    )
    def test_that_is_not_the_project_of_the_head_is_refused(self, line: Any) -> None:
        head = zstandard.ZstdDecompressor().stream_reader(file_of()).read().splitlines()[0]
        lines = [head] if line is None else [head, json.dumps(line).encode()]
        with pytest.raises(InvalidInput, match="does not begin with its project"):
            read(packed(b"".join(one + b"\n" for one in lines)))


class TestEnd:
    @pytest.mark.parametrize("more", [b"x", b"\0" * 1000, packed(b"").getvalue() + b"x", packed(b"{}\n").getvalue()])
    def test_of_the_compression_is_that_of_the_file(self, more: bytes) -> None:
        with pytest.raises(InvalidInput):
            read(io.BytesIO(file_of(("qa_runs", {})).getvalue() + more))

    @pytest.mark.parametrize("end", [{"end": False}, {"end": 1}, {"sha256": "0" * 64}, {"rows": NONE}, {"rows": None}])
    def test_that_does_not_fit_is_refused(self, end: dict[str, Any]) -> None:
        with pytest.raises(InvalidInput, match="its digest does not match"):
            read(file_of(("qa_runs", {}), **end))

    def test_of_other_numbers_than_the_head_is_refused(self) -> None:
        assert read(file_of(("qa_runs", {}))) == [("qa_runs", 1)]
        with pytest.raises(InvalidInput, match="its digest does not match"):
            read(file_of(("qa_runs", {}), head={**NONE, "qa_runs": 2}))


class TestMemory:
    def test_a_line_without_end_is_given_up_at_its_limit(self) -> None:
        """A few bytes may unpack to more than a machine holds: it is not read to the file's end."""
        with pytest.raises(TooLarge):
            Lines(packed(b"x" * (8 * LIMITS.line_bytes)), LIMITS).header()

    @pytest.mark.parametrize(("end", "said"), [(b"", "truncated"), (b"\n", "no export, or")])
    def test_a_line_at_the_limit_is_read(self, end: bytes, said: str) -> None:
        with pytest.raises(InvalidInput, match=said):
            Lines(packed(b"x" * LIMITS.line_bytes + end), LIMITS).header()

    def test_a_line_has_a_16th_of_it(self) -> None:
        assert Limits(64).line_bytes == 4 * 1024 * 1024

    @pytest.mark.parametrize("more", [1, 1000])
    def test_a_line_that_ends_just_behind_it_is_not(self, more: int) -> None:
        with pytest.raises(TooLarge):
            Lines(packed(b"x" * (LIMITS.line_bytes + more) + b"\n"), LIMITS).header()

    def test_the_beginning_of_another_line_is_refused(self) -> None:
        with pytest.raises(InvalidInput, match="truncated"):
            list(Lines(packed(b"{"), LIMITS)._lines)
