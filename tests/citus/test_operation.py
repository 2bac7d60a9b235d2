"""What an operator does, on a cluster: seed, export, erase, import, roles, doctor, rotation of the key, the studio."""

import asyncio
import io
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.connection.driver import connect
from derwin_db.deploy.citus import in_order
from derwin_db.doctor import examine
from derwin_db.errors import ConfigurationError, DerwinError, ProjectNotFound
from derwin_db.fields.scalars import project_id_of
from derwin_db.seed import LIFELINE, seed_demo, seed_lifeline
from derwin_db.testing import TestDatabase
from derwin_db.testing.server import url_of
from derwin_db.transfer import import_project
from tests.citus.conftest import Neighbours, on_worker, place_of
from tests.forking import CLI
from tests.studio.pages import pages_of
from tests.studio.serving import environment_of, started
from tests.transfer.test_round_trip import erase, exported, lines_of

Moved = tuple[Database, bytes]


def run(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CLI, *arguments]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False, timeout=240)


@pytest.fixture(scope="module")
async def moved(db: Database) -> Moved:
    """Lifeline with its demo, and its export. Each test leaves it as it was."""
    await seed_lifeline(db)
    await seed_demo(db)
    return db, (await exported(db))[0]


async def stored(owner: Any) -> dict[str, int]:
    """How many rows of Lifeline there are, by table; the ledger stays when a project goes."""
    project = project_id_of(LIFELINE)
    return {
        table: await owner.fetchval(
            f"SELECT count(*) FROM public.{table} WHERE {'id' if table == 'projects' else 'project_id'} = $1", project
        )
        for table in in_order()
        if table != "spend_ledger"
    }


class TestTransfer:
    async def test_a_project_comes_back_as_it_was_and_nobody_sees_it_before(self, moved: Moved) -> None:
        db, data = moved
        await erase(db)
        seen: list[BaseException | None] = []

        async def look() -> None:
            try:
                async with db.project(LIFELINE) as session:
                    await repos.qa_tickets.count(session)
            except DerwinError as error:
                seen.append(error)

        looking: list[asyncio.Task[None]] = []
        await import_project(db, io.BytesIO(data), progress=lambda *_: looking.append(asyncio.ensure_future(look())))
        await asyncio.gather(*looking)
        assert {type(error) for error in seen} == {ProjectNotFound}
        assert lines_of((await exported(db))[0])[1:-1] == lines_of(data)[1:-1]

    @pytest.mark.parametrize("at", ["qa_tickets", "rag_corpus"])
    @pytest.mark.parametrize("how", ["cancelled", "killed"])
    async def test_one_that_does_not_end_leaves_nothing(self, moved: Moved, owner: Any, at: str, how: str) -> None:
        db, data = moved
        await erase(db)

        def stop(table: str, _done: int, _of: int) -> None:
            if table == at:
                reached.set()

        reached = asyncio.Event()
        importing = asyncio.ensure_future(import_project(db, io.BytesIO(data), progress=stop))
        await asyncio.wait({importing, asyncio.ensure_future(reached.wait())}, return_when=asyncio.FIRST_COMPLETED)
        assert not importing.done()
        if how == "cancelled":
            importing.cancel()
        else:
            await owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND usename = current_user AND application_name = 'derwin-db'"
            )
        with pytest.raises((asyncio.CancelledError, DerwinError)):
            await importing
        assert set((await stored(owner)).values()) == {0}
        await import_project(db, io.BytesIO(data))
        assert lines_of((await exported(db))[0])[1:-1] == lines_of(data)[1:-1]

    async def test_a_login_that_policies_hold_is_refused(self, moved: Moved, migrated: TestDatabase, owner: Any) -> None:
        _, data = moved
        login = f"{migrated.service.user}_both"
        await owner.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'a password of the tests'")
        try:
            await owner.execute(f"GRANT derwin_app, derwin_admin TO {login}")
            both = replace(migrated.service, user=login, password="a password of the tests")
            async with Database(**{**migrated.urls, "direct_url": url_of(both)}) as db:
                with pytest.raises(ConfigurationError, match="BYPASSRLS"):
                    await import_project(db, io.BytesIO(data))
        finally:
            await owner.execute(f"DROP ROLE {login}")


