"""Every verb of every repository through PgBouncer in transaction mode: two services by turns on one server connection."""

from typing import Any
from uuid import UUID

import pytest

from derwin_db import Database, repos
from tests.contract.verbs import ADMIN_CALLS, PROJECT_CALLS, SHARED, Call
from tests.repos.filling import REPOSITORIES, fill
from tests.repos.test_projects import a_project

Clients = tuple[Database, Database]


async def new_project(db: Database) -> UUID:
    async with db.admin(reason="a test") as admin:
        return (await repos.projects.create(admin, a_project())).id


@pytest.fixture(scope="module")
async def filled(clients: Clients) -> UUID:
    """A project with rows in all tables, written by the first service."""
    project = await new_project(clients[0])
    await fill(clients[0], project)
    return project


@pytest.mark.parametrize("call", PROJECT_CALLS, ids=str)
async def test_verb_of_a_project(clients: Clients, call: Call) -> None:
    one, two = clients
    project = await new_project(one)
    async with one.project(project) as session:
        made = await call.prepare(session)
    async with two.project(project) as session:
        await call.run(session, made)


@pytest.mark.parametrize("call", ADMIN_CALLS, ids=str)
async def test_verb_of_the_admin_door(clients: Clients, call: Call) -> None:
    one, two = clients
    project = await new_project(one)
    async with two.admin(reason="a test") as admin:
        await call.run(admin, project)


@pytest.mark.parametrize("table", sorted(REPOSITORIES))
async def test_shared_reads(clients: Clients, filled: UUID, table: str) -> None:
    repo: Any = REPOSITORIES[table]
    assert set(SHARED) == {"get", "find", "exists", "list", "stream", "count"}
    for db in clients:
        async with db.project(filled, read_only=True) as session:
            page = await repo.list(session, limit=1)
            id = page.items[0].id
            assert (await repo.get(session, id)).id == (await repo.find(session, id)).id == id
            assert await repo.exists(session, id)
            assert len([row async for row in repo.stream(session)]) == await repo.count(session)
            if page.next_cursor is not None:
                assert (await repo.list(session, limit=1, cursor=page.next_cursor)).items[0].id != id
