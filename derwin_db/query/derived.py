"""Columns that triggers derive for search: a second face of their tables, for statements alone.

They are in no model: nobody writes them, and no row that is read has them. Source: derwin_db/sql/search_*.sql.
"""

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pgvector.sqlalchemy import BIT
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlmodel import SQLModel

from derwin_db.fields.scalars import NIL
from derwin_db.fields.vector import VECTOR_SIZE
from derwin_db.query.builders import table_of

_TYPES: dict[str, Any] = {"bits": BIT(VECTOR_SIZE), "words": TSVECTOR()}


def searchable(model: type[SQLModel], *names: str) -> sa.Table:
    """Return the model's table with these derived columns too."""
    table = table_of(model)
    derived = [sa.Column(name, _TYPES[name]) for name in names]
    own = [sa.Column(column.name, column.type) for column in table.columns]
    return sa.Table(table.name, sa.MetaData(), *own, *derived, schema=table.schema)


def by_key(table: Any) -> list[sa.ColumnElement[bool]]:
    """Return bounds of the id that leave nothing out, for a search that reads all rows of a project.

    They let the planner expect few rows and enter by the key, however large the project's share of the table is: an index
    that answers by itself is dearer to it than it is, and it would read the whole table. As values of subqueries they are
    unknown to it, in a plan for these parameters too.
    """
    first, last = (sa.select(sa.literal(value, sa.Uuid())).scalar_subquery() for value in (NIL, UUID(int=2**128 - 1)))
    return [table.c.id >= first, table.c.id <= last]
