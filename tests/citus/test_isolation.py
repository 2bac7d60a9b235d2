"""Raw SQL of one project on a cluster, as the service's unprivileged login: nothing of another project is read or changed."""

from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from derwin_db import Database, sql
from derwin_db.connection.driver import DriverError, connect
from derwin_db.doctor import examine
from derwin_db.errors import DerwinError, IsolationNotEnforced, SqlState
from derwin_db.testing import TestDatabase
from derwin_db.translation.driver_errors import sqlstate_of
from tests.citus.conftest import Neighbours, on_worker, place_of

TABLES = ("projects", *sql.PROJECT_TABLES)
REPLAYED = "SET LOCAL citus.propagate_set_commands = 'local'"
WRITES = ("UPDATE public.{table} SET created_at = created_at", "DELETE FROM public.{table}")
SHARDS = """
SELECT result FROM run_command_on_shards('public.qa_tickets', $$
    SELECT string_agg(polname || ' ' || polpermissive, ',' ORDER BY polname) FROM pg_policy
    WHERE polrelid = '%s'::regclass AND to_regrole('derwin_app') = ANY (polroles)
$$)
"""


def column_of(table: str) -> str:
    return "id" if table == "projects" else "project_id"


async def held(owner: Any, table: str) -> set[tuple[UUID, int]]:
    """How many rows of the table each project has, as an administrator sees it."""
    rows = await owner.fetch(f"SELECT {column_of(table)} AS project, count(*) FROM public.{table} GROUP BY 1")
    return {(row["project"], row["count"]) for row in rows}


@pytest.mark.parametrize("table", TABLES)
class TestRawSql:
    async def test_reads_rows_of_its_own_project_alone(self, neighbours: Neighbours, table: str) -> None:
        for project in (neighbours.one, neighbours.other):
            async with neighbours.db.project(project, read_only=True) as session:
                found = await session.sql.execute(sa.text(f"SELECT DISTINCT {column_of(table)} FROM public.{table}"))
                assert {row[0] for row in found} == {project}

    async def test_reads_nothing_where_it_names_the_other(self, neighbours: Neighbours, table: str) -> None:
        query = sa.text(f"SELECT count(*) FROM public.{table} WHERE {column_of(table)} = :other")
        async with neighbours.db.project(neighbours.one, read_only=True) as session:
            assert (await session.sql.execute(query, {"other": neighbours.other})).scalar_one() == 0

    @pytest.mark.parametrize("write", WRITES)
    async def test_changes_nothing_of_the_other(self, neighbours: Neighbours, owner: Any, table: str, write: str) -> None:
        before = await held(owner, table)
        for where in ("", f" WHERE {column_of(table)} = '{neighbours.other}'"):
            with pytest.raises(DerwinError):
                async with neighbours.db.project(neighbours.one) as session:
                    await session.sql.execute(sa.text(write.format(table=table) + where))
                    raise DerwinError("undo what it did to its own")
        assert await held(owner, table) == before

    @pytest.mark.parametrize("forged", ["", "{other}", "{other}.6ffffffffffffff{mac}", "{other}.4ffffffffffffff{mac}"])
    async def test_a_scope_that_is_not_sealed_is_none(
        self, migrated: TestDatabase, neighbours: Neighbours, table: str, forged: str
    ) -> None:
        scope = forged.format(other=neighbours.other, mac="0" * 48)
        connection = await connect(migrated.service)
        try:
            await connection.execute("BEGIN")
            await connection.execute(f"{REPLAYED}; SET LOCAL ROLE derwin_app; SET LOCAL derwin.project_id = '{scope}'")
            with pytest.raises(DriverError) as caught:
                await connection.fetchval(f"SELECT count(*) FROM public.{table}")
            assert sqlstate_of(caught.value) in ("42501", SqlState.NO_SCOPE, SqlState.FOREIGN_SEAL)
        finally:
            connection.terminate()


class TestConnections:
    async def test_the_next_unit_of_a_connection_sees_its_own(self, single: Database, neighbours: Neighbours) -> None:
        for _ in range(20):
            for project in (neighbours.one, neighbours.other):
                async with single.project(project) as session:
                    found = await session.sql.execute(sa.text("SELECT DISTINCT project_id FROM public.qa_tickets"))
                    assert {row[0] for row in found} == {project}


class TestShards:
    async def test_each_has_one_policy_for_the_role_and_it_is_the_scope(self, owner: Any, neighbours: Neighbours) -> None:
        results = {row["result"] for row in await owner.fetch(SHARDS)}
        assert results == {"derwin_scope true"}

    async def test_the_service_is_refused_where_a_shard_lets_more_through(
        self, neighbours: Neighbours, migrated: TestDatabase, owner: Any
    ) -> None:
        """A policy that somebody adds on the coordinator reaches the shards: start-up and doctor name it."""
        await owner.execute("CREATE POLICY reports ON public.qa_tickets FOR SELECT TO derwin_app USING (true)")
        try:
            report = await examine(migrated.service, owner=migrated.owner)
            assert "foreign-policies" in {check.name for check in report.checks if not check.ok}
            with pytest.raises(IsolationNotEnforced, match="reports"):
                async with Database(**migrated.urls):
                    pass
        finally:
            await owner.execute("DROP POLICY reports ON public.qa_tickets")

    async def test_doctor_looks_at_the_shards_themselves(self, neighbours: Neighbours, migrated: TestDatabase) -> None:
        """A policy on one shard alone, put there on its worker: the coordinator's catalog knows nothing of it."""
        worker = await connect(on_worker(migrated, await place_of(migrated, neighbours.one)))
        try:
            await worker.execute("SET citus.override_table_visibility = off")
            shard = await worker.fetchval(
                "SELECT relname FROM pg_class WHERE relname ~ '^qa_tickets_[0-9]+$' AND relkind = 'r' ORDER BY 1 LIMIT 1"
            )
            await worker.execute("SET citus.enable_manual_changes_to_shards = on")
            await worker.execute(f"CREATE POLICY spy ON public.{shard} TO derwin_app USING (true)")
            report = await examine(migrated.service, owner=migrated.owner)
            bad = {check.name: check.detail for check in report.checks if not check.ok}
            assert "spy" in bad["shards"]
            await worker.execute(f"DROP POLICY spy ON public.{shard}")
        finally:
            await worker.close()
        report = await examine(migrated.service, owner=migrated.owner)
        assert "shards" not in {check.name for check in report.checks if not check.ok}
