"""How rows are called, and which rows of other tables they name and are named by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from derwin_db.session import ProjectSession
from derwin_db.studio.views import View, Views


@dataclass(frozen=True)
class Child:
    """The rows of another table that name a row."""

    view: View
    filter: str
    count: int
    is_exact: bool


async def names_of(
    session: ProjectSession, views: Views, view: View, rows: Iterable[Any], columns: Sequence[str] | None = None
) -> dict[tuple[str, UUID], Any]:
    """Return how the rows are called that these rows name, by table and id. What is gone is not among them.

    Cost:
        A statement for each table that is named.
    """
    wanted: dict[str, set[UUID]] = {}
    for column, target in view.references.items():
        if columns is None or column in columns:
            ids = {getattr(row, column) for row in rows} - {None}
            wanted.setdefault(target, set()).update(ids)
    found: dict[tuple[str, UUID], Any] = {}
    for target, ids in wanted.items():
        other = views.find(target)
        if other is None:  # a table of the service that has no repository here
            continue
        for id, row in (await other.repository.get_many(session, ids)).items():
            found[target, id] = other.name_of(row)
    return found


async def children_of(session: ProjectSession, views: Views, view: View, row: Any) -> list[Child]:
    """Return the tables that have rows of this one, and how many, up to 10,000.

    Cost:
        A statement or two for each table, through the index of its reference.
    """
    found = []
    for child, name in views.children(view):
        page = await child.repository.list(session, limit=1, with_total=True, **{name: row.id})
        found.append(Child(child, name, page.total, page.is_total_exact))
    return found
