"""Pages and cursors: keyset paging, newest first.

A cursor holds the key of the last row and a digest over the project and the query that made it. It is not a secret: a
forged one leads to another place among the rows of the same project, and nowhere else.
"""

import base64
import binascii
import hashlib
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from derwin_db.errors import InvalidCursor, InvalidInput

T = TypeVar("T")

MAX_LIMIT = 500
_DIGEST_BYTES = 12
_KEY = struct.Struct(">q16s")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Page(BaseModel, Generic[T]):
    """One page of a list. `next_cursor` is None on the last one."""

    # deferred: annotations alone make 14 classes at import
    model_config: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True, defer_build=True)

    items: list[T]
    next_cursor: str | None = None


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


def encode_cursor(digest: bytes, created_at: datetime, row_id: UUID) -> str:
    """Return the cursor that goes on behind this row."""
    return encode_place(digest, (created_at - _EPOCH) // _MICROSECOND, row_id)


def encode_place(digest: bytes, place: int, row_id: UUID) -> str:
    """Return the cursor that goes on behind this row, in an order by a number and the id."""
    key = _KEY.pack(place, row_id.bytes)
    return base64.urlsafe_b64encode(key + _sign(digest, key)).decode().rstrip("=")


def decode_cursor(cursor: object, digest: bytes) -> tuple[datetime, UUID]:
    """Return the key that the cursor holds.

    Errors:
        InvalidCursor unless this query of this project made it.
    """
    microseconds, row_id = decode_place(cursor, digest)
    return _EPOCH + timedelta(microseconds=microseconds), row_id


def decode_place(cursor: object, digest: bytes) -> tuple[int, UUID]:
    """Return the number and the id that the cursor holds.

    Errors:
        InvalidCursor unless this query of this project made it.
    """
    length = -(-(_KEY.size + _DIGEST_BYTES) * 8 // 6)
    if not isinstance(cursor, str) or len(cursor) != length or not cursor.isascii():
        raise InvalidCursor
    try:
        raw = base64.b64decode(cursor + "=" * (-length % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidCursor from None
    key, given = raw[: _KEY.size], raw[_KEY.size :]
    if given != _sign(digest, key) or base64.urlsafe_b64encode(raw).decode().rstrip("=") != cursor:
        raise InvalidCursor
    place, row_id = _KEY.unpack(key)
    return place, UUID(bytes=row_id)


def _sign(digest: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(key, key=digest, digest_size=_DIGEST_BYTES).digest()


def make_page(model: type[T], rows: Sequence[T], limit: int, digest: bytes) -> Page[T]:
    """Return the page of up to `limit` rows; one row more says that there is another page."""
    items = list(rows[:limit])
    cursor = None
    if len(rows) > limit:
        last = items[-1]
        cursor = encode_cursor(digest, last.created_at, last.id)  # type: ignore[attr-defined]  # every table has both
    return Page[model].model_construct(items=items, next_cursor=cursor)  # type: ignore[valid-type]  # the class of this model's pages
