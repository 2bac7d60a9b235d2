"""Files of an export, taken apart into lines and put together again, and the projects that they are of."""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import zstandard

from derwin_db import Database, repos
from derwin_db.fields.scalars import project_id_of
from derwin_db.transfer.lines import TABLES

Lines = list[Any]
"""A file's lines but for the last one: objects, or text that is none."""


def lines_of(data: bytes) -> Lines:
    text = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
    return [json.loads(line) for line in text.splitlines()][:-1]


def counted(lines: Sequence[Any]) -> dict[str, int]:
    """Return how many rows of each table there are."""
    said = lines[0].get("rows") if isinstance(lines[0], dict) else None
    tables = [line.get("table") for line in lines if isinstance(line, dict)]
    return {name: tables.count(name) for name in said or TABLES}


def packed(
    lines: Iterable[Any], rows: dict[str, int] | None = None, *, digest: str | None = None, behind: bytes = b""
) -> bytes:
    """A file of these lines, with a head and a last line that fit them, or say these rows and this digest."""
    lines = list(lines)
    counts = counted(lines) if rows is None else rows
    if isinstance(lines[0], dict) and lines[0].get("rows") is not None:
        lines[0] = {**lines[0], "rows": counts}
    body = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    end = {"end": True, "rows": counts, "sha256": digest or hashlib.sha256(body).hexdigest()}
    return zstandard.ZstdCompressor().compress(body + json.dumps(end).encode() + b"\n" + behind)


async def exists(db: Database, slug: str) -> bool:
    async with db.admin(reason="whether it came in") as admin:
        return await repos.projects.exists(admin, project_id_of(slug))


async def erase(db: Database, slug: str) -> None:
    async with db.admin(reason="out again") as admin:
        await repos.projects.delete(admin, project_id_of(slug), despite_retention=True)
