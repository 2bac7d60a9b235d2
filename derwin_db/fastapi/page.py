"""`Paging`: the query parameters of a list, checked, as keywords for a repository's `list`."""

import re
from typing import Annotated, TypedDict

from fastapi import Depends, Query
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from derwin_db.paging import MAX_LIMIT

_DIGITS = re.compile(r"[0-9]{1,9}", re.ASCII)


class PagingArguments(TypedDict):
    """What `**paging` hands on."""

    limit: int
    cursor: str | None


def _whole_number(value: object) -> int:
    """Python's int() also takes signs, spaces, underscores and the digits of other scripts."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    raise PydanticCustomError("int_parsing", "Input should be a whole number in ASCII digits")


def _paging(
    limit: Annotated[
        int, Query(ge=1, le=MAX_LIMIT, description="How many items a page has at most."), BeforeValidator(_whole_number)
    ] = 50,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
) -> PagingArguments:
    return {"limit": limit, "cursor": cursor}


Paging = Annotated[PagingArguments, Depends(_paging)]
"""`limit` (1..500) and `cursor`: `await repos.qa_tickets.list(session, **paging)`."""
