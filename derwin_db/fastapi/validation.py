"""What is said of a request that breaks its schema: fields and rules. FastAPI's own answer repeats what was sent."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Response

from derwin_db.errors import InvalidInput, TooLarge
from derwin_db.fastapi.problem import problem

_MOST = 100
_NAME = re.compile(r"[A-Za-z_\[][A-Za-z0-9_\-\]]{0,63}", re.ASCII)
_NOT_VALID = "The value is not valid."

_OWN_RULES = frozenset(
    {"json", "money", "pattern", "secret", "slug", "text", "timestamp", "too_large", "url", "uuid", "vector", "window"}
)
"""Codes that the models of this package refuse with."""

_RULES = _OWN_RULES | frozenset(
    {
        *("missing", "extra_forbidden", "enum", "literal_error", "none_required"),
        *("string_type", "string_too_short", "string_too_long", "string_pattern_mismatch", "bytes_type"),
        *("bool_type", "bool_parsing", "int_type", "int_parsing", "int_parsing_size", "int_from_float"),
        *("float_type", "float_parsing", "finite_number", "decimal_type", "decimal_parsing"),
        *("decimal_max_digits", "decimal_max_places", "decimal_whole_digits"),
        *("greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of", "too_short", "too_long"),
        *("list_type", "dict_type", "set_type", "tuple_type", "model_type", "model_attributes_type"),
        *("date_type", "datetime_type", "time_type", "time_delta_type", "timezone_aware", "timezone_naive"),
        *("uuid_type", "url_type", "json_type"),
    }
)
"""Rules whose sentence is made of the schema alone. Others may quote the input (uuid_parsing quotes a character of it)."""


def refusal(errors: Sequence[Mapping[str, Any]]) -> Response:
    """Return the response to a request with these errors of Pydantic's: 413 where something is too large, else 422."""
    is_large = any(error["type"] == TooLarge.code for error in errors)
    listed = [_listed(error) for error in errors[:_MOST]]
    more = f" The first {_MOST} of {len(errors)} are listed." if len(errors) > _MOST else ""
    detail = f"The request breaks the rules that `errors` lists.{more}"
    return problem(413 if is_large else 422, (TooLarge if is_large else InvalidInput).code, detail, errors=listed)


def _listed(error: Mapping[str, Any]) -> dict[str, str]:
    rule = error["type"]
    return {
        "field": ".".join(_part(part) for part in error["loc"]),
        "rule": rule,
        "message": error["msg"] if rule in _RULES else _NOT_VALID,
    }


def _part(part: object) -> str:
    """A place is named by the schema or by a key of the client's own: only what looks like a name is repeated."""
    text = str(part)
    return text if isinstance(part, int) or _NAME.fullmatch(text) else "?"
