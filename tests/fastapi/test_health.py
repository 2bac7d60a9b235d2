"""Health: alive is the process, ready is a statement that reached the database of this code."""

import asyncio

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from derwin_db import Database
from derwin_db.fastapi import health_router
from derwin_db.models import Project
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase, TestServer


async def ready(app: FastAPI, client: httpx.AsyncClient, db: Database) -> httpx.Response:
    app.include_router(health_router(db))
    return await client.get("/health/ready")


class TestLive:
    async def test_needs_no_database(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        app.include_router(health_router(Database("postgresql://nobody@127.0.0.1:1/nothing")))
        answer = await client.get("/health/live")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


class TestReady:
    async def test_runs_a_statement(self, app: FastAPI, client: httpx.AsyncClient, own_db: Database) -> None:
        answer = await ready(app, client, own_db)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert own_db.connections_in_use() == 0

    async def test_starts_the_database_where_nobody_did(
        self, app: FastAPI, client: httpx.AsyncClient, migrated: TestDatabase
    ) -> None:
        db = Database(**migrated.urls)
        assert (await ready(app, client, db)).status_code == 200
        await db.close()

    async def test_is_503_without_a_server(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        answer = await ready(app, client, Database("postgresql://nobody@127.0.0.1:1/nothing"))
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["Retry-After"] == "1"
        assert "127.0.0.1" not in answer.text

    async def test_is_503_when_the_server_went_away_and_200_when_it_is_back(
        self, app: FastAPI, client: httpx.AsyncClient, own_db: Database, own_database: TestDatabase, server: TestServer
    ) -> None:
        assert (await ready(app, client, own_db)).status_code == 200
        name = own_database.owner.database
        owner = await asyncpg.connect(**server.owner.connect_arguments())
        await owner.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await owner.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", name)
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.get("/health/live")).status_code == 200
        await owner.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await owner.close()
        async with asyncio.timeout(10):  # a pooler before the server tries again after a moment
            while (await client.get("/health/ready")).status_code != 200:
                await asyncio.sleep(0.05)

    async def test_is_503_on_another_schema(
        self, app: FastAPI, client: httpx.AsyncClient, own_db: Database, own_database: TestDatabase
    ) -> None:
        assert (await ready(app, client, own_db)).status_code == 200
        owner = await asyncpg.connect(**own_database.owner.connect_arguments())
        await owner.execute("UPDATE derwin_alembic_version SET version_num = 'newer'")
        await owner.close()
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["code"]) == (503, "schema_out_of_date")

    async def test_is_503_on_an_empty_database(self, app: FastAPI, client: httpx.AsyncClient, server: TestServer) -> None:
        empty = await asyncio.to_thread(server.empty)
        answer = await ready(app, client, Database(**empty.urls))
        assert (answer.status_code, answer.json()["code"]) == (503, "schema_out_of_date")

    async def test_is_503_in_time_when_every_connection_is_taken(
        self, app: FastAPI, client: httpx.AsyncClient, migrated: TestDatabase
    ) -> None:
        async with Database(**migrated.urls, settings=Settings(pool_size=1)) as db:
            pool, _ = await db.app_pool(read_only=False)
            taken = await pool.acquire()
            app.include_router(health_router(db, timeout=0.2), prefix="/hasty")
            app.include_router(health_router(db))
            answer = await client.get("/hasty/health/ready")
            assert (answer.status_code, answer.json()["code"]) == (503, "database_timeout")
            await pool.release(taken)
            assert (await client.get("/health/ready")).status_code == 200

    async def test_looks_as_the_role_that_serves_at_no_project_and_reads_only(self, project: Project, db: Database) -> None:
        async with db.probe() as unit:
            connection = await unit._connected()
            assert await connection.fetchval("SELECT current_user") == "derwin_app"
            assert await connection.fetchval("SELECT current_setting('transaction_read_only')") == "on"
            await connection.execute("SAVEPOINT looking")
            with pytest.raises(asyncpg.PostgresError, match="no project scope is set"):
                await connection.fetchval("SELECT count(*) FROM public.projects")
            await connection.execute("ROLLBACK TO looking")
