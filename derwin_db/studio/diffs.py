"""A unified diff as lines with their numbers. What is a change and what a heading is told by counts, not by the first sign."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_PLACE = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@", re.ASCII)
_MOST_LINES = 5_000
"""A stored diff may have a hundred times as many: seconds of this server's time, and of the browser's."""
_KINDS = {"+": "added", "-": "removed", " ": "same", "": "same"}
_SIGNS = {"+": "added", "-": "removed", "@": "place"}


@dataclass(frozen=True)
class Line:
    """One line of a diff. `kind` is `file`, `place`, `same`, `added` or `removed`; `cut` says how much is not shown."""

    kind: str
    text: str
    old: int | None = None
    new: int | None = None


def diff_lines(text: str) -> list[Line]:
    """Return the first lines of a diff as it was stored; a text that is none is told by the first signs of its lines."""
    text = text.removesuffix("\n")
    lines = [line.removesuffix("\r") for line in text.split("\n", _MOST_LINES)[:_MOST_LINES]]
    if any(_PLACE.match(line) for line in lines):
        shown = list(numbered(lines))
    else:
        shown = [Line(_SIGNS.get(line[:1], "same"), line[1:] if line[:1] in "+-" else line) for line in lines]
    if more := text.count("\n") + 1 - len(lines):
        shown.append(Line("cut", f"Not shown here: {more:,} more. An export has all"))
    return shown


def numbered(lines: Iterable[str]) -> Iterator[Line]:
    """Yield the lines with their numbers in the old and in the new text."""
    old = new = 0
    old_left = new_left = 0
    for line in lines:
        if place := _PLACE.match(line):  # what is said to be left may be wrong; a line of the text has a sign in front
            old, new = int(place[1]), int(place[3])
            old_left, new_left = int(place[2] or 1), int(place[4] or 1)
            yield Line("place", line)
            continue
        kind = _KINDS.get(line[:1])
        if kind is None or (old_left <= 0 and new_left <= 0):
            yield Line("file", line)
            continue
        yield Line(kind, line[1:], None if kind == "added" else old, None if kind == "removed" else new)
        if kind != "added":
            old, old_left = old + 1, old_left - 1
        if kind != "removed":
            new, new_left = new + 1, new_left - 1
