"""The schema: columns, keys and references of the tables, as the models say them. No statement is sent for it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from starlette.requests import Request
from starlette.responses import Response

from derwin_db.fields.table import PydanticJson
from derwin_db.studio.rendering import render
from derwin_db.studio.request_params import current, query, unit, views
from derwin_db.studio.views import View

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's
_SHORT = {"TIMESTAMP WITH TIME ZONE": "timestamptz", "DOUBLE PRECISION": "double"}


@dataclass(frozen=True)
class Column:
    """One column, in words."""

    name: str
    type: str
    is_optional: bool
    default: str
    target: str | None
    """The table that it names a row of."""
    values: tuple[str, ...]


@dataclass(frozen=True)
class Described:
    """One table, in words."""

    view: View
    says: str
    columns: list[Column]
    unique: list[str]
    indexes: list[str]


async def show(request: Request) -> Response:
    """Show the schema."""
    query(request)
    async with unit(request) as session:
        project = await current(request, session)
    described = [_described(view) for view in views(request).all()]
    return render(request, "schema.html", project=project, section="schema", described=described)


def _described(view: View) -> Described:
    table = view.table
    says = (view.repository.model.__doc__ or "").strip().partition("\n")[0]
    unique = [_without_project(c.columns) for c in table.constraints if isinstance(c, sa.UniqueConstraint)]
    indexes = [_without_project(index.expressions) for index in table.indexes]
    columns = [_column(view, column) for column in table.c]
    return Described(view, says, columns, sorted(filter(None, unique)), sorted(set(filter(None, indexes))))


def _column(view: View, column: sa.Column[Any]) -> Column:
    default = column.server_default
    text = str(getattr(default, "arg", "")).partition("::")[0].strip("'") if default is not None else ""
    target = "projects" if column.name == "project_id" else view.references.get(column.name)
    values = tuple(column.type.enums) if isinstance(column.type, sa.Enum) else ()
    return Column(column.name, _type(column), bool(column.nullable), text, target, values)


def _type(column: sa.Column[Any]) -> str:
    if isinstance(column.type, PydanticJson):
        return "jsonb"
    if isinstance(column.type, sa.Enum):
        return "enum"
    name = column.type.compile(_DIALECT)
    return _SHORT.get(name, name).lower()


def _without_project(parts: Iterable[Any]) -> str:
    """Return the columns of a key or an index, as SQL has them. Each begins with the project, which is left out."""
    names = [str(part).rpartition(".")[2] for part in parts]
    return ", ".join(name for name in names if name != "project_id")
