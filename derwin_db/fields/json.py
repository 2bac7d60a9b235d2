"""JSON that jsonb keeps as it is: bounded in size and depth, finite, without what PostgreSQL can't store."""

import json
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import to_json

from derwin_db.fields.scalars import JSON_INTEGER, check_text, refuse

JSON_BYTES = 1024 * 1024


JSON_DEPTH = 64

_TOO_LARGE = f"JSON should have at most {JSON_BYTES} bytes"


def check_json(value: Any) -> Any:
    """Refuse what jsonb refuses or changes: NaN, NUL, lone surrogates, big integers, depth over 64, more than 1 MiB."""
    _walk_json(value, 1, JSON_BYTES)
    if len(json.dumps(value, ensure_ascii=False).encode()) > JSON_BYTES:
        raise refuse("too_large", _TOO_LARGE)
    return value


def _walk_json(value: Any, depth: int, room: int) -> int:
    """Look at the value and all in it. Returns how many bytes are left of the room; ends where there are none."""
    if depth > JSON_DEPTH:
        raise refuse("json", f"JSON should have at most {JSON_DEPTH} levels")
    kind = type(value)
    room -= 1  # the least that a value takes
    if kind is str:
        room -= len(value)
        check_text(value)
    elif kind is int:
        if abs(value) > JSON_INTEGER:
            raise refuse("json", "An integer in JSON lies within 2^53")
    elif kind is float:
        if not -JSON_INTEGER <= value <= JSON_INTEGER:  # NaN neither
            raise refuse("json", "A number in JSON is finite and lies within 2^53: beyond, jsonb makes it another integer")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise refuse("json", "A key in JSON is text")
            check_text(key)
            room = _walk_json(item, depth + 1, room - len(key))
    elif kind is list:
        for item in value:
            room = _walk_json(item, depth + 1, room)
    elif value is not None and kind is not bool:
        raise refuse("json", "JSON holds text, numbers, booleans, null, lists and objects only")
    if room < 0:
        raise refuse("too_large", _TOO_LARGE)
    return room


def _json_object(value: object) -> dict[str, Any]:
    if type(value) is not dict:
        raise refuse("json", "Value should be a JSON object")
    return check_json(value)  # type: ignore[no-any-return]


def check_json_size(value: Any) -> Any:
    """Refuse a JSON column of more than 1 MiB, for shapes whose depth their models bound."""
    if len(to_json(value)) > JSON_BYTES:
        raise refuse("too_large", _TOO_LARGE)
    return value


JsonObject = Annotated[dict[str, Any], BeforeValidator(_json_object)]
"""A JSON object whose shape belongs to the caller: at most 1 MiB and 64 levels.

Of a key that a JSON text has twice the last one stays, in every parser on the way: nothing here sees the first.
"""
