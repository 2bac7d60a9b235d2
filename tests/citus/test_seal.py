"""A hostile unit of work on a cluster: whatever its SQL sets, sends to a worker or leaves there, it stays in its project."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from derwin_db import Database, ProjectSession, repos
from derwin_db.connection.driver import connect
from derwin_db.errors import DerwinError
from derwin_db.isolation.preamble import TransactionMode
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase
from tests.citus.conftest import Neighbours, on_worker, place_of

ROWS = "SELECT count(*) FROM public.qa_tickets WHERE project_id = '{other}'"
PUSHED = "SELECT {call} FROM public.projects WHERE id = '{one}'"
"""A statement that Citus sends to the worker whole: what it calls runs there, in the session that the unit's shards have."""

OUTSIDE = [
    "SELECT * FROM run_command_on_workers('SELECT 1')",
    "SELECT * FROM run_command_on_all_nodes('SELECT 1')",
    "SELECT * FROM run_command_on_coordinator('SELECT 1')",
    "SELECT * FROM run_command_on_shards('public.qa_tickets', 'SELECT 1')",
    "SELECT * FROM run_command_on_placements('public.qa_tickets', 'SELECT 1')",
    "SELECT * FROM master_run_on_worker(ARRAY['127.0.0.1'], ARRAY[5432], ARRAY['SELECT 1'], false)",
    PUSHED.format(call="(SELECT count(*) FROM run_command_on_workers('SELECT 1'))", one="{one}"),
]


async def ask(session: ProjectSession, text: str, neighbours: Neighbours) -> list[Any]:
    statement = sa.text(text.format(one=neighbours.one, other=neighbours.other).replace(":", r"\:"))
    return list((await session.sql.execute(statement)).all())


async def scope_of(session: ProjectSession, neighbours: Neighbours) -> str:
    return str((await ask(session, "SELECT current_setting('derwin.project_id')", neighbours))[0][0])


@pytest.fixture
async def few(migrated: TestDatabase) -> AsyncIterator[Database]:
    """One connection, which the next unit has too where it is not dropped, and short waits."""
    async with Database(**migrated.urls, settings=Settings(pool_size=1)) as database:
        yield database


class TestScope:
    @pytest.mark.parametrize(
        "forged",
        [
            "{other}",
            "{other}.{rest}",
            "{other}.5{rest}",
            "{other}.6ffffffffffffff" + "0" * 48,
            "{other}.4ffffffffffffff" + "0" * 48,
        ],
    )
    @pytest.mark.parametrize(
        "way",
        ["SET LOCAL derwin.project_id = '{scope}'", "SELECT set_config('derwin.project_id', '{scope}', true)"]
        + [
            PUSHED.format(call=f"set_config('derwin.project_id', '{{scope}}', {way})", one="{one}") for way in ("true", "false")
        ],
    )
    async def test_a_forged_one_opens_nothing(self, neighbours: Neighbours, way: str, forged: str) -> None:
        with pytest.raises(DerwinError):
            async with neighbours.db.project(neighbours.one) as session:
                own = await scope_of(session, neighbours)
                assert own.startswith(f"{neighbours.one}.6")
                scope = forged.replace("{rest}", own.partition(".")[2])
                await ask(session, way.replace("{scope}", scope), neighbours)
                found = await ask(session, ROWS, neighbours)
                assert found == [(0,)]  # set where no shard sees it: what it asks for is not there
                raise DerwinError("undo")

    async def test_of_another_backend_is_none(self, migrated: TestDatabase, neighbours: Neighbours) -> None:
        """One that was seen in a unit of the other project, on another connection that is still open."""
        async with Database(**migrated.urls) as db, db.project(neighbours.other) as lender:
            lent = await scope_of(lender, neighbours)
            with pytest.raises(DerwinError):
                async with db.project(neighbours.one) as session:
                    await ask(session, f"SET LOCAL derwin.project_id = '{lent}'", neighbours)
                    await ask(session, ROWS, neighbours)

    async def test_opening_again_is_refused(self, neighbours: Neighbours) -> None:
        pool, preamble = await neighbours.db.app_pool(read_only=False)
        connection = await pool.acquire()
        try:
            await preamble.for_project(connection, neighbours.one, TransactionMode.READ_WRITE)
            with pytest.raises(Exception, match="has a project scope already"):
                await preamble.for_project(connection, neighbours.other, TransactionMode.READ_WRITE)
        finally:
            pool.drop(connection)

    async def test_is_seen_by_nobody_in_what_the_workers_show(
        self, migrated: TestDatabase, neighbours: Neighbours, owner: Any
    ) -> None:
        worker = await connect(on_worker(migrated, await place_of(migrated, neighbours.one)))
        try:
            async with neighbours.db.project(neighbours.one) as session:
                await repos.qa_tickets.count(session)
                scope = await scope_of(session, neighbours)
                opened = await ask(session, "SELECT pg_backend_pid()", neighbours)
                await ask(session, PUSHED.format(call="1", one="{one}"), neighbours)
                for looking in (owner, worker):
                    texts = [row["query"] for row in await looking.fetch("SELECT query FROM pg_stat_activity")]
                    assert opened
                    assert not [text for text in texts if scope[38:] in text or f"'{neighbours.one}.6" in text]
        finally:
            await worker.close()


class TestBesideTheUnit:
    @pytest.mark.parametrize("sql", OUTSIDE)
    async def test_no_sql_is_sent_to_a_node(self, neighbours: Neighbours, sql: str) -> None:
        with pytest.raises(DerwinError) as caught:
            async with neighbours.db.project(neighbours.one) as session:
                await ask(session, sql, neighbours)
        assert caught.value.sqlstate == "42501"


class TestAfterwards:
    @pytest.mark.parametrize(
        "left",
        [
            "set_config('derwin.project_id', '{other}', false)",
            "set_config('row_security', 'off', false)",
            "set_config('statement_timeout', '1', false)",
            "set_config('default_transaction_read_only', 'on', false)",
            "set_config('search_path', 'nowhere', false)",
            "set_config('application_name', 'citus_internal gpid=10000000001', false)",
        ],
    )
    async def test_what_it_left_in_a_workers_session_reaches_no_other_unit(
        self, few: Database, neighbours: Neighbours, left: str
    ) -> None:
        try:
            async with few.project(neighbours.one) as session:
                await ask(session, PUSHED.format(call=left, one="{one}"), neighbours)
        except DerwinError:
            pass  # its own unit may suffer
        for project in (neighbours.one, neighbours.other):
            async with few.project(project) as session:
                rows = (await repos.qa_tickets.list(session, limit=3)).items
                assert {row.project_id for row in rows} == {project}
                found = await session.sql.execute(sa.text("SELECT DISTINCT project_id FROM public.qa_tickets"))
                assert {row[0] for row in found} == {project}


class TestAlone:
    async def test_reads_of_many_projects_on_few_connections_each_see_their_own(
        self, migrated: TestDatabase, neighbours: Neighbours
    ) -> None:
        async def read(db: Database, project: UUID) -> None:
            for _ in range(20):
                async with db.project(project) as session:
                    rows = (await repos.qa_tickets.list(session, limit=5)).items
                    assert {row.project_id for row in rows} == {project}

        async with Database(**migrated.urls, settings=Settings(pool_size=2)) as db:
            await asyncio.gather(*(read(db, project) for project in (neighbours.one, neighbours.other) * 4))
            assert db.backend.misplaced == 0
