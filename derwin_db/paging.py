"""Pages and cursors: keyset paging, in the order of a column and of the id among rows that tie.

A cursor holds the key of the last row and a digest over the project and the query that made it, its order included. It is not
a secret: a forged one leads to another place among the rows of the same project, and nowhere else.
"""

import base64
import binascii
import hashlib
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from derwin_db.errors import InvalidCursor, InvalidInput

T = TypeVar("T")

MAX_LIMIT = 500
_DIGEST_BYTES = 12
_ID_BYTES = 16
_LONGEST_CURSOR = 4096
_CURSOR = "Xk3v0c1mT2yBq4sD8fH6jLnPrUwZaCeG5iKoQtVxYbNdMgRh7pSu"
_INTEGER, _FLOAT = struct.Struct(">q"), struct.Struct(">d")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FROM_TEXT: dict[type[Any], Callable[[str], Any]] = {str: str, UUID: UUID, Decimal: Decimal, date: date.fromisoformat}


class Page(BaseModel, Generic[T]):
    """One page of a list. `next_cursor` is None on the last one.

    With a total, `total` is how many rows the filters select, up to 10,000; `is_total_exact` says whether there are no more.
    """

    # deferred: annotations alone make 14 classes at import
    model_config: ClassVar[ConfigDict] = ConfigDict(defer_build=True)

    items: list[T] = Field(description="The rows, in the order that was asked for.")
    next_cursor: str | None = Field(default=None, description="Of the next page; null on the last one.", examples=[_CURSOR])
    total: int | None = Field(default=None, description="How many rows there are, up to 10,000, if asked for.", examples=[417])
    is_total_exact: bool | None = Field(default=None, description="Whether there are no more than `total`.", examples=[True])


def check_limit(limit: object) -> int:
    """Return the limit.

    Errors:
        InvalidInput unless it is an integer of 1 to 500.
    """
    if type(limit) is not int or not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit: an integer of 1 to {MAX_LIMIT}.")
    return limit


def query_digest(*parts: object) -> bytes:
    """Return a digest of what makes a query: project, table, filters and their values."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


def encode_cursor(digest: bytes, key: Any, row_id: UUID) -> str:
    """Return the cursor that goes on behind this row: `key` is its value in the column of the order.

    Errors:
        InvalidInput for a text that no cursor has room for, of more than 3,000 bytes or so.
    """
    place = _pack(key) + row_id.bytes
    cursor = base64.urlsafe_b64encode(place + _sign(digest, place)).decode().rstrip("=")
    if len(cursor) > _LONGEST_CURSOR:
        raise InvalidInput("order: a text of this column is too long to go on behind it. List by another column.")
    return cursor


def decode_cursor(cursor: object, digest: bytes, kind: type[Any] = datetime) -> tuple[Any, UUID]:
    """Return the key that the cursor holds, of this type, and the id.

    Errors:
        InvalidCursor unless this query of this project made it.
    """
    if not isinstance(cursor, str) or len(cursor) > _LONGEST_CURSOR or not cursor.isascii():
        raise InvalidCursor
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidCursor from None
    place, given = raw[:-_DIGEST_BYTES], raw[-_DIGEST_BYTES:]
    if given != _sign(digest, place) or base64.urlsafe_b64encode(raw).decode().rstrip("=") != cursor:
        raise InvalidCursor
    try:
        return _unpack(place[:-_ID_BYTES], kind), UUID(bytes=place[-_ID_BYTES:])
    except (struct.error, ValueError, OverflowError, InvalidOperation):
        raise InvalidCursor from None


def _pack(key: Any) -> bytes:
    if isinstance(key, datetime):
        return _INTEGER.pack((key - _EPOCH) // _MICROSECOND)
    if isinstance(key, float):
        return _FLOAT.pack(key)
    return _INTEGER.pack(key) if isinstance(key, int) else str(key).encode()


def _unpack(packed: bytes, kind: type[Any]) -> Any:
    if kind is datetime:
        return _EPOCH + timedelta(microseconds=_INTEGER.unpack(packed)[0])
    if kind is float:
        return _FLOAT.unpack(packed)[0]
    if kind in (int, bool):
        return kind(_INTEGER.unpack(packed)[0])
    return _FROM_TEXT[kind](packed.decode())


def _sign(digest: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(key, key=digest, digest_size=_DIGEST_BYTES).digest()


def make_page(model: type[T], rows: Sequence[T], limit: int, digest: bytes, key: str = "created_at") -> Page[T]:
    """Return the page of up to `limit` rows, ordered by `key`; one row more says that there is another page."""
    items = list(rows[:limit])
    cursor = None
    if len(rows) > limit:
        last: Any = items[-1]
        cursor = encode_cursor(digest, getattr(last, key), last.id)
    return Page[model].model_construct(items=items, next_cursor=cursor)  # type: ignore[valid-type]  # the class of this model's pages
