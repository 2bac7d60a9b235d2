"""Fixtures of the tests of repositories: two projects that are filled once, and read only."""

from dataclasses import dataclass
from uuid import UUID

import pytest

from derwin_db import Database, repos
from derwin_db.models import ProjectCreate, ProjectType
from derwin_db.types import new_id
from tests.repos.filling import fill


@dataclass(frozen=True)
class Filled:
    """The ids of two projects with rows in all tables. Tests leave them as they are."""

    project: UUID
    other: UUID


@pytest.fixture(scope="session")
async def filled(db: Database) -> Filled:
    ids = []
    for _ in range(2):
        async with db.admin(reason="a test") as admin:
            slug = f"filled-{new_id().hex[-20:]}"
            project = await repos.projects.create(admin, ProjectCreate(slug=slug, name="Filled", type=ProjectType.ERP))
        await fill(db, project.id)
        ids.append(project.id)
    return Filled(*ids)
