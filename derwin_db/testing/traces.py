"""Traces of a project: its ids and its marker in whatever a call returned, raised or logged, and a digest of what it stores."""

import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import inspect as sa_inspect
from sqlmodel import SQLModel

from derwin_db.testing.filling import Filled

_ADDRESS = re.compile(r"0x[0-9a-f]+")
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


class Traces:
    """Finds what belongs to one filled project."""

    def __init__(self, filled: Filled) -> None:
        self.marker: str = filled.marker
        self.ids: set[Any] = {filled.project_id, *(row.id for rows in filled.rows.values() for row in rows)}
        self.times: set[datetime] = {
            value
            for rows in filled.rows.values()
            for row in rows
            for value in row.__dict__.values()
            if isinstance(value, datetime)
        }

    def found_in(self, value: Any, *, allowed: AbstractSet[Any] = frozenset()) -> list[str]:
        """Return the ids and markers of the project in the value, but for what the caller brought along (`allowed`)."""
        found: set[str] = set()
        marker = set() if self.marker in allowed else {self.marker}
        for part in parts_of(value):
            if isinstance(part, UUID):
                found.update({str(part)} if part in self.ids - allowed else ())
            elif isinstance(part, bytes):
                found.update(str(id) for id in self.ids - allowed if id.bytes in part)
                found.update(marker if self.marker.encode() in part else ())
            else:
                found.update(marker if self.marker in part else ())
                found.update(text for text in _UUID.findall(part) if UUID(text) in self.ids - allowed)
        return sorted(found)


def brought_along(traces: Traces, arguments: Any) -> set[Any]:
    """Return what of the project a caller names itself: ids, and the marker. Getting these back is no leak."""
    return {text if text == traces.marker else UUID(text) for text in traces.found_in(arguments)}


def parts_of(value: Any) -> Iterator[UUID | str | bytes]:
    """Yield the ids, texts and bytes in a value, however deep; of an exception, of its causes too."""
    seen: dict[int, Any] = {}  # kept alive: the address of one that is gone may come again
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, UUID | str | bytes):
            yield item
        elif item is None or isinstance(item, int | float) or id(item) in seen:
            continue
        else:
            seen[id(item)] = item
            if isinstance(item, BaseException):
                stack += [str(item), repr(item), item.args, item.__cause__, item.__context__]
                stack += getattr(item, "__notes__", [])
            else:
                stack += list(_inside(item))


def _inside(item: Any) -> Iterator[Any]:
    if isinstance(item, Mapping):
        for pair in item.items():
            yield from pair
    elif isinstance(item, BaseModel):
        yield from fields_of(item).values()
    elif dataclasses.is_dataclass(item) and not isinstance(item, type):
        yield from (getattr(item, field.name) for field in dataclasses.fields(item))
    elif isinstance(item, Collection):
        yield from item
    else:
        yield repr(item)


def fields_of(item: BaseModel) -> dict[str, Any]:
    """Return what an instance holds now. Reading a row through its attributes could load what is not there."""
    if isinstance(item, SQLModel) and (state := sa_inspect(item, raiseerr=False)) is not None:
        return {name: item.__dict__[name] for name in state.mapper.columns.keys() if name in item.__dict__}  # noqa: SIM118
    return {**item.__dict__, **(item.__pydantic_extra__ or {})}


def canonical(value: Any, known: AbstractSet[Any]) -> Any:
    """Return a form of the value that two runs of one call share: ids and times that are not known are only named as such."""
    if isinstance(value, BaseException):
        text = _UUID.sub(lambda found: found[0] if UUID(found[0]) in known else "<UUID>", str(value))
        return ("raised", type(value).__name__, _ADDRESS.sub("0x", text))
    if isinstance(value, UUID | datetime):
        return str(value) if value in known else f"<{type(value).__name__}>"
    if isinstance(value, BaseModel):
        return (type(value).__name__, canonical(fields_of(value), known))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return (type(value).__name__, [canonical(getattr(value, field.name), known) for field in dataclasses.fields(value)])
    if isinstance(value, Mapping):
        pairs = [(canonical(key, known), canonical(item, known)) for key, item in value.items()]
        return {"pairs": sorted(pairs, key=repr)}
    if isinstance(value, AbstractSet):
        return sorted((canonical(item, known) for item in value), key=repr)
    if isinstance(value, Collection) and not isinstance(value, str | bytes):
        return [canonical(item, known) for item in value]
    return repr(value)


def digest_query(tables: Iterable[str]) -> str:
    """Return SQL that says of each table how many rows a project ($1) has, what is in them, and who wrote them last."""
    parts = []
    for table in tables:
        scope = "id" if table == "projects" else "project_id"
        parts.append(
            f"SELECT '{table}' AS name, count(*) AS rows, md5(string_agg(md5(t::text), '' ORDER BY t.id)) AS content, "
            f"max(t.xmin::text::bigint) AS written_by FROM public.{table} AS t WHERE t.{scope} = $1"
        )
    return " UNION ALL ".join(parts)
