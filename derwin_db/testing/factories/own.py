"""Valid inputs and rows of a service's own tables, by their repositories."""

from typing import TypeVar

from derwin_db.fields.own import ProjectTable
from derwin_db.fields.table import Input
from derwin_db.repos.own import Repository
from derwin_db.session import ProjectSession
from derwin_db.testing import filling
from derwin_db.testing.examples import example
from derwin_db.testing.factories.inputs import number

W = TypeVar("W", bound=ProjectTable)
C = TypeVar("C", bound=Input)
U = TypeVar("U", bound=Input)


def own(repository: Repository[W, C, U], **overrides: object) -> C:
    """Return a valid input of a service's own table; what it may refer to is left out."""
    create: type[C] = repository.create_model  # type: ignore[assignment]  # it was made with this one
    return example(create, marker=f"{repository.name} {number(repository.name)}", **overrides)


async def create_own(session: ProjectSession, repository: Repository[W, C, U], **overrides: object) -> W:
    """Write a row of a service's own table. It refers to rows that the project has, and to none where there are none."""
    marker = f"{repository.name} {number(repository.name)}"
    row: W = await filling.create_own(session, repository, marker=marker, **overrides)
    return row
