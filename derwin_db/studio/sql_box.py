"""The SQL box: one statement that reads, in the sealed scope of a project, with limits of time, rows and characters.

It is off unless the studio was started with `--sql`. Nothing of a statement reaches another one: each is a unit of work of its
own, that is rolled back, on a connection that is cleaned when it goes back.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from derwin_db.errors import DatabaseTimeout, InvalidInput
from derwin_db.session import ProjectSession
from derwin_db.studio.rendering import render
from derwin_db.studio.request_params import current, query, unit, views
from derwin_db.studio.statement import HARMLESS, RUN_TEXTS, Question, question
from derwin_db.translation.driver_errors import sqlstate_of

SECONDS = 5
MOST_ROWS = 500
MOST_COLUMNS = 50
MOST_CHARACTERS = 1_000
AT_ONCE = 2
"""Statements that run at a time: the rest of the connections is for the pages."""

_LONGEST_MESSAGE = 500
_TIMEOUT, _READ_ONLY = "57014", "25006"
_DO_MORE = (
    "SELECT DISTINCT proname::text FROM pg_catalog.pg_proc "
    "WHERE proname = ANY($1::text[]::name[]) AND (provolatile = 'v' OR prosrc = ANY($2::text[]))"
)
_NUMBERS = frozenset({"int2", "int4", "int8", "float4", "float8", "numeric", "oid"})


@dataclass(frozen=True)
class Column:
    """One column of an answer."""

    name: str
    type: str

    @property
    def is_number(self) -> bool:
        """Whether its values stand under each other."""
        return self.type in _NUMBERS


@dataclass(frozen=True)
class Answer:
    """What the server said: every value as its text, cut where it is long."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str | None]]
    has_more: bool
    milliseconds: int


class Box:
    """The SQL box of one app."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def ask(self, request: Request, text: str) -> Answer:
        """Return the answer to a statement.

        Errors:
            InvalidInput, with the reason or what the server said.
        """
        asked = question(text)
        async with self._turns:
            started_at = time.perf_counter()
            try:
                async with unit(request) as session:
                    columns, rows = await _answer(session, asked)
                    raise _Done(columns, rows)  # rolls back: nothing is kept, whatever it was
            except _Done as done:
                milliseconds = round((time.perf_counter() - started_at) * 1000)
                return Answer(done.columns, done.rows[:MOST_ROWS], len(done.rows) > MOST_ROWS, milliseconds)
            except DatabaseTimeout:
                raise InvalidInput(_too_long()) from None


class _Done(Exception):
    """Ends the unit of work of an answer."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[str | None]]) -> None:
        super().__init__()
        self.columns, self.rows = columns, rows


async def show(request: Request) -> Response:
    """Show the box, and the answer to what was asked.

    Cost:
        The statement, at most five seconds.
    """
    box: Box | None = request.app.state.box
    if box is None:
        raise HTTPException(404)
    asked = query(request, "statement").get("statement", "").replace("\r\n", "\n")  # a browser sends two for one
    answer = refusal = None
    async with unit(request) as session:
        project = await current(request, session)
    if asked:
        try:
            answer = await box.ask(request, asked)
        except InvalidInput as error:
            refusal = error.message
    return render(
        request,
        "sql.html",
        status_code=422 if refusal else 200,
        project=project,
        section="sql",
        statement=asked,
        answer=answer,
        refusal=refusal,
        limits={"seconds": SECONDS, "rows": MOST_ROWS, "columns": MOST_COLUMNS, "characters": MOST_CHARACTERS},
        tables=views(request).all(),
    )


async def _answer(session: ProjectSession, asked: Question) -> tuple[Sequence[Column], Sequence[Sequence[str | None]]]:
    """Run the statement within a SELECT that makes a text of every value, or by itself where it is no SELECT."""
    await session.set_for_unit(f"SET LOCAL statement_timeout = '{SECONDS}s'")
    connection = await (await session.sql.connection()).get_raw_connection()
    driver = cast("Any", connection.driver_connection)
    if driver.get_settings().standard_conforming_strings != "on":
        raise InvalidInput("The server reads backslashes in constants (standard_conforming_strings is off): the box can't.")
    await _check_calls(driver, asked)
    try:
        prepared = await driver.prepare(asked.sql)
        columns = [Column(attribute.name, attribute.type.name) for attribute in prepared.get_attributes()]
        if not 0 < len(columns) <= MOST_COLUMNS:
            raise InvalidInput(f"1 to {MOST_COLUMNS} columns: name those that you want to see.")
        records = await (driver.fetch(_within(asked.sql, len(columns))) if asked.is_select else prepared.fetch())
    except Exception as error:
        if sqlstate_of(error) is None:
            raise
        raise InvalidInput(_said(error)) from None
    return columns, [[None if value is None else str(value) for value in record] for record in records]


async def _check_calls(driver: Any, asked: Question) -> None:
    found = await driver.fetch(_DO_MORE, sorted(asked.calls), sorted(RUN_TEXTS))
    refused = sorted({row[0] for row in found} - HARMLESS)
    if refused:
        names = ", ".join(refused)
        raise InvalidInput(
            f"{names[:200]}: functions that do more than compute (VOLATILE, or running SQL within a string) are not called."
        )


def _within(sql: str, count: int) -> str:
    names = [f"c{number}" for number in range(count)]
    texts = ", ".join(f"pg_catalog.left({name}::pg_catalog.text, {MOST_CHARACTERS + 1})" for name in names)
    return f"SELECT {texts} FROM (\n{sql}\n) AS box ({', '.join(names)}) LIMIT {MOST_ROWS + 1}"


def _said(error: Exception) -> str:
    """Return what the server said, to whoever wrote the statement."""
    state = sqlstate_of(error)
    if state == _TIMEOUT:
        return _too_long()
    if state == _READ_ONLY:
        return "It only reads: the server refused to change something."
    hint = getattr(error, "hint", None)
    said = str(getattr(error, "message", None) or error)[:_LONGEST_MESSAGE]
    return f"The server says: {said}." + (f" {str(hint)[:_LONGEST_MESSAGE]}" if hint else "")


def _too_long() -> str:
    return f"It took longer than {SECONDS} seconds, and was ended."
