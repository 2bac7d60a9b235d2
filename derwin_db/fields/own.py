"""Tables of a service's own: the same keys, names and checks as ours, in a registry and metadata that never meet ours.

A class says its columns; its key, the foreign key to its project, what `references` asks for, the index behind `list` and the
names of CHECKs are added here.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from derwin_db.fields.foreign_keys import is_whole, refuse_half_a_key
from derwin_db.fields.table import (
    SCHEMA,
    finish_columns,
    name_of,
    primary_key,
)
from derwin_db.fields.table import ProjectTable as _Keys
from derwin_db.sql import PROJECT_TABLES, VERSION_TABLE

_TAKEN = frozenset({"projects", *PROJECT_TABLES, VERSION_TABLE, "alembic_version"})
_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_LONGEST = 30
"""So that names of its constraints stay within 50."""

OWN_REGISTRY = registry(metadata=sa.MetaData(schema=SCHEMA))
"""Of all tables of the service. Our own 14 are in SQLModel's."""


class ProjectTable(_Keys):
    """Base of a service's own table, whose rows belong to one project.

        class Webhook(Changing, WebhookFields, ProjectTable, table=True):
            __tablename__ = "webhooks"

    `append_only = True` as a ClassVar makes a log of it. A revision creates the table, and fences it by one call:
    `derwin_db.migrations.fence(op, Webhook)`.
    """

    _sa_registry: ClassVar[registry] = OWN_REGISTRY
    metadata: ClassVar[sa.MetaData] = OWN_REGISTRY.metadata

    append_only: ClassVar[bool] = False
    """Whether rows are only ever added. They go with their whole project."""


def references(target: type[SQLModel], *, optional: bool = False, ondelete: str | None = None) -> Any:
    """Return the field of a column that names a row of the same project: a composite foreign key, and an index.

    Without `ondelete="CASCADE"` the row that is named can't be deleted. `optional=True` makes the column nullable.
    """
    if ondelete not in (None, "CASCADE"):
        raise ValueError("ondelete: CASCADE, or nothing. SET NULL would clear the project too.")
    options: dict[str, Any] = {"default": None} if optional else {}
    return Field(**options, sa_type=sa.Uuid, sa_column_kwargs={"info": {"references": (target, ondelete)}})


def own_tables() -> list[sa.Table]:
    """Return the tables of the service that this process knows, parents first."""
    return list(OWN_REGISTRY.metadata.sorted_tables)


def own_logs() -> list[str]:
    """Return the names of those that are append-only. A class that was refused while it was written is none of them."""
    return [str(kind.__table__.name) for kind in _below(ProjectTable) if kind.append_only and hasattr(kind, "__table__")]


def _below(kind: type[Any]) -> Iterator[type[Any]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


@event.listens_for(sa.Table, "after_parent_attach")
def _finish(table: sa.Table, metadata: sa.MetaData) -> None:
    """Give a table of the service its key, foreign keys, index and checks."""
    if metadata is not OWN_REGISTRY.metadata or "project_id" not in table.c:
        return
    if table.name in _TAKEN or len(table.name) > _LONGEST or _NAME.fullmatch(table.name) is None:
        raise ValueError(
            f"{table.name[:64]!r} names no table here: 1 to {_LONGEST} of a-z, 0-9 and underscore, and none of derwin-db's own."
        )
    for reference in table.foreign_keys:
        if not is_whole(reference):
            refuse_half_a_key(table, reference)
    finish_columns(table)
    table.append_constraint(primary_key(table.name))
    projects = SQLModel.metadata.tables[f"{SCHEMA}.projects"]
    key = f"fk_{table.name}_project_id"
    table.append_constraint(sa.ForeignKeyConstraint(["project_id"], [projects.c.id], name=key, ondelete="CASCADE"))
    for column in table.columns:
        if "references" in column.info:
            _refer(table, column)
    if "created_at" in table.c:
        _add_index(table, ["created_at", "id"], table.c.created_at.desc(), table.c.id.desc())


def _refer(table: sa.Table, column: sa.Column[Any]) -> None:
    target, ondelete = column.info["references"]
    there: sa.Table = target.__table__
    if "project_id" not in there.c:
        raise ValueError(f"{table.name}.{column.name}: {there.name} has no rows of a project.")
    table.append_constraint(
        sa.ForeignKeyConstraint(
            ["project_id", column.name],
            [there.c.project_id, there.c.id],
            name=name_of("fk", table.name, [column.name]),
            ondelete=ondelete,
        )
    )
    _add_index(table, [column.name], column)


def _add_index(table: sa.Table, names: Sequence[str], *columns: sa.ColumnElement[Any]) -> None:
    """Add an index that begins with project_id, unless the class has it."""
    name = name_of("ix", table.name, names)
    if name not in {present.name for present in table.indexes}:
        sa.Index(name, table.c.project_id, *columns)


__all__ = ["OWN_REGISTRY", "ProjectTable", "own_logs", "own_tables", "references"]
