"""What a list shows, as a file: CSV for a spreadsheet, JSON for a program. Streamed, and at most 10,000 rows.

A spreadsheet takes a text that begins with `=`, `+`, `-` or `@` for a formula, and runs it. Such a text gets an apostrophe in
front; numbers stay numbers. JSON has every value as it is.

Source:
    OWASP, CSV Injection: the signs that a cell may not begin with, and the apostrophe.
"""

import csv
import io
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import StreamingResponse

from derwin_db.errors import InvalidInput
from derwin_db.paging import MAX_LIMIT, Page
from derwin_db.session import ProjectSession
from derwin_db.studio.listing import Listing
from derwin_db.studio.rendering import as_json, jsonable
from derwin_db.studio.request_params import current, unit, views
from derwin_db.studio.rows import read_page

MOST_ROWS = 10_000
_BATCH = 200
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Signs that a formula begins with, the full-width forms too."""

_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


async def download(request: Request) -> StreamingResponse:
    """Stream the rows of a list, in its order and columns, up to 10,000.

    Cost:
        A page of 200 rows at a time. A unit of work reads the first one, and another one the rest, which lasts as long as the
        download.
    """
    form = request.path_params["form"]
    if form not in _TYPES:
        raise HTTPException(404)
    async with unit(request) as session:
        await current(request, session)
        view = views(request).of(request.path_params["table"])
        listing = Listing.of(view, request.query_params)
        if listing.errors:
            name, rule = next(iter(listing.errors.items()))
            raise InvalidInput(f"{name}: {rule}" if name else rule)
        first = await _page(session, listing, None, 0)  # what is refused is answered as a page: no byte has been sent
    headers = {"Content-Disposition": f'attachment; filename="{request.path_params["project"]}-{view.name}.{form}"'}
    if request.method == "HEAD":  # the server leaves out a body, but all of its pages would have been read
        return StreamingResponse(iter(()), media_type=_TYPES[form], headers=headers)
    write = _csv if form == "csv" else _json
    body = write(("id", *listing.columns), _rows(unit(request), listing, first))
    return StreamingResponse(body, media_type=_TYPES[form], headers=headers)


async def _page(session: ProjectSession, listing: Listing, cursor: str | None, sent: int) -> Page[Any]:
    limit = MAX_LIMIT if listing.words and listing.view.name == "rag_corpus" else min(_BATCH, MOST_ROWS - sent)
    return await read_page(session, listing, limit=limit, cursor=cursor, with_total=False)


async def _rows(rest: ProjectSession, listing: Listing, page: Page[Any]) -> AsyncIterator[Sequence[Any]]:
    sent = 0
    async with rest as session:
        while True:
            yield page.items
            sent += len(page.items)
            if page.next_cursor is None or sent >= MOST_ROWS:
                return
            page = await _page(session, listing, page.next_cursor, sent)


async def _csv(columns: Sequence[str], batches: AsyncIterator[Sequence[Any]]) -> AsyncIterator[str]:
    yield csv_lines([columns])
    async for rows in batches:
        yield csv_lines([[cell(getattr(row, name)) for name in columns] for row in rows])


async def _json(columns: Sequence[str], batches: AsyncIterator[Sequence[Any]]) -> AsyncIterator[str]:
    yield "["
    separator = "\n"
    async for rows in batches:
        for row in rows:
            yield separator + as_json({name: getattr(row, name) for name in columns}, indent=None)
            separator = ",\n"
    yield "\n]\n"


def csv_lines(rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as lines of CSV (RFC 4180)."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerows(rows)
    return buffer.getvalue()


def cell(value: Any) -> str:
    """Return a value as a cell that no spreadsheet runs."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return format(value, "f") if isinstance(value, Decimal) else str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if not isinstance(value, str):
        dumped = jsonable(value)
        value = dumped if isinstance(dumped, str) else as_json(dumped, indent=None)
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULAS) else text
