"""Tables of a service's own, as the catalog knows them: what a process finds that has never heard of their classes.

A table is one of the project's if its rows go with it: a foreign key to `projects` that cascades. It is fenced if it has our
policy; one that is not can be named, and no more: no role of ours reads it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from derwin_db.query.builders import one_of
from derwin_db.query.statement import Statement, tuples
from derwin_db.session import UnitOfWork
from derwin_db.sql import PROJECT_TABLES

_TEXT = sa.Text()
_CLASS = sa.table("pg_class", *(sa.column(n) for n in ("oid", "relnamespace")), sa.column("relname", _TEXT),
                  schema="pg_catalog")  # fmt: skip
_COLUMN = sa.table("pg_attribute", *(sa.column(n) for n in ("attrelid", "attnum", "attisdropped", "attgenerated")),
                   sa.column("attname", _TEXT), schema="pg_catalog")  # fmt: skip
_KEY = sa.table("pg_constraint", *(sa.column(n) for n in ("conrelid", "confrelid", "contype", "confdeltype")),
                schema="pg_catalog")  # fmt: skip


_POLICY = sa.table("pg_policy", sa.column("polrelid"), sa.column("polname", _TEXT), schema="pg_catalog")


@dataclass(frozen=True)
class OwnTable:
    """One table of the service. `parents` are those of the service that it refers to."""

    name: str
    columns: tuple[str, ...]
    is_fenced: bool
    parents: frozenset[str] = field(default=frozenset())

    @property
    def table(self) -> sa.Table:
        """The table, as statements name it."""
        return _table(self.name, self.columns)


@cache
def _table(name: str, columns: tuple[str, ...]) -> sa.Table:
    kinds = {"project_id": sa.Uuid(), "id": sa.Uuid()}
    return sa.Table(name, sa.MetaData(), *(sa.Column(c, kinds.get(c, sa.types.NULLTYPE)) for c in columns), schema="public")


async def own_tables(session: UnitOfWork, *, is_scoped: bool = True) -> list[OwnTable]:
    """Return the tables of the service whose rows go with their project, parents first. One statement.

    Of those that refer to each other in a circle, one comes before its parent.
    """
    rows = await session.fetch(_own_statement(is_scoped=is_scoped), {})
    found = {row[0]: OwnTable(row[0], tuple(row[1]), bool(row[2]), frozenset(row[3])) for row in rows}
    seen: set[str] = set()
    return [one for name in found for one in _with_parents(name, found, seen)]


def _with_parents(name: str, found: Mapping[str, OwnTable], seen: set[str]) -> Iterator[OwnTable]:
    """Yield the table behind those that it refers to, without those that were seen."""
    if name not in seen:
        seen.add(name)
        for parent in sorted(found[name].parents & found.keys()):
            yield from _with_parents(parent, found, seen)
        yield found[name]


@cache
def _own_statement(*, is_scoped: bool) -> Statement[tuple[Any, ...]]:
    projects = sa.func.to_regclass("public.projects")
    goes_with_project = sa.exists().where(
        _KEY.c.conrelid == _CLASS.c.oid, _KEY.c.confrelid == projects, _KEY.c.contype == "f", _KEY.c.confdeltype == "c"
    )
    columns = (
        sa.select(sa.func.array_agg(aggregate_order_by(sa.cast(_COLUMN.c.attname, _TEXT), _COLUMN.c.attnum)))
        .where(_COLUMN.c.attrelid == _CLASS.c.oid, _COLUMN.c.attnum > 0, ~_COLUMN.c.attisdropped, _COLUMN.c.attgenerated == "")
        .scalar_subquery()
    )
    other, key = _CLASS.alias("other"), _KEY.alias("key")
    parents = (
        sa.select(sa.func.coalesce(sa.func.array_agg(sa.cast(other.c.relname, _TEXT)), sa.cast(sa.literal("{}"), ARRAY(_TEXT))))
        .select_from(key.join(other, other.c.oid == key.c.confrelid))
        .where(key.c.conrelid == _CLASS.c.oid, key.c.contype == "f")
        .scalar_subquery()
    )
    is_ours = one_of(sa.cast(_CLASS.c.relname, _TEXT), ["projects", *PROJECT_TABLES])
    is_fenced = sa.exists().where(_POLICY.c.polrelid == _CLASS.c.oid, _POLICY.c.polname == "derwin_scope")
    query = (
        sa.select(sa.cast(_CLASS.c.relname, _TEXT), columns, is_fenced, parents)
        .where(_CLASS.c.relnamespace == sa.func.to_regnamespace("public"), ~is_ours, goes_with_project)
        .order_by(_CLASS.c.relname)
    )
    return tuples("projects.own_tables", query, is_scoped=is_scoped)
