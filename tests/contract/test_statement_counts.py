"""What each verb costs: round trips, counted by the driver itself, on a connection whose statements are prepared.

A unit of work that writes is its statements and two round trips more: one begins, sets role and scope; one commits. What is
read before the first write runs alone, and begins nothing. Behind a transaction pooler each project's unit is a transaction.
"""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from derwin_db import Database, repos
from derwin_db.testing import TestDatabase
from tests.contract.round_trips import PAGE, published, table
from tests.contract.verbs import ADMIN_CALLS, PROJECT_CALLS, SHARED, Call, public_verbs
from tests.repos.filling import REPOSITORIES, fill
from tests.repos.test_projects import a_project


class Counted:
    """A database whose pools have one connection each, and how many round trips these made."""

    def __init__(self, db: Database) -> None:
        assert db._app is not None
        self.db = db
        self.reads_alone = db._app.preamble.allows_alone
        self.begin_and_commit = 2

    def round_trips(self, call: Call) -> int:
        """Return what the call costs as a unit of its own."""
        return call.statements + (0 if self.reads_alone and call.reads else self.begin_and_commit)

    async def new_project(self) -> UUID:
        async with self.db.admin(reason="a test") as admin:
            return (await repos.projects.create(admin, a_project())).id

    async def cost(self, unit: Any, run: Any) -> int:
        """Return the round trips of the whole unit of work."""
        before = self._round_trips()
        async with unit as session:
            await run(session)
        return self._round_trips() - before

    def _round_trips(self) -> int:
        pools = [pool for pool, _ in (self.db._app, self.db._admin) if pool is not None]  # type: ignore[misc]
        connections = [connection for pool in pools for connection in (*pool._idle, *pool._used)]
        return sum(connection._protocol.queries_count for connection in connections)


@pytest.fixture(scope="module")
async def counted(migrated: TestDatabase) -> AsyncIterator[Counted]:
    urls = {name: f"{url}{'&' if '?' in url else '?'}connection_limit=1" for name, url in migrated.urls.items()}
    async with Database(**urls) as db:
        yield Counted(db)


@pytest.fixture(scope="module")
async def filled(counted: Counted) -> UUID:
    """A project with rows in all tables."""
    project = await counted.new_project()
    await fill(counted.db, project)
    return project


class TestVerbs:
    def test_none_is_forgotten(self) -> None:
        """A new method is counted, and its plans are looked at, once verbs.py says how to call it."""
        shared = {f"{table}.{name}" for table in REPOSITORIES for name in SHARED}
        assert {call.verb for call in (*PROJECT_CALLS, *ADMIN_CALLS)} | shared == public_verbs()

    def test_are_published(self) -> None:
        assert published(PAGE.read_text()) == table(), "python -m tests.contract.round_trips"

    @pytest.mark.parametrize("call", PROJECT_CALLS, ids=str)
    async def test_of_a_project(self, counted: Counted, call: Call) -> None:
        for _ in range(2):  # the first time, statements are prepared
            project = await counted.new_project()
            async with counted.db.project(project) as session:
                await repos.projects.current(session)  # a project that was not seen yet is looked for, once
                made = await call.prepare(session)
            cost = await counted.cost(counted.db.project(project), lambda session, made=made: call.run(session, made))
        assert cost == counted.round_trips(call)

    @pytest.mark.parametrize("call", ADMIN_CALLS, ids=str)
    async def test_of_the_admin_door(self, counted: Counted, call: Call) -> None:
        for _ in range(2):
            project = await counted.new_project()
            unit = counted.db.admin(reason="a test")
            cost = await counted.cost(unit, lambda admin, project=project: call.run(admin, project))
        assert cost == call.statements + 2


class TestReads:
    @pytest.mark.parametrize("verb", ["get", "find", "get_many", "exists", "list", "list after a cursor", "count"])
    @pytest.mark.parametrize("table", sorted(REPOSITORIES))
    async def test_are_one_statement(self, counted: Counted, filled: UUID, table: str, verb: str) -> None:
        repo = REPOSITORIES[table]
        async with counted.db.project(filled) as session:
            page = await repo.list(session, limit=1)
        id, cursor = page.items[0].id, page.next_cursor
        reads: dict[str, Any] = {
            "get": lambda session: repo.get(session, id),
            "find": lambda session: repo.find(session, id),
            "get_many": lambda session: repo.get_many(session, [id]),
            "exists": lambda session: repo.exists(session, id),
            "list": repo.list,
            "list after a cursor": lambda session: repo.list(session, limit=1, cursor=cursor),
            "count": repo.count,
        }
        for _ in range(2):
            cost = await counted.cost(counted.db.project(filled, read_only=True), reads[verb])
        assert cost == (1 if counted.reads_alone else 1 + counted.begin_and_commit)

    @pytest.mark.parametrize("table", sorted(REPOSITORIES))
    async def test_a_total_is_one_statement_more(self, counted: Counted, filled: UUID, table: str) -> None:
        for _ in range(2):
            unit = counted.db.project(filled, read_only=True)
            cost = await counted.cost(unit, lambda session: REPOSITORIES[table].list(session, with_total=True))
        assert cost == (2 if counted.reads_alone else 2 + counted.begin_and_commit)

    @pytest.mark.parametrize("table", sorted(REPOSITORIES))
    async def test_a_stream_is_a_cursor_and_its_batches(self, counted: Counted, filled: UUID, table: str) -> None:
        async def read(session: Any) -> None:
            async for _ in REPOSITORIES[table].stream(session):
                pass

        for _ in range(2):
            cost = await counted.cost(counted.db.project(filled, read_only=True), read)
        assert cost <= 5 + counted.begin_and_commit

    async def test_a_unit_without_a_statement_costs_nothing(self, counted: Counted, filled: UUID) -> None:
        async def nothing(_: Any) -> None:
            return None

        assert await counted.cost(counted.db.project(filled), nothing) == 0
