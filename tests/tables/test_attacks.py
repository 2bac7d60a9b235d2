"""A table of a service, attacked as ours are: every verb with ids of another project, SQL of the session, and its keys."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from derwin_db import Database, ProjectSession
from derwin_db.deploy.migrations import MigrationSettings, upgrade_service
from derwin_db.errors import DerwinError
from derwin_db.fields.own import own_tables
from derwin_db.repos.own import Repository
from derwin_db.testing import TestDatabase, TestServer, factories
from derwin_db.testing.filling import Filled, create_filled
from derwin_db.testing.traces import Traces
from derwin_db.testing.unfiltered import without_filters
from examples.service.tables import Webhook, WebhookUpdate, webhooks
from tests.tables.conftest import SERVICE

Attack = Callable[[ProjectSession, Filled, Filled], Awaitable[Any]]


async def collected(rows: Any) -> list[Any]:
    return [row async for row in rows]


VERBS: dict[str, Attack] = {
    "get": lambda s, a, b: webhooks.get(s, b.ids("webhooks")[0]),
    "find": lambda s, a, b: webhooks.find(s, b.ids("webhooks")[0]),
    "get_many": lambda s, a, b: webhooks.get_many(s, [*a.ids("webhooks"), *b.ids("webhooks")]),
    "exists": lambda s, a, b: webhooks.exists(s, b.ids("webhooks")[0]),
    "list": lambda s, a, b: webhooks.list(s, ticket_id=[*a.ids("qa_tickets"), *b.ids("qa_tickets")], with_total=True),
    "stream": lambda s, a, b: collected(webhooks.stream(s, url=b.rows["webhooks"][0].url)),
    "count": lambda s, a, b: webhooks.count(s, url=[row.url for row in b.rows["webhooks"]]),
    "create": lambda s, a, b: webhooks.create(s, factories.own(webhooks, ticket_id=b.ids("qa_tickets")[0])),
    "create_many": lambda s, a, b: webhooks.create_many(
        s, [factories.own(webhooks), factories.own(webhooks, ticket_id=b.ids("qa_tickets")[0])], on_error="report"
    ),
    "update": lambda s, a, b: webhooks.update(s, b.ids("webhooks")[0], WebhookUpdate(note="mine")),
    "update_many": lambda s, a, b: webhooks.update_many(s, WebhookUpdate(note="mine"), since="2000-01-01T00:00:00Z"),
    "delete": lambda s, a, b: webhooks.delete(s, b.ids("webhooks")[0]),
}


def sql(text: str) -> Attack:
    async def attack(session: ProjectSession, a: Filled, b: Filled) -> Any:
        values = {"b": b.project_id, "id": b.ids("webhooks")[0], "ticket": b.ids("qa_tickets")[0]}
        used = {name: value for name, value in values.items() if f":{name}" in text}
        result = await session.sql.execute(sa.text(text), used)
        return result.all() if result.returns_rows else result.rowcount

    return attack


TEXTS = {
    text: sql(text)
    for text in (
        "SELECT * FROM webhooks",
        "SELECT count(*), min(url), string_agg(url, ',') FROM public.webhooks WHERE project_id = :b",
        "SELECT * FROM webhooks w, projects p WHERE w.project_id = p.id",
        "WITH x AS (SELECT * FROM webhooks) SELECT * FROM x WHERE id = :id",
        "SELECT t.title, w.url FROM qa_tickets t LEFT JOIN webhooks w ON true WHERE t.id = :ticket",
        "UPDATE webhooks SET note = 'mine' WHERE project_id = :b RETURNING url",
        "UPDATE webhooks SET note = 'mine' RETURNING project_id",
        "UPDATE webhooks SET project_id = :b",
        "UPDATE webhooks SET ticket_id = :ticket",
        "DELETE FROM webhooks WHERE id = :id RETURNING url",
        "DELETE FROM webhooks w USING projects p WHERE p.id = :b",
        "INSERT INTO webhooks (project_id, url, event) VALUES (:b, 'https://a.example.org/', 'TICKET_OPENED')",
        (
            "INSERT INTO webhooks (project_id, id, url, event) VALUES (:b, :id, 'https://a.example.org/', 'TICKET_OPENED')"
            " ON CONFLICT (project_id, id) DO UPDATE SET note = excluded.url RETURNING url"
        ),
        "TRUNCATE webhooks",
        "LOCK TABLE webhooks",
        "ALTER TABLE webhooks DISABLE ROW LEVEL SECURITY",
        "DROP POLICY derwin_scope ON webhooks",
        "COPY webhooks TO STDOUT",
        "SET row_security = off",
        "CREATE TEMPORARY TABLE webhooks (id uuid)",
        "GRANT SELECT ON webhooks TO PUBLIC",
        "CREATE INDEX loose ON webhooks (url)",
    )
}


@dataclass
class Arena:
    db: Database
    database: TestDatabase
    a: Filled
    b: Filled

    async def rows_of_b(self) -> list[Any]:
        owner = await asyncpg.connect(**self.database.owner.connect_arguments())
        try:
            await owner.execute("ALTER TABLE webhooks NO FORCE ROW LEVEL SECURITY")
            rows = await owner.fetch("SELECT *, xmin::text FROM webhooks WHERE project_id = $1 ORDER BY id", self.b.project_id)
            await owner.execute("ALTER TABLE webhooks FORCE ROW LEVEL SECURITY")
            return [tuple(row) for row in rows]
        finally:
            await owner.close()


@pytest.fixture(scope="module")
async def arena(server: TestServer) -> AsyncIterator[Arena]:
    database = await asyncio.to_thread(server.migrated)
    await asyncio.to_thread(upgrade_service, MigrationSettings(database.owner), SERVICE)
    async with Database(**database.urls) as db:
        yield Arena(db, database, await create_filled(db), await create_filled(db))
    await asyncio.to_thread(server.drop, database)


async def outcome(arena: Arena, attack: Attack) -> Any:
    try:
        async with arena.db.project(arena.a.project_id) as session:
            return await attack(session, arena.a, arena.b)
    except (DerwinError, asyncpg.PostgresError, sa.exc.SQLAlchemyError) as error:
        return error


@pytest.fixture(scope="module")
async def before(arena: Arena) -> list[Any]:
    return await arena.rows_of_b()


class TestAttacks:
    def test_every_verb_is_attacked(self) -> None:
        verbs = {name for name, _ in inspect.getmembers(Repository, inspect.isfunction) if not name.startswith("_")}
        assert set(VERBS) == verbs
        assert [table.name for table in own_tables()] == ["webhooks"]

    @pytest.mark.parametrize("fence", ["all fences", "the policies alone"])
    @pytest.mark.parametrize("name", [*VERBS, *TEXTS])
    async def test_gets_and_changes_nothing_of_another_project(
        self, arena: Arena, before: list[Any], name: str, fence: str
    ) -> None:
        attack = {**VERBS, **TEXTS}[name]
        if fence == "all fences":
            got = await outcome(arena, attack)
        else:
            with without_filters():
                got = await outcome(arena, attack)
        brought = {arena.b.project_id, *arena.b.ids("webhooks"), *arena.b.ids("qa_tickets")}
        assert Traces(arena.b).found_in(got, allowed=brought | {arena.b.marker} if name == "stream" else brought) == []
        assert await arena.rows_of_b() == before
        assert len(before) == 2

    @pytest.mark.parametrize("name", ["find", "count", "list", "get_many"])
    async def test_the_filters_hold_without_the_policies(self, server: TestServer, arena: Arena, name: str) -> None:
        owner = await asyncpg.connect(**arena.database.owner.connect_arguments())
        await owner.execute("CREATE POLICY wide ON webhooks TO derwin_app USING (true); DROP POLICY derwin_scope ON webhooks")
        try:
            got = await outcome(arena, VERBS[name])
            assert Traces(arena.b).found_in(got, allowed=set(arena.b.ids("webhooks"))) == []
            assert not (isinstance(got, int) and got)
            with without_filters():
                seen = await outcome(arena, lambda s, a, b: webhooks.count(s))
            assert seen > len(arena.a.ids("webhooks")), "without both fences, the attack would get through"
        finally:
            condition = "project_id = (SELECT public.derwin_scope())"
            await owner.execute(
                "DROP POLICY wide ON webhooks; CREATE POLICY derwin_scope ON webhooks AS RESTRICTIVE FOR ALL TO derwin_app "
                f"USING ({condition}) WITH CHECK ({condition})"
            )
            await owner.close()

    async def test_the_keys_hold_for_the_owner(self, arena: Arena) -> None:
        owner = await asyncpg.connect(**arena.database.owner.connect_arguments())
        await owner.execute("ALTER TABLE webhooks NO FORCE ROW LEVEL SECURITY")
        try:
            with pytest.raises(asyncpg.ForeignKeyViolationError):
                await owner.execute(
                    "UPDATE webhooks SET ticket_id = $1 WHERE project_id = $2", arena.b.ids("qa_tickets")[0], arena.a.project_id
                )
        finally:
            await owner.execute("ALTER TABLE webhooks FORCE ROW LEVEL SECURITY")
            await owner.close()

    async def test_a_row_that_is_handed_over_stays_where_it_is(self, arena: Arena, before: list[Any]) -> None:
        foreign = arena.b.rows["webhooks"][0]

        async def merge(session: ProjectSession, a: Filled, b: Filled) -> Any:
            copy = Webhook(**{**foreign.model_dump(), "note": "mine"})
            await session.sql.merge(copy)
            await session.sql.flush()

        assert isinstance(await outcome(arena, merge), Exception)
        assert await arena.rows_of_b() == before
