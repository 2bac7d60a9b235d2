"""Annotated types that models and inputs share: one place for each bound, in Python and in the database.

An alias such as `Score` carries its Pydantic rules, its column type and, where the database shall hold the rule too, a
CHECK (in the column's `info`; `derwin_db.fields.table` turns it into a named constraint). No tables and no queries here.

Strict where leniency damages silently (bool for a number, float for money, a naive time), lenient where it is harmless
(a UUID's text, ISO 8601 with an offset, an int for a float).
"""

import math
import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, UUID, uuid5

import sqlalchemy as sa
import uuid_utils.compat
from pydantic import AfterValidator, BeforeValidator, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError
from sqlmodel import Field

DERWIN_NAMESPACE = uuid5(NAMESPACE_URL, "derwin-db:projects")
"""Namespace of project ids: the id of a project is `uuid5(DERWIN_NAMESPACE, slug)`, on every machine."""

NIL = UUID(int=0)
SEARCH_TEXT_LENGTH = 10_000
SHORT_TEXT_LENGTH = 500
LONG_TEXT_LENGTH = 1_000_000
LONGEST_WINDOW = timedelta(days=36_525)
JSON_INTEGER = 2**53
INT4_MAX = 2**31 - 1
INT8_MAX = 2**63 - 1

