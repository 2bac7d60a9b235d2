"""JSON Patch (RFC 6902) within bounds: the difference of two contents, and the replay of a log.

A log may hold what SQL by hand or an imported file put in: a `copy` that doubles the document with every operation, a thousand
levels, a megabyte of operations. Size, depth and time are bounded, and what takes long runs in a thread.

No statement here: the profile's repository reads and writes the log.
"""

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import TypeAdapter

from derwin_db.errors import DerwinError
from derwin_db.fields.json import JSON_BYTES, JSON_DEPTH
from derwin_db.models.profile_evolution_log import PatchOperation

Content = dict[str, Any]

MOST_BYTES = 8 * JSON_BYTES
"""Largest content: four columns of JSON, a summary, and room."""

MOST_DEPTH = JSON_DEPTH + 1
"""The content is an object of columns."""

MOST_OPERATIONS = 100_000
"""Most operations of one patch."""

MOST_SECONDS = 10.0
"""Longest replay of one log."""

FINEST_NODES = 4000
"""From how many values on a field that changed is replaced as a whole: the finest patch takes the square of their number.
Source: jsonpatch 1.35 to 1.47, measured: 4,000 values take 0.04 to 0.15 s, 1,000 take 0.01 to 0.03 s."""

_PATCH: TypeAdapter[list[PatchOperation]] = TypeAdapter(list[PatchOperation])


class OutOfBounds(ValueError):
    """The content gets larger or deeper than any that is written through this package, or the replay takes too long."""


def make_patch(before: Content, after: Content) -> Sequence[PatchOperation]:
    """Return the patch that leads from one content to the other."""
    import jsonpatch

    if _count_nodes((before, after), FINEST_NODES) <= FINEST_NODES:
        return _PATCH.validate_python(list(jsonpatch.make_patch(before, after)))
    operations: list[dict[str, Any]] = []
    for name in sorted(before.keys() | after.keys()):
        old, new = ({name: content[name]} if name in content else {} for content in (before, after))
        if name in before and name in after and _count_nodes((old, new), FINEST_NODES) > FINEST_NODES:
            is_same = old == new and repr(old) == repr(new)  # 1 and 1.0 and True are equal in Python
            operations += [] if is_same else [{"op": "replace", "path": f"/{name}", "value": new[name]}]
        else:
            operations += jsonpatch.make_patch(old, new)
    return _PATCH.validate_python(operations)


def _count_nodes(value: Any, most: int) -> int:
    """Count the values within a value, up to a little more than `most`."""
    pending, count = [value], 0
    while pending and count <= most:
        item = pending.pop()
        count += 1
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
    return count


class Replay:
    """A content that patches are applied to, one after another."""

    def __init__(self, content: Content | None = None) -> None:
        self.content: Any = {} if content is None else content
        self._bytes = _measure(self.content, 0)
        self._seconds = 0.0

    def apply_texts(self, patches: Iterable[str]) -> None:
        """Apply patches as the log stores them.

        Errors:
            DerwinError for what can't be applied, or not within the bounds.
        """
        for patch in patches:
            if patch.count('"op"') > MOST_OPERATIONS:
                raise refused_log()
            try:
                operations = json.loads(patch)
            except (ValueError, RecursionError):  # stored before a CHECK bounded its depth and its numbers
                raise refused_log() from None
            self.apply(operations)

    def apply(self, operations: Iterable[Any]) -> None:
        """Apply one patch.

        Errors:
            As `apply_texts`.
        """
        begin = time.monotonic()
        try:
            for operation in operations:
                self._apply_one(operation)
                if self._seconds + time.monotonic() - begin > MOST_SECONDS:
                    raise OutOfBounds
        except Exception:  # whatever the library makes of what is no patch of this content
            raise refused_log() from None
        self._seconds += time.monotonic() - begin

    def _apply_one(self, operation: dict[str, Any]) -> None:
        import jsonpatch
        import jsonpointer

        depth = operation["path"].count("/")
        if operation["op"] in ("add", "replace"):
            self._grow(_measure(operation["value"], depth))
        elif operation["op"] in ("copy", "move"):
            moved = _measure(jsonpointer.resolve_pointer(self.content, operation["from"]), depth)
            self._grow(moved if operation["op"] == "copy" else 0)
        self.content = jsonpatch.JsonPatch([operation]).apply(self.content, in_place=True)

    def _grow(self, added: int) -> None:
        """Count what is added. Nothing is taken off for what goes: the content is measured where the count gets too large."""
        self._bytes += added
        if self._bytes > 2 * MOST_BYTES:
            self._bytes = _measure(self.content, 0) + added
            if self._bytes > MOST_BYTES:
                raise OutOfBounds


def refused_log() -> DerwinError:
    """Return the error for a log that can't be replayed."""
    return DerwinError(
        "project_profiles: the log holds a change that was not written by this package: it can't be replayed within its bounds."
    )


def _measure(value: Any, depth: int) -> int:
    """Return about how many bytes the value takes as JSON.

    Errors:
        OutOfBounds beyond MOST_BYTES or MOST_DEPTH.
    """
    pending, total = [(value, depth)], 0
    while pending:
        item, level = pending.pop()
        if total > MOST_BYTES or level > MOST_DEPTH:
            raise OutOfBounds
        if isinstance(item, str):
            total += len(item) + 2
        elif isinstance(item, dict):
            total += 2 + sum(len(key) + 4 for key in item)
            pending.extend((child, level + 1) for child in item.values())
        elif isinstance(item, list):
            total += 2 + len(item)
            pending.extend((child, level + 1) for child in item)
        else:
            total += 4
    return total
