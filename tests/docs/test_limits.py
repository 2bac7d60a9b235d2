"""The page of limits says what the code holds to, and each of its errors is the one that comes."""

import re
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from typing import Any
from uuid import uuid4

import pytest

from derwin_db import Database, repos
from derwin_db.errors import DerwinError
from derwin_db.fields.scalars import is_slug
from derwin_db.models import Project
from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "reference" / "limits.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (?!what \|)(?P<what>[^|]+) \| (?P<limit>[0-9][0-9,]*) \|", re.MULTILINE)
LIMITS: dict[str, str | None] = {
    "rows of a page (`limit`)": "paging:MAX_LIMIT",
    "a total that is counted (`with_total`)": "repos.base:MAX_TOTAL",
    "ids in one call (`get_many`, `of_tickets`, ...)": "repos.validation:MAX_IDS",
    "rows of each parent (`limit_each`)": "repos.validation:MAX_EACH",
    "values of one filter": "repos.conditions:MAX_VALUES",
    "characters of a text that is searched for": "fields.scalars:SEARCH_TEXT_LENGTH",
    "words of it that count: the longest": "repos.rules.words:MOST_WORDS",
    "characters of a cursor": "paging:_LONGEST_CURSOR",
    "days of a length of time (`older_than`)": "fields.scalars:LONGEST_WINDOW.days",
    "characters of a short text: titles, names, reasons, addresses": "fields.scalars:SHORT_TEXT_LENGTH",
    "characters of a long text": "fields.scalars:LONG_TEXT_LENGTH",
    "characters of a slug": None,
    "numbers of an embedding": "fields.vector:VECTOR_SIZE",
    "bytes of a JSON value": "fields.json:JSON_BYTES",
    "levels of a JSON value": "fields.json:JSON_DEPTH",
    "the largest integer in JSON, so that every reader has it exactly": "fields.scalars:JSON_INTEGER",
    "characters of the name of a service's own table": "fields.own:_LONGEST",
    "rows of a batch": "repos.base:BATCH",
    "past fixes of a batch, which carry embeddings": "repos.rag_corpus:_BATCH",
    "calls of `db.run` in all, after collisions": "database:_COLLISION_ATTEMPTS",
    "calls of `db.run` in all, after other errors that may pass": "database:_RUN_ATTEMPTS",
    "runs at once of one worker": "workers.worker:_MOST_AT_ONCE",
    "characters of a worker's name": "workers.worker:_LONGEST_NAME",
    "hosts of a URL": "settings.url:_MOST_HOSTS",
    "bytes of a file with a secret": "settings.secrets:_LONGEST",
    "seconds of any setting of time": "settings.settings:_LONGEST_SECONDS",
    "rows of a download": "studio.download:MOST_ROWS",
    "lines of a stored diff": "studio.diffs:_MOST_LINES",
    "characters of a statement in the SQL box": "studio.statement:LONGEST",
    "its rows": "studio.sql_box:MOST_ROWS",
    "its columns": "studio.sql_box:MOST_COLUMNS",
    "characters of each of its values": "studio.sql_box:MOST_CHARACTERS",
    "its seconds": "studio.sql_box:SECONDS",
    "statements at a time": "studio.sql_box:AT_ONCE",
}
"""Where each limit is in the code; a slug is held to by a check of its own."""


def value_of(place: str) -> Any:
    module, _, names = place.partition(":")
    value: Any = import_module(f"derwin_db.{module}")
    for name in names.split("."):
        value = getattr(value, name)
    return value


def listed() -> dict[str, int]:
    return {row["what"]: int(row["limit"].replace(",", "")) for row in ROW.finditer(PAGE)}


class TestThePage:
    def test_has_the_limits_of_the_code(self) -> None:
        assert listed() == {what: value_of(place) if place else 63 for what, place in LIMITS.items()}

    def test_has_all_of_its_rows_looked_at(self) -> None:
        rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| what")]
        assert len(rows) == len(LIMITS)

    def test_has_the_longest_slug(self) -> None:
        assert [is_slug("a" * length) for length in (63, 64)] == [True, False]


READS: dict[str, Callable[[Any, int], Any]] = {
    "rows of a page (`limit`)": lambda session, most: repos.qa_runs.list(session, limit=most),
    "ids in one call (`get_many`, `of_tickets`, ...)": (
        lambda session, most: repos.qa_runs.get_many(session, [uuid4() for _ in range(most)])
    ),
    "rows of each parent (`limit_each`)": (
        lambda session, most: repos.audit_artifacts.of_tickets(session, [uuid4()], limit_each=most)
    ),
    "values of one filter": (
        lambda session, most: repos.qa_tickets.list(session, classification=[f"c{number}" for number in range(most)])
    ),
    "characters of a text that is searched for": lambda session, most: repos.qa_tickets.search(session, "a" * most),
    "characters of a cursor": lambda session, most: repos.qa_runs.list(session, cursor="a" * most),
    "days of a length of time (`older_than`)": (
        lambda session, most: repos.qa_runs.requeue_stalled(session, older_than=timedelta(days=most))
    ),
}


@pytest.mark.parametrize("what", READS)
async def test_a_call_beyond_a_limit_has_the_error_of_the_page(db: Database, project: Project, what: str) -> None:
    most = listed()[what]
    (code,) = re.findall(rf"^\| {re.escape(what)} \| [0-9,]+ \| \[(\w+)\]", PAGE, re.MULTILINE)
    async with db.project(project.id) as session:
        with pytest.raises(DerwinError) as refused:
            await READS[what](session, most + 1)
        assert refused.value.code == code
        if code != "invalid_cursor":  # of which none is right by its length alone
            await READS[what](session, most)
