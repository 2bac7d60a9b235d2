"""What stands in the way of a migration is told before anything is applied or removed."""

import asyncio
from collections.abc import Callable

import asyncpg
import pytest

from derwin_db import Database, repos, sql
from derwin_db.deploy.fences import remake_fences
from derwin_db.deploy.migrations import check, downgrade, status, upgrade
from derwin_db.deploy.obstacles import check_vector
from derwin_db.doctor import examine
from derwin_db.errors import ConfigurationError, Conflict, DerwinError, ExtensionMissing, SchemaOutOfDate
from derwin_db.seed import LIFELINE, seed_lifeline
from derwin_db.settings import ConnectionInfo
from derwin_db.testing import TestDatabase
from derwin_db.testing.factories import past_fix

from .conftest import FENCED, FIRST, ServerOf, run_sql, settings_of

IN_EXTENSIONS = ("CREATE SCHEMA extensions", "CREATE EXTENSION vector WITH SCHEMA extensions", "SELECT 1")


def tables(database: TestDatabase) -> set[str]:
    return {row[0] for row in run_sql(database.owner, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


async def remade(owner: ConnectionInfo) -> list[str]:
    connection = await asyncpg.connect(**owner.connect_arguments(), statement_cache_size=0)
    try:
        return await remake_fences(connection)
    finally:
        await connection.close()


async def search(database: TestDatabase) -> int:
    """A search by similarity as a service makes it."""
    async with Database(**database.urls) as db:
        await seed_lifeline(db)
        async with db.project(LIFELINE) as session:
            entry = past_fix()
            await repos.rag_corpus.add(session, entry)
            return len(await repos.rag_corpus.search(session, entry.embedding))


class TestUpgrade:
    @pytest.mark.parametrize("table", ["projects", "policies"])
    def test_a_table_of_somebody_else_with_a_name_of_ours(self, server_of: ServerOf, table: str) -> None:
        database = server_of("18").empty()
        run_sql(database.owner, f"CREATE TABLE {table} (id serial)", "SELECT 1")
        with pytest.raises(ConfigurationError, match=f"names of ours: {table}"):
            upgrade(settings_of(database.owner))
        assert tables(database) == {table}

    def test_the_same_name_in_another_schema_is_nobodys_business(self, server_of: ServerOf) -> None:
        database = server_of("18").empty()
        run_sql(database.owner, "CREATE SCHEMA insurance", "CREATE TABLE insurance.policies (id serial)", "SELECT 1")
        assert upgrade(settings_of(database.owner)).current == sql.HEAD_REVISION

    async def test_pgvector_that_another_starter_makes_meanwhile(self, server_of: ServerOf) -> None:
        database = (await asyncio.to_thread(server_of("18").empty)).owner
        other, mine, watch = [await asyncpg.connect(**database.connect_arguments()) for _ in range(3)]
        try:
            await other.execute("BEGIN; CREATE EXTENSION vector")
            looking = asyncio.create_task(check_vector(mine))
            async with asyncio.timeout(10):
                while not await watch.fetchval("SELECT pg_blocking_pids($1) <> '{}'", mine.get_server_pid()):
                    await asyncio.sleep(0.01)
            await other.execute("COMMIT")
            await looking
        finally:
            for connection in (other, mine, watch):
                await connection.close()

    def test_a_server_without_pgvector(self, server_of: ServerOf, monkeypatch: pytest.MonkeyPatch) -> None:
        from derwin_db.deploy import obstacles

        database = server_of("18").empty()
        monkeypatch.setattr(obstacles, "_HAS_FILES", "SELECT false")
        with pytest.raises(ExtensionMissing):
            upgrade(settings_of(database.owner))
        assert tables(database) == set()
        assert upgrade(settings_of(database.owner), FENCED).pending  # these revisions need none

    @pytest.mark.parametrize("version", ["18", pytest.param("16", marks=pytest.mark.long)])
    def test_pgvector_in_another_schema(self, server_of: ServerOf, version: str) -> None:
        database = server_of(version).empty()
        run_sql(database.owner, *IN_EXTENSIONS)
        settings = settings_of(database.owner)
        assert upgrade(settings).current == sql.HEAD_REVISION
        check(settings)
        assert asyncio.run(search(database)) == 1
        downgrade(settings, "base")

    def test_pgvector_that_moved_later(self, server_of: ServerOf) -> None:
        """Written to, searched, looked at and migrated as before, as soon as derwin_app may use the new schema."""
        database = server_of("18").migrated()
        run_sql(database.owner, "CREATE SCHEMA extensions", "ALTER EXTENSION vector SET SCHEMA extensions", "SELECT 1")
        with pytest.raises(ExtensionMissing, match="in the schema extensions, which derwin_app may not use"):
            asyncio.run(search(database))
        report = asyncio.run(examine(database.service, owner=database.owner))
        assert {check.name: check.detail for check in report.checks if not check.ok} == {
            "grants-missing": "USAGE on the schema extensions, where pgvector is, to derwin_app"
        }
        assert asyncio.run(remade(database.owner)) == ["USAGE on the schema extensions"]
        assert asyncio.run(search(database)) == 1
        assert asyncio.run(examine(database.service, owner=database.owner)).ok
        settings = settings_of(database.owner)
        check(settings)
        downgrade(settings, "f3c9a1e07b52")  # whose trigger names the schema
        assert upgrade(settings).pending == []
        assert asyncio.run(search(database)) == 2

    def test_pgvector_that_moves_while_a_service_runs(self, server_of: ServerOf) -> None:
        database = server_of("18").migrated()

        async def serve() -> None:
            async with Database(**database.urls) as db:
                await seed_lifeline(db)
                await asyncio.to_thread(
                    run_sql,
                    database.owner,
                    "CREATE SCHEMA extensions",
                    "GRANT USAGE ON SCHEMA extensions TO derwin_app",
                    "ALTER EXTENSION vector SET SCHEMA extensions",
                    "SELECT 1",
                )
                with pytest.raises(ExtensionMissing, match="start the service again"):
                    async with db.project(LIFELINE) as session:
                        await repos.rag_corpus.search(session, past_fix().embedding)

        asyncio.run(serve())
        assert asyncio.run(search(database)) == 1

    @pytest.mark.parametrize("call", [upgrade, downgrade])
    @pytest.mark.parametrize("revision", ["nonsense", "", "d", "heads@x", "-1000"])
    def test_a_revision_that_does_not_exist(self, migrated: TestDatabase, call: Callable[..., object], revision: str) -> None:
        settings = settings_of(migrated.owner)
        with pytest.raises(ConfigurationError, match="no such revision"):
            call(settings, revision)

    def test_in_a_thread_whose_loop_runs(self, server_of: ServerOf) -> None:
        settings = settings_of(server_of("18").empty().owner)

        async def cell() -> str | None:
            return upgrade(settings, FIRST).current  # as in a notebook: blocking, inside a running loop

        assert asyncio.run(cell()) == FIRST


class TestSeveralRows:
    """A stray row in derwin_alembic_version: everybody who looks sees the same state."""

    async def test_all_agree(self, own_database: TestDatabase) -> None:
        await asyncio.to_thread(run_sql, own_database.owner, "INSERT INTO derwin_alembic_version VALUES ('0stray')", "SELECT 1")
        settings = settings_of(own_database.owner)
        seen = await asyncio.to_thread(status, settings)
        assert seen.problem is not None
        with pytest.raises(SchemaOutOfDate, match="several rows: 0stray, "):
            await asyncio.to_thread(upgrade, settings)
        with pytest.raises(SchemaOutOfDate, match="several rows: 0stray, "):
            async with Database(**own_database.urls):
                pass
        report = await examine(own_database.service, owner=own_database.owner)
        assert [check.name for check in report.checks if not check.ok] == ["schema"]

    async def test_health_too(self, own_database: TestDatabase) -> None:
        import httpx
        from fastapi import FastAPI

        from derwin_db.fastapi import health_router

        async with Database(**own_database.urls) as db:
            await asyncio.to_thread(
                run_sql, own_database.owner, "INSERT INTO derwin_alembic_version VALUES ('0stray')", "SELECT 1"
            )
            app = FastAPI()
            app.include_router(health_router(db))
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
                answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["code"]) == (503, "schema_out_of_date")


class TestReferences:
    """Tables of the service that refer to ours."""

    NOTES = (
        "CREATE SCHEMA app",
        "CREATE TABLE app.notes (project_id uuid, ticket_id uuid, FOREIGN KEY (project_id, ticket_id) REFERENCES qa_tickets)",
        "SELECT 1",
    )

    @pytest.mark.parametrize(
        ("made", "name"),
        [(NOTES, "app.notes"), (("CREATE VIEW public.titles AS SELECT title FROM qa_tickets", "SELECT 1"), "titles")],
    )
    def test_keep_the_tables(self, server_of: ServerOf, made: tuple[str, ...], name: str) -> None:
        database = server_of("18").migrated()
        run_sql(database.owner, *made)
        with pytest.raises(Conflict, match=rf"{name} refer to tables of derwin-db"):
            downgrade(settings_of(database.owner), "base")
        assert status(settings_of(database.owner)).current == sql.HEAD_REVISION

    async def test_keep_a_project(self, own_database: TestDatabase) -> None:
        from derwin_db.testing.factories import create_ticket

        async with Database(**own_database.urls) as db:
            project = await seed_lifeline(db)
            async with db.project(LIFELINE) as session:
                ticket = await create_ticket(session)
            note = f"INSERT INTO app.notes VALUES ('{project.id}', '{ticket.id}')"
            await asyncio.to_thread(run_sql, own_database.owner, *self.NOTES[:-1], note, "SELECT 1")
            with pytest.raises(Conflict, match=r"Other rows refer to this one .table notes, constraint notes_project_id"):
                async with db.admin(reason="a test") as admin:
                    await repos.projects.delete(admin, project.id)
            with pytest.raises(DerwinError, match="table notes"):
                async with db.project(LIFELINE) as session:
                    await repos.qa_tickets.delete(session, ticket.id)
            async with db.project(LIFELINE) as session:
                assert await repos.qa_tickets.exists(session, ticket.id)