_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_UUID_TEXT = re.compile(r"(?:urn:uuid:)?\{?[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\}?", re.IGNORECASE | re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CLASSIFICATION = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_TOO_FINE = re.compile(r"[.,][0-9]{7}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_URL_FORBIDDEN = re.compile(r"[\x00-\x20\x7f<>\"\\^`{}|]|%00")


def new_id() -> UUID:
    """Return a new UUIDv7: ids of one client sort by their time, so that inserts stay local in the index (RFC 9562)."""
    return uuid_utils.compat.uuid7()


def project_id_of(slug: str) -> UUID:
    """Return the id of the project with this slug: the slug never changes, so neither does the id."""
    return uuid5(DERWIN_NAMESPACE, slug)


def is_slug(value: str) -> bool:
    """Tell whether the text can name a project. One that reads as a UUID can't: it would be taken for an id."""
    return len(value) <= 63 and _SLUG.fullmatch(value) is not None and _UUID_TEXT.fullmatch(value) is None


def refuse(code: str, message: str) -> PydanticCustomError:
    """Return a validation error whose message never holds the value."""
    return PydanticCustomError(code, message)  # pyright: ignore[reportArgumentType]  # constants of ours, not user input


# --- ids ------------------------------------------------------------------------------------------------------------


def _uuid(value: object) -> UUID:
    if isinstance(value, UUID):
        result = value
    elif isinstance(value, str) and _UUID_TEXT.fullmatch(value):
        result = UUID(value)
    else:
        raise refuse("uuid", "Value should be a UUID or its text")
    if result.int == 0:
        raise refuse("uuid", "The nil UUID names nothing")
    return result


def described(description: str, *examples: Any, type: str = "string", **keywords: Any) -> WithJsonSchema:
    """Return what a client is told of a value: the rules that a validator of ours holds, in JSON Schema's words."""
    return WithJsonSchema({"type": type, "description": description, "examples": list(examples), **keywords})


Id = Annotated[
    UUID,
    BeforeValidator(_uuid),
    Field(sa_type=sa.Uuid),
    described("A UUID.", "0198f3c2-7b1e-7c3a-9d52-4e0f6a1b2c3d", format="uuid"),
]
"""A UUID or its text (braces, urn: and missing dashes are understood); never nil."""


# --- text -----------------------------------------------------------------------------------------------------------


def check_text(value: str) -> str:
    """Refuse what PostgreSQL can't store as text: NUL and lone surrogates."""
    if "\0" in value:
        raise refuse("text", "Text should not contain the NUL character")
    if not value.isascii() and _SURROGATE.search(value):
        raise refuse("text", "Text should not contain a lone surrogate")
    return value


def _long(value: str) -> str:
    if len(value) > LONG_TEXT_LENGTH:
        raise refuse("too_large", f"Text should have at most {LONG_TEXT_LENGTH} characters")
    return check_text(value)


def _matching(pattern: re.Pattern[str], message: str) -> AfterValidator:
    def check(value: str) -> str:
        if pattern.fullmatch(value) is None:
            raise refuse("pattern", message)
        return value

    return AfterValidator(check)


def _slug(value: str) -> str:
    if not is_slug(value):
        raise refuse("slug", "A slug has 1 to 63 of a-z, 0-9 and single inner hyphens, and does not read as a UUID")
    return value


def stored(sa_type: Any, check: str, **bounds: Any) -> Any:
    """Column type, CHECK and Pydantic bounds of an alias; `{0}` stands for the column's name. One Field: the first one wins."""
    return Field(sa_type=sa_type, sa_column_kwargs={"info": {"check": check}}, **bounds)


def _text(length: int, **bounds: Any) -> Any:
    return stored(sa.Text, f"char_length({{0}}) BETWEEN 1 AND {length}", **bounds)


ShortText = Annotated[
    str, Strict(), _text(SHORT_TEXT_LENGTH, min_length=1, max_length=SHORT_TEXT_LENGTH), AfterValidator(check_text)
]
"""1 to 500 characters."""

LongText = Annotated[
    str,
    Strict(),
    AfterValidator(_long),
    Field(sa_type=sa.Text),
    described("Text of up to 1,000,000 characters.", "What happens, and what should.", maxLength=LONG_TEXT_LENGTH),
]
"""Up to 1,000,000 characters."""

SearchText = Annotated[str, Strict(), Field(min_length=1, max_length=SEARCH_TEXT_LENGTH), AfterValidator(check_text)]
"""What is searched for by its words: 1 to 10,000 characters."""

Fingerprint = Annotated[str, Strict(), _text(128, min_length=1, max_length=128), AfterValidator(check_text)]
"""1 to 128 characters that say what makes two findings the same."""

Slug = Annotated[
    str,
    Strict(),
    AfterValidator(_slug),
    stored(sa.Text, "{0} ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND char_length({0}) <= 63"),
    described(
        "A name in URLs: 1 to 63 of a-z, 0-9 and single inner hyphens.",
        "acme",
        pattern="^[a-z0-9]+(-[a-z0-9]+)*$",
        minLength=1,
        maxLength=63,
    ),
]

Classification = Annotated[
    str,
    Strict(),
    _matching(_CLASSIFICATION, "A classification has 1 to 64 of a-z, 0-9 and underscore"),
    stored(sa.Text, "{0} ~ '^[a-z0-9_]+$' AND char_length({0}) <= 64"),
    described("What kind of bug it is, in 1 to 64 of a-z, 0-9 and underscore.", "calculation", pattern="^[a-z0-9_]{1,64}$"),
]
"""`ui_bug`, `data_integrity`, ..."""

Sha256 = Annotated[
    str,
    Strict(),
    _matching(_SHA256, "A SHA-256 digest has 64 lower-case hexadecimal digits"),
    stored(sa.Text, "{0} ~ '^[0-9a-f]{{64}}$'"),
    described("A SHA-256 digest, 64 lower-case hexadecimal digits.", "0" * 64, pattern="^[0-9a-f]{64}$"),
]
"""A SHA-256 digest: 64 lower-case hexadecimal digits."""


def _address(value: str, *, schemes: frozenset[str] | None, forbidden: frozenset[str] = frozenset()) -> str:
    check_text(value)
    if not 1 <= len(value) <= SHORT_TEXT_LENGTH:
        raise refuse("url", f"A URL has 1 to {SHORT_TEXT_LENGTH} characters")
    if not value.isascii() or _URL_FORBIDDEN.search(value):
        raise refuse("url", "A URL is ASCII without white space, control or delimiter characters: percent-encode the rest")
    try:
        parts = urlsplit(value)
        has_credentials = parts.username is not None or parts.password is not None
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise refuse("url", "The URL can't be parsed") from None
    if not parts.scheme:
        raise refuse("url", "A URL begins with its scheme")
    if parts.scheme in forbidden or (schemes is not None and parts.scheme not in schemes):
        raise refuse("url", "The URL's scheme is not allowed here")
    if schemes is not None and not host:
        raise refuse("url", "The URL has no host")
    if has_credentials:
        raise refuse("url", "A URL carries no credentials")
    return value


def _web_url(value: str) -> str:
    return _address(value, schemes=frozenset({"http", "https"}))


def _any_uri(value: str) -> str:
    return _address(value, schemes=None, forbidden=frozenset({"javascript", "data", "file"}))


def _described_address(description: str, example: str) -> WithJsonSchema:
    return described(description, example, format="uri", minLength=1, maxLength=SHORT_TEXT_LENGTH)


WebUrl = Annotated[
    str,
    Strict(),
    AfterValidator(_web_url),
    _text(SHORT_TEXT_LENGTH),
    _described_address("A URL with http or https, without credentials.", "https://example.com/acme"),
]
"""http or https, a host, no credentials, up to 500 characters."""

AnyUri = Annotated[
    str,
    Strict(),
    AfterValidator(_any_uri),
    _text(SHORT_TEXT_LENGTH),
    _described_address("A URI of any scheme but javascript, data and file, without credentials.", "s3://evidence/17.png"),
]
"""Any scheme but javascript, data and file; no credentials, up to 500 characters."""


# --- numbers --------------------------------------------------------------------------------------------------------


def _integer(value: object) -> int:
    if type(value) is not int:
        raise refuse("int_type", "Value should be an integer, not a bool, a float or text")
    return value


def _number(value: object) -> float:
    if type(value) is int:
        value = float(value) if abs(value) <= JSON_INTEGER else math.inf
    if not isinstance(value, float) or not math.isfinite(value):
        raise refuse("float_type", "Value should be a finite number, not a bool or text")
    return value


Count = Annotated[int, stored(sa.Integer, "{0} >= 0", ge=0, le=INT4_MAX), BeforeValidator(_integer)]
"""0 to 2^31 - 1."""

ByteSize = Annotated[int, stored(sa.BigInteger, "{0} >= 0", ge=0, le=INT8_MAX), BeforeValidator(_integer)]
"""0 to 2^63 - 1."""

Score = Annotated[float, stored(sa.Double, "{0} >= 0 AND {0} <= 1", ge=0, le=1), BeforeValidator(_number)]
"""0 to 1. NaN sorts above every number in PostgreSQL, so the upper bound refuses it too."""


# --- time -----------------------------------------------------------------------------------------------------------


_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""The driver stores these two as -infinity and infinity."""


def _timestamp(value: object) -> datetime:
    if isinstance(value, str):
        if _TOO_FINE.search(value):
            raise refuse("timestamp", "A time has at most 6 digits of a second: the database keeps microseconds")
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise refuse("timestamp", "A time is ISO 8601 text with an offset") from None
    if not isinstance(value, datetime) or type(value) is date:
        raise refuse("timestamp", "A time is a datetime or ISO 8601 text, never a number or a date")
    if value.utcoffset() is None:
        raise refuse("timestamp", "A time has an offset from UTC; a naive one is ambiguous")
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        moment = _LAST
    if moment in (_FIRST, _LAST):
        raise refuse("timestamp", "The time lies outside of years 1 to 9999 in UTC, or is its first or last moment")
    return moment


Timestamp = Annotated[
    datetime,
    BeforeValidator(_timestamp),
    Field(sa_type=sa.DateTime(timezone=True)),
    described("A time with an offset from UTC, at most to the microsecond.", "2026-11-23T09:30:00Z", format="date-time"),
]
"""A point in time, kept in UTC. A naive time is refused."""


def _window(value: object) -> timedelta:
    if not isinstance(value, timedelta) or not timedelta(0) < value <= LONGEST_WINDOW:
        raise refuse("window", "A window is a timedelta above 0, of at most a hundred years")
    return value


Window = Annotated[timedelta, BeforeValidator(_window)]
"""A length of time above zero, up to a hundred years."""
