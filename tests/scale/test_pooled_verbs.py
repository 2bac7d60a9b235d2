"""Every verb of every repository through PgBouncer in transaction mode: two services by turns on one server connection."""

from typing import Any
from uuid import UUID

import pytest

from derwin_db import Database, repos
from tests.contract.outcomes import outcome, plain, stored
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
async def test_verb_of_a_project_does_what_it_does_without_a_pooler(clients: Clients, db: Database, call: Call) -> None:
    pooled = await outcome(call, await new_project(clients[0]), *clients)
    assert pooled == await outcome(call, await new_project(db), db, db)


@pytest.mark.parametrize("call", ADMIN_CALLS, ids=str)
async def test_verb_of_the_admin_door_does_what_it_does_without_a_pooler(clients: Clients, db: Database, call: Call) -> None:
    pooled = await admin_outcome(call, *clients)
    assert pooled == await admin_outcome(call, db, db)


async def admin_outcome(call: Call, looks: Database, runs: Database) -> Any:
    """What a verb of the admin door answers, and what is stored of its project then. Of all projects, how it answers."""
    project = await new_project(looks)
    async with runs.admin(reason="a test") as admin:
        answer = await call.run(admin, project)
    if call.verb.startswith("projects."):
        return plain(answer), None if call.verb == "projects.delete" else await stored(looks, project)
    return type(answer), await stored(looks, project)


@pytest.mark.parametrize("table", sorted(REPOSITORIES))
async def test_shared_reads(clients: Clients, filled: UUID, table: str) -> None:
    repo: Any = REPOSITORIES[table]
    assert set(SHARED) == {"get", "find", "get_many", "exists", "list", "stream", "count"}
    for db in clients:
        async with db.project(filled, read_only=True) as session:
            page = await repo.list(session, limit=1)
            id = page.items[0].id
            assert (await repo.get(session, id)).id == (await repo.find(session, id)).id == id
            assert list(await repo.get_many(session, [id])) == [id]
            assert await repo.exists(session, id)
            assert len([row async for row in repo.stream(session)]) == await repo.count(session)
            if page.next_cursor is not None:
                assert (await repo.list(session, limit=1, cursor=page.next_cursor)).items[0].id != id