class TestRoles:
    async def test_logins_that_are_made_here_serve_here(self, moved: Moved, migrated: TestDatabase, owner: Any) -> None:
        suffix = migrated.owner.database.rpartition("test_")[2]
        names = (f"cli_service_{suffix}", f"cli_operator_{suffix}")
        environment = environment_of(migrated)
        try:
            result = await asyncio.to_thread(
                run, "roles", "create", "--service", names[0], "--operator", names[1], "--json", environment=environment
            )
            assert result.returncode == 0, result.stderr
            urls = json.loads(result.stdout)["urls"]
            async with Database(urls["DATABASE_URL"], admin_url=urls["ADMIN_URL"]) as db:
                async with db.project(LIFELINE) as session:
                    assert await repos.qa_tickets.count(session) > 0
                async with db.admin(reason="a test") as admin:
                    assert await repos.projects.get_by_slug(admin, LIFELINE)
        finally:
            for name in names:
                await owner.execute(f"DROP ROLE IF EXISTS {name}")

    async def test_a_new_key_is_taken_up_while_units_run(self, neighbours: Neighbours, migrated: TestDatabase) -> None:
        async def serves(db: Database) -> None:
            for project in (neighbours.one, neighbours.other):
                async with db.project(project) as session:
                    assert await repos.qa_tickets.count(session) > 0
                async with db.project(project) as session:
                    found = await session.sql.execute(sa.text("SELECT DISTINCT project_id FROM public.qa_tickets"))
                    assert found.scalars().all() == [project]

        environment = environment_of(migrated)
        async with Database(**migrated.urls) as before:
            await serves(before)
            for step in (("--yes",), ("--finish", "--yes"), ("--now", "--yes")):
                rotated = await asyncio.to_thread(run, "roles", "rotate", *step, environment=environment)
                assert rotated.returncode == 0, rotated.stderr
                await serves(before)
                async with Database(**migrated.urls) as after:
                    await serves(after)


class TestDoctor:
    async def bad(self, database: TestDatabase) -> dict[str, str]:
        report = await examine(database.service, owner=database.owner)
        return {check.name: check.detail for check in report.checks if not check.ok}

    async def test_finds_all_well(self, migrated: TestDatabase, db: Database) -> None:
        assert await self.bad(migrated) == {}

    async def test_names_a_node_whose_seal_believes_what_it_is_told(
        self, migrated: TestDatabase, neighbours: Neighbours
    ) -> None:
        place = await place_of(migrated, neighbours.one)
        worker: Any = await connect(on_worker(migrated, place))
        try:
            await worker.execute("SET citus.enable_ddl_propagation = off")
            body = await worker.fetchval("SELECT pg_get_functiondef('public.derwin_scope_on_shard()'::regprocedure)")
            await worker.execute(
                "CREATE OR REPLACE FUNCTION public.derwin_scope_on_shard() RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER"
                " SET search_path = pg_catalog, pg_temp AS"
                " $$ SELECT left(current_setting('derwin.project_id'), 36)::uuid $$"
            )
            try:
                assert "the functions of the seal" in (await self.bad(migrated))["shards"]
            finally:
                await worker.execute(body)
        finally:
            await worker.close()
        assert await self.bad(migrated) == {}

    async def test_names_a_function_that_sends_sql_to_nodes(self, migrated: TestDatabase, owner: Any) -> None:
        await owner.execute("GRANT EXECUTE ON FUNCTION run_command_on_workers(text, boolean) TO derwin_app")
        try:
            assert "run_command_on_workers" in (await self.bad(migrated))["node-commands"]
        finally:
            await owner.execute("REVOKE EXECUTE ON FUNCTION run_command_on_workers(text, boolean) FROM derwin_app")

    async def test_names_a_node_that_shows_statements(self, migrated: TestDatabase, neighbours: Neighbours) -> None:
        worker: Any = await connect(on_worker(migrated, await place_of(migrated, neighbours.one)))
        shows = f'ALTER ROLE derwin_app IN DATABASE "{migrated.owner.database}" {{}} track_activities'
        try:
            await worker.execute("SET citus.enable_alter_role_set_propagation = off")
            await worker.execute(shows.format("RESET"))
            try:
                assert "sees what other units send" in (await self.bad(migrated))["shown-statements"]
            finally:
                await worker.execute(shows.format("SET") + " = off")
        finally:
            await worker.close()
        assert await self.bad(migrated) == {}


class TestStudio:
    async def test_every_page_answers(self, moved: Moved, migrated: TestDatabase) -> None:
        db, _ = moved
        pages = await pages_of(db, LIFELINE)
        with started("--port", "0", "--sql", environment=environment_of(migrated)) as studio:
            async with httpx.AsyncClient(base_url=studio.url, timeout=60) as client:
                answers = {page: (await client.get(page)).status_code for page in ("", *pages)}
        assert {page: status for page, status in answers.items() if status != 200} == {}
