"""What a list shows, as a file: CSV for a spreadsheet, JSON for a program. Streamed, and at most 10,000 rows.

A spreadsheet takes a text that begins with `=`, `+`, `-` or `@` for a formula, and runs it. Such a text gets an apostrophe in
front; numbers stay numbers. JSON has every value as it is.

Source:
    OWASP, CSV Injection: the signs that a cell may not begin with, and the apostrophe.
"""

import csv
import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import StreamingResponse

from derwin_db.errors import InvalidInput
from derwin_db.paging import MAX_LIMIT, Page
from derwin_db.session import ProjectSession
from derwin_db.studio.listing import Listing
from derwin_db.studio.request_params import current, unit, views
from derwin_db.studio.rows import read_page

MOST_ROWS = 10_000
_BATCH = 200
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Signs that a formula begins with, the full-width forms too."""

_ANY: TypeAdapter[Any] = TypeAdapter(Any)
_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


async def download(request: Request) -> StreamingResponse:
    """Stream the rows of a list, in its order and columns, up to 10,000.

    Cost:
        A page of 200 rows at a time, in one read-only unit of work that lasts as long as the download.
    """
    form = request.path_params["form"]
    if form not in _TYPES:
        raise HTTPException(404)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(unit(request))
        await current(request, session)
        view = views(request).of(request.path_params["table"])
        listing = Listing.of(view, request.query_params)
        if listing.errors:
            name, rule = next(iter(listing.errors.items()))
            raise InvalidInput(f"{name}: {rule}" if name else rule)
        first = await _page(session, listing, None, 0)  # what is refused is answered as a page: no byte has been sent
        columns = ("id", *listing.columns)
        write = _csv if form == "csv" else _json
        body = _closing(stack.pop_all(), write(columns, _rows(session, listing, first)))
    headers = {"Content-Disposition": f'attachment; filename="{request.path_params["project"]}-{view.name}.{form}"'}
    return StreamingResponse(body, media_type=_TYPES[form], headers=headers)


async def _closing(stack: AsyncExitStack, body: AsyncIterator[str]) -> AsyncIterator[str]:
    """Hand the body on, and end the unit of work with it, also where nobody reads to its end."""
    async with stack:
        async for piece in body:
            yield piece


async def _page(session: ProjectSession, listing: Listing, cursor: str | None, sent: int) -> Page[Any]:
    limit = MAX_LIMIT if listing.words and listing.view.name == "rag_corpus" else min(_BATCH, MOST_ROWS - sent)
    return await read_page(session, listing, limit=limit, cursor=cursor, with_total=False)


async def _rows(session: ProjectSession, listing: Listing, page: Page[Any]) -> AsyncIterator[Sequence[Any]]:
    sent = 0
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
            values = _ANY.dump_python({name: getattr(row, name) for name in columns}, mode="json", by_alias=True)
            yield separator + json.dumps(values, ensure_ascii=False)
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
        dumped = _ANY.dump_python(value, mode="json", by_alias=True)
        value = dumped if isinstance(dumped, str) else json.dumps(dumped, ensure_ascii=False)
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULAS) else text
