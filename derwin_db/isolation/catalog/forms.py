"""How each trigger of this package is made: when it fires, for what, and which function it calls."""

import re
from functools import cache
from typing import Any, NamedTuple

from derwin_db import sql
from derwin_db.errors import APPEND_ONLY_TABLES

_ENTITIES = (
    "append_only_table.v1", "retention.v1", "stamps.v1", "profile_log.v1", "statuses.v1", "queue.v1", "search_qa_tickets.v1",
    "search_rag_corpus.v1",
)  # fmt: skip
"""The files that make triggers; later versions of the same entities replace functions alone."""

_MADE = re.compile(
    r"CREATE (?:CONSTRAINT )?TRIGGER (\w+)\s+(BEFORE|AFTER) (.+?)\s+ON public\.(\w+)\s.*?FOR EACH (ROW|STATEMENT)"
    r"(?: WHEN \((.+?)\))? EXECUTE FUNCTION public\.(\w+)\(\)",
    re.DOTALL,
)
_BITS = {"ROW": 1, "BEFORE": 2, "INSERT": 4, "DELETE": 8, "UPDATE": 16, "TRUNCATE": 32}
"""Source: PostgreSQL, src/include/catalog/pg_trigger.h."""


class Form(NamedTuple):
    """What a trigger is made of: pg_trigger's bits of when and for what, the columns of UPDATE OF, WHEN, and the function."""

    bits: int
    columns: frozenset[str]
    condition: str
    function: str


@cache
def expected_forms() -> dict[tuple[str, str], Form]:
    """Return the form of each trigger, by table and name."""
    texts = [(entity, table) for entity in _ENTITIES for table in (APPEND_ONLY_TABLES if "_table" in entity else ("",))]
    made = (_MADE.finditer("\n".join(sql.read(entity, table=table))) for entity, table in texts)
    return {(found[4], found[1]): _form(found) for each in made for found in each}


def _form(found: re.Match[str]) -> Form:
    events, _, columns = found[3].partition(" OF ")
    words = {found[2], found[5], *re.findall(r"[A-Z]+", events)} - {"OR", "AFTER", "STATEMENT"}
    names = frozenset(name.strip() for name in columns.split(",") if name.strip())
    return Form(sum(_BITS[word] for word in words), names, _plain(found[6] or ""), found[7])


def form_of(row: Any) -> Form:
    """Return the form that a row of the catalog says: `bits`, `columns`, `definition` and `function`."""
    condition = re.search(r" WHEN \((.+)\) EXECUTE ", row["definition"])
    return Form(row["bits"], frozenset(row["columns"]), _plain(condition[1] if condition else ""), row["function"])


def _plain(condition: str) -> str:
    """Return the condition without what the server writes otherwise than we do."""
    return re.sub(r"[()\s]|::text", "", condition).lower()
