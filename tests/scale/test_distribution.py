"""`derwin-db distribute`, and what is different afterwards, on an extension that stands in for Citus in a real server.

It has Citus' catalog and refusals, but one node: that statements reach the right shard is seen on a cluster, what is sent is
seen here.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from derwin_db import Database, repos, sql
from derwin_db.deploy.citus import Topology, distribute, distribution, in_order, probe_topology
from derwin_db.deploy.migrations import script_folder
from derwin_db.doctor import examine
from derwin_db.errors import ConfigurationError, DerwinError, NotFound, OutcomeUnknown, ProjectNotFound, ScopeError
from derwin_db.fields.scalars import new_id
from derwin_db.isolation.preamble import TransactionMode
from derwin_db.models import RunStatus
from derwin_db.testing import TestDatabase, TestServer
from derwin_db.testing.factories import create_run
from derwin_db.workers import Job
from tests.contract.outcomes import outcome
from tests.contract.verbs import PROJECT_CALLS
from tests.repos.rows import a_ticket
from tests.scale.cluster import Cluster, stand_in
from tests.scale.test_pooled_verbs import new_project

TABLES = in_order()
OWN = """
CREATE TABLE public.{name} (
    project_id uuid NOT NULL REFERENCES public.projects ON DELETE CASCADE, id uuid, PRIMARY KEY (project_id, id)
)
"""
REFERS = "ALTER TABLE public.{name} ADD FOREIGN KEY (project_id, refers_to_id) REFERENCES public.{to} (project_id, id)"


@pytest.fixture(scope="module")
def on_primary(cluster: Cluster) -> Iterator[TestServer]:
    """Databases on a server that knows the stand-in."""
    cluster.mend()
    server = TestServer(cluster.primary.owner)
    server.empty()  # its logins
    server._template = cluster.database.owner.database  # migrated already
    yield server
    server.close()


async def owner_of(database: TestDatabase) -> asyncpg.Connection:
    return await asyncpg.connect(**database.owner.connect_arguments(), statement_cache_size=0)


@pytest.fixture
async def citus(cluster: Cluster, on_primary: TestServer) -> AsyncIterator[TestDatabase]:
    """A migrated database in which the stand-in was created afterwards, as on a server that grows."""
    database = await asyncio.to_thread(on_primary.migrated)
    await stand_in(cluster.primary, database)
    yield database
    await asyncio.to_thread(on_primary.drop, database)


@pytest.fixture
async def owner(citus: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    connection = await owner_of(citus)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
async def spread(cluster: Cluster, on_primary: TestServer) -> TestDatabase:
    """A database that is distributed."""
    database = await asyncio.to_thread(on_primary.migrated)
    await stand_in(cluster.primary, database)
    connection = await owner_of(database)
    await distribute(connection)
    await connection.close()
    return database


@pytest.fixture(scope="module")
async def wide(spread: TestDatabase) -> AsyncIterator[Database]:
    async with Database(**spread.urls) as db:
        yield db


class TestDistribute:
    def test_the_order_has_every_table_and_begins_with_the_root(self):
        assert TABLES[0] == "projects"
        assert sorted(TABLES) == sorted(["projects", *sql.PROJECT_TABLES])

    async def test_every_table_parents_first_and_beside_projects(self, owner: asyncpg.Connection):
        seen: list[tuple[str, int, int]] = []
        sent: list[str] = []
        owner.add_query_logger(lambda query: sent.append(query.query))
        done = await distribute(owner, progress=lambda *one: seen.append(one))
        await asyncio.sleep(0)  # the driver's loggers are called after the fact
        assert done.distributed == TABLES
        assert done.before == []
        assert seen == [(table, number, len(TABLES)) for number, table in enumerate(TABLES, 1)]
        assert [text for text in sent if "create_distributed_table" in text] == [distribution(table) for table in TABLES]
        assert distribution("qa_runs").endswith("'project_id', colocate_with => 'public.projects')")

    async def test_the_tables_of_the_service_come_after_ours(self, citus: TestDatabase, owner: asyncpg.Connection):
        """Those that are fenced already, parents first, with the scope that shards take; doctor finds nothing amiss."""
        privileges = "SELECT, INSERT, UPDATE, DELETE"
        for name in ("a_reply", "z_note"):  # by name, the child comes first
            await owner.execute(OWN.format(name=name))
            for entity in ("table_policies_sealed", "admin_policies", "no_statistics"):
                await owner.execute(";".join(sql.read_current(entity, table=name)))
            await owner.execute(";".join(sql.read_current("own_table", table=name, privileges=privileges)))
            await owner.execute(f"ALTER TABLE public.{name} ADD COLUMN refers_to_id uuid")
        await owner.execute(REFERS.format(name="z_note", to="qa_tickets"))
        await owner.execute(REFERS.format(name="a_reply", to="z_note"))
        done = await distribute(owner)
        assert done.distributed == [*TABLES, "z_note", "a_reply"]
        assert (await probe_topology(owner)).forgotten == []
        report = await examine(citus.service, owner=citus.owner)
        assert [check.name for check in report.checks if not check.ok] == []
        assert (await distribute(owner)).before == done.distributed

    async def test_again_changes_nothing(self, owner: asyncpg.Connection):
        await distribute(owner)
        done = await distribute(owner)
        assert done.distributed == []
        assert done.before == TABLES

    @pytest.mark.parametrize("interrupted", [0, 1, 5])
    async def test_goes_on_where_it_was_interrupted(self, owner: asyncpg.Connection, interrupted: int):
        def stop(_table: str, number: int, _of: int) -> None:
            if number > interrupted:
                raise KeyError

        await owner.execute("CREATE TABLE public.in_the_way (id uuid REFERENCES public.projects (id))")
        if interrupted:
            with pytest.raises(KeyError):
                await distribute(owner, progress=stop)
        else:
            await owner.execute("CREATE POLICY spy ON public.projects USING ((SELECT true))")
            with pytest.raises(asyncpg.RaiseError, match="subquery"):
                await distribute(owner)
            await owner.execute("DROP POLICY spy ON public.projects")
        done = await distribute(owner)
        assert [*done.before, *done.distributed] == TABLES
        assert len(done.before) == (interrupted + 1 if interrupted else 0)

    async def test_refuses_a_server_without_it(self, on_primary: TestServer):
        database = await asyncio.to_thread(on_primary.migrated)
        connection = await owner_of(database)
        with pytest.raises(ConfigurationError, match="CREATE EXTENSION citus"):
            await distribute(connection)
        await connection.close()

    async def test_refuses_an_old_schema(self, owner: asyncpg.Connection):
        await owner.execute("UPDATE public.derwin_alembic_version SET version_num = 'an older one'")
        with pytest.raises(ConfigurationError, match="migrate"):
            await distribute(owner)
        assert await owner.fetchval("SELECT count(*) FROM pg_dist_partition") == 0


class TestUnits:
    async def test_open_sealed_in_one_round_trip_with_settings_that_workers_replay(self, wide: Database):
        project = await new_project(wide)
        async with wide.project(project) as session:
            await repos.qa_tickets.count(session)
        pool, opening = await wide.app_pool(read_only=False)
        assert (opening.is_distributed, opening.is_sharded, opening.seal is not None) == (True, True, True)
        connection = await pool.acquire()
        sent: list[str] = []
        connection.add_query_logger(lambda query: sent.append(query.query))
        await opening.for_project(connection, project, TransactionMode.READ_WRITE)
        await asyncio.sleep(0)
        [opened] = sent
        assert opened.index("SELECT public.derwin_open") > connection.activity_query_size
        settings = "SELECT current_setting('citus.propagate_set_commands'), current_setting('derwin.project_id')"
        replayed, scope = await connection.fetchrow(settings)
        await connection.execute("ROLLBACK")
        pool.drop(connection)
        assert (replayed, scope[:38]) == ("local", f"{project}.6")

    async def test_open_with_one_query_that_workers_can_replay_where_the_scope_is_plain(self, wide: Database):
        """A cluster that was distributed before the seal, and is served for as long as nobody has sealed it."""
        project = await new_project(wide)
        pool, opening = await wide.app_pool(read_only=False)
        connection = await pool.acquire()
        sent: list[str] = []
        connection.add_query_logger(lambda query: sent.append(query.query))
        plain = replace(opening, seal=None, is_sharded=False, known_projects={project})
        await plain.for_project(connection, project, TransactionMode.READ_WRITE)
        await connection.execute("ROLLBACK")
        await asyncio.sleep(0)
        pool.drop(connection)
        assert sent[0] == TransactionMode.READ_WRITE.value
        assert sent[1].split("; ") == [
            "SET LOCAL citus.propagate_set_commands = 'local'",
            "SET LOCAL ROLE derwin_app",
            f"SET LOCAL derwin.project_id = '{project}'",
        ]

    async def test_a_worker_finds_runs_without_the_queue_that_distributing_took_away(self, wide: Database):
        project = await new_project(wide)
        async with wide.project(project) as session:
            run = await create_run(session)
        done = asyncio.Event()

        async def work(job: Job) -> None:
            if job.run_id == run.id:
                done.set()

        async with asyncio.timeout(30), wide.worker("w", work, poll_seconds=0.1):
            await done.wait()
        async with wide.project(project) as session:
            assert (await repos.qa_runs.get(session, run.id)).status is RunStatus.COMPLETED

    async def test_a_connection_that_sql_by_hand_ran_on_is_not_used_again(self, wide: Database):
        """What that SQL left in its sessions on the workers ends with it alone."""
        project = await new_project(wide)
        seen = []
        for _ in range(2):
            async with wide.project(project) as session:
                seen.append((await session.sql.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one())
        assert seen[0] != seen[1]

    @pytest.mark.parametrize("call", PROJECT_CALLS, ids=str)
    async def test_verbs_do_what_they_do_on_one_node(self, wide: Database, db: Database, call: Any):
        spread = await outcome(call, await new_project(wide), wide, wide)
        assert spread == await outcome(call, await new_project(db), db, db)

    async def test_each_sees_its_own_project(self, wide: Database):
        one, two = [await new_project(wide) for _ in range(2)]
        async with wide.project(one) as session:
            row = await repos.qa_tickets.create(session, a_ticket())
        async with wide.project(two) as session:
            with pytest.raises(NotFound):
                await repos.qa_tickets.get(session, row.id)
            assert await repos.qa_tickets.count(session) == 0

    async def test_an_unknown_project_is_not_found(self, wide: Database):
        with pytest.raises(ProjectNotFound):
            async with wide.project(new_id()) as session:
                await repos.qa_tickets.count(session)

    async def test_writes_in_a_read_only_unit_are_refused(self, wide: Database):
        project = await new_project(wide)
        with pytest.raises(ScopeError):
            async with wide.project(project, read_only=True) as session:
                await repos.qa_tickets.create(session, a_ticket())

    async def test_there_is_no_one_position_to_wait_for(self, wide: Database):
        with pytest.raises(ConfigurationError, match="node"):
            await wide.position()


class TestLostAnswers:
    @pytest.mark.parametrize(
        ("state", "outcome"), [("08006", "outcome unknown"), ("XX000", "outcome unknown"), ("23514", "rolled back")]
    )
    async def test_a_commit_whose_answer_a_node_did_not_give_is_unknown(
        self, wide: Database, spread: TestDatabase, state: str, outcome: str
    ):
        """The coordinator says so as a lost connection or an internal error, on a connection that is as good as before."""
        owner = await owner_of(spread)
        await owner.execute(
            "CREATE FUNCTION public.lose() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE 'the node did not answer' USING ERRCODE = '{state}'; END $$;"
            "CREATE CONSTRAINT TRIGGER lose AFTER INSERT ON public.qa_tickets DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION public.lose()"
        )
        unit = wide.project(await new_project(wide))
        try:
            with pytest.raises(OutcomeUnknown if outcome == "outcome unknown" else DerwinError):
                async with unit as session:
                    await repos.qa_tickets.create(session, a_ticket())
        finally:
            await owner.execute("DROP FUNCTION public.lose() CASCADE")
            await owner.close()
        assert unit.outcome == outcome


class TestDoctor:
    async def bad(self, database: TestDatabase) -> dict[str, str]:
        report = await examine(database.service)
        assert {"distribution", "nodes"} <= {check.name for check in report.checks}
        return {check.name: check.detail for check in report.checks if not check.ok}

    async def test_shows_shards_and_nodes(self, spread: TestDatabase):
        report = await examine(spread.service, owner=spread.owner)
        assert {check.name for check in report.checks if not check.ok} == set()
        nodes = next(check for check in report.checks if check.name == "nodes")
        assert nodes.detail == "shards of projects: worker-1:5432 2, worker-2:5432 2"

    async def test_names_what_was_not_distributed(self, citus: TestDatabase, owner: asyncpg.Connection):
        assert "qa_runs is on one node" in (await self.bad(citus))["distribution"]
        await distribute(owner)
        await owner.execute("CREATE TABLE public.notes (project_id uuid, id uuid)")
        assert (await self.bad(citus))["distribution"] == "notes is on one node"

    async def test_names_what_is_split_otherwise(self, citus: TestDatabase, owner: asyncpg.Connection):
        await distribute(owner)
        await owner.execute("UPDATE pg_dist_partition SET partkey = 'id' WHERE logicalrelid = 'public.qa_runs'::regclass")
        await owner.execute("UPDATE pg_dist_partition SET colocationid = 7 WHERE logicalrelid = 'public.policies'::regclass")
        assert (await probe_topology(owner)).misplaced == ["policies", "qa_runs"]
        assert "qa_runs is split unlike projects" in (await self.bad(citus))["distribution"]

    async def test_names_nodes_that_are_silent_or_empty(self, citus: TestDatabase, owner: asyncpg.Connection):
        await distribute(owner)
        await owner.execute("UPDATE pg_dist_node SET isactive = false WHERE nodename = 'worker-1'")
        await owner.execute("INSERT INTO pg_dist_node VALUES (4, 3, 'worker-3', 5432, 'primary', true, true, true, true)")
        assert (await self.bad(citus))["nodes"] == "worker-1:5432 is not active; worker-3:5432 holds no shard"
        assert await probe_topology(owner) == Topology(
            {"worker-1:5432": 2, "worker-2:5432": 2, "worker-3:5432": 0}, [], [], ["worker-1:5432"]
        )


class TestTablesOfLaterRevisions:
    NEW = "CREATE TABLE public.notes (project_id uuid NOT NULL, id uuid NOT NULL, PRIMARY KEY (project_id, id))"

    async def test_join_the_others_where_these_are_distributed(self, citus: TestDatabase, owner: asyncpg.Connection):
        await distribute(owner)
        await owner.execute(self.NEW)
        for statement in sql.read("distribute_table.v1", table="notes"):
            await owner.execute(statement)
        assert (await probe_topology(owner)).forgotten == []

    @pytest.mark.parametrize("has_extension", [True, False])
    async def test_stay_as_they_are_elsewhere(self, cluster: Cluster, on_primary: TestServer, has_extension: bool):
        database = await asyncio.to_thread(on_primary.migrated)
        if has_extension:
            await stand_in(cluster.primary, database)
        connection = await owner_of(database)
        await connection.execute(self.NEW)
        for statement in sql.read("distribute_table.v1", table="notes"):
            await connection.execute(statement)
        if has_extension:
            assert await connection.fetchval("SELECT count(*) FROM pg_dist_partition") == 0
        await connection.close()

    def test_are_distributed_in_the_revision_that_creates_them(self):
        first, *later = sorted((script_folder() / "versions").glob("*.py"))
        assert len(created(first.read_text())) == 14
        assert set().union(*(created(path.read_text()) for path in (first, *later))) == set(TABLES)
        assert {path.name: left for path in later if (left := forgotten(path.read_text()))} == {}

    def test_one_that_forgets_it_would_be_found(self):
        text = 'op.create_table(\n        "notes",\n        schema="public",\n    )'
        assert forgotten(text) == {"notes"}
        assert forgotten(f'{text}\n    run(sql.read("distribute_table.v1", table="notes"))') == set()


def created(revision: str) -> set[str]:
    """The tables that a revision creates."""
    return set(re.findall(r'create_table\(\s*"(\w+)"', revision)) | set(re.findall(r"CREATE TABLE public\.(\w+)", revision))


def forgotten(revision: str) -> set[str]:
    """The tables that a revision creates and does not distribute."""
    return created(revision) - set(re.findall(r'read\(\s*"distribute_table\.v\d+", table="(\w+)"', revision))
