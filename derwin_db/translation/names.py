"""What a server's error may be quoted with: names of objects, never values.

Two sources. The error's fields (table, column, constraint, type) name what exists in the database. Its message may hold
anything, so a name is taken from it only if it stands as a bare word in the statement itself: outside of string literals,
quoted names and comments, where an author writes names, and no parameter is.
"""

import re
from dataclasses import dataclass

_CITUS_SHARD = re.compile(r"_\d{5,}$")
_CONSTRAINT = re.compile(r'"((?:pk|uq|fk|ck|ix)_[a-z0-9_]+)"')
_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,62}"
_MARKS = "\"'\u00ab\u00bb\u201c\u201d\u201e\u2018\u2019\u300c\u300d"
_QUOTED = re.compile(rf"[{_MARKS}]\s?({_NAME}(?:\.{_NAME})?)\s?[{_MARKS}]")
_DOTTED = re.compile(rf"(?<![\w.])({_NAME}\.{_NAME}(?:\.{_NAME})?)(?![\w.])")
_CALLED = re.compile(rf"(?<![\w.])({_NAME}(?:\.{_NAME})?)\(")
_LAST = re.compile(rf"\s({_NAME})$")
_NOT_BARE = re.compile(
    r"--[^\n]*|/\*.*?\*/|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"",
    re.DOTALL,
)
_WORD = re.compile(rf"\b{_NAME}\b")
_GIVEN = re.compile(r"[^\W\d][\w$ ]*")


_LONGEST_NAME = 63
"""Source: NAMEDATALEN of PostgreSQL, 64 with its end."""


@dataclass(frozen=True)
class Names:
    """The objects that an error is about. Empty where it names none that may be told."""

    schema: str | None = None
    table: str | None = None
    column: str | None = None
    constraint: str | None = None
    data_type: str | None = None
    written: tuple[str, ...] = ()
    """Names of the statement that the message repeats, in its order."""

    def __str__(self) -> str:
        parts = []
        if self.column:
            parts.append(f"column {self.column} of table {self.table}" if self.table else f"column {self.column}")
        elif self.table:
            parts.append(f"table {self.table}")
        if self.constraint:
            parts.append(f"constraint {self.constraint}")
        if self.data_type:
            parts.append(f"type {self.data_type}")
        return ", ".join(parts or self.written)


def names_of(error: BaseException) -> Names:
    """Return what the server's error names, without the shard suffixes of a distributed server."""
    return Names(
        schema=_name(error, "schema_name"),
        table=_without_shard(_name(error, "table_name")),
        column=_name(error, "column_name"),
        constraint=constraint_of(error),
        data_type=_name(error, "data_type_name"),
        written=_written(_field(error, "message") or "", _field(error, "query") or ""),
    )


def constraint_of(error: BaseException) -> str | None:
    """Return the violated constraint's name, without the shard suffix that a distributed server adds."""
    name = _name(error, "constraint_name")
    if name is None:
        found = _CONSTRAINT.search(_field(error, "message") or "")
        name = found.group(1) if found else None
    return _without_shard(name)


def _written(message: str, statement: str) -> tuple[str, ...]:
    """Return the names in the message that are bare words of the statement."""
    words = {word.lower() for word in _WORD.findall(_NOT_BARE.sub(" ", statement))}
    if not words:
        return ()
    found = [name for pattern in (_QUOTED, _DOTTED, _CALLED, _LAST) for name in pattern.findall(message)]
    kept = [name for name in found if all(part.lower() in words for part in name.split("."))]
    return tuple(dict.fromkeys(kept))


def _name(error: BaseException, field: str) -> str | None:
    """Return a name that the error gives. SQL by hand may RAISE any text as one: what needs quotes is none here."""
    value = _field(error, field)
    return value if value is not None and len(value) <= _LONGEST_NAME and _GIVEN.fullmatch(value) else None


def _field(error: BaseException, name: str) -> str | None:
    value = getattr(error, name, None)
    return value if isinstance(value, str) and value else None


def _without_shard(name: str | None) -> str | None:
    return _CITUS_SHARD.sub("", name) if name else None
