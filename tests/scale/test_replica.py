"""Read-only units on a real streaming replica: what goes there, what it refuses, and that the fences stand there too."""

import asyncio
import logging
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from derwin_db import Database, ProjectSession, repos
from derwin_db.deploy import rotation
from derwin_db.errors import (
    DatabaseUnavailable,
    DerwinError,
    InvalidInput,
    NotFound,
    ProjectNotFound,
    ReplicaBehind,
    ScopeError,
)
from derwin_db.models import QATicketUpdate
from derwin_db.testing.server import url_of
from tests.faults.load import entry, make_ticket, new_project, ticket
from tests.repos.rows import a_fix, axis
from tests.scale.cluster import Cluster


async def is_replica(session: ProjectSession) -> bool:
    """Whether this unit runs on a standby."""
    return bool((await session.sql.execute(sa.text("SELECT pg_is_in_recovery()"))).scalar_one())


async def ticket_ids(db: Database, project: UUID, **options: Any) -> tuple[bool, list[UUID]]:
    """Whether a read-only unit ran on the standby, and the tickets it saw there."""
    async with db.project(project, read_only=True, **options) as session:
        return await is_replica(session), [row.id for row in (await repos.qa_tickets.list(session)).items]


class TestReads:
    async def test_go_to_the_replica_and_writes_to_the_primary(self, pair: Cluster, replicated: Database):
        project = (await new_project(replicated)).id
        async with replicated.project(project) as session:
            assert not await is_replica(session)
            row = await make_ticket(session)
            stored = await repos.rag_corpus.add(session, a_fix(embedding=axis(1.0)))
        await pair.abreast()
        assert await ticket_ids(replicated, project) == (True, [row.id])
        async with replicated.project(project, snapshot=True) as session:
            assert await is_replica(session)
            assert [found.id async for found in repos.qa_tickets.stream(session)] == [row.id]
            assert [match.entry.id for match in await repos.rag_corpus.search(session, axis(1.0))] == [stored.id]
            async with session.savepoint():
                assert await repos.qa_tickets.count(session) == 1

    async def test_a_position_is_told_to_a_login_without_privileges_in_one_round_trip(self, replicated: Database):
        pool, _ = await replicated.app_pool(read_only=False)
        connection = await pool.acquire()
        sent: list[str] = []
        connection.add_query_logger(lambda query: sent.append(query.query))
        await pool.release(connection)
        assert "/" in await replicated.position()
        await asyncio.sleep(0)  # the driver tells its loggers a moment later
        assert len(sent) == 1, sent


class TestFences:
    async def test_hold_on_the_replica(self, pair: Cluster, replicated: Database):
        one, two = [(await new_project(replicated)).id for _ in range(2)]
        async with replicated.project(two) as session:
            foreign = await make_ticket(session)
        await pair.abreast()
        async with replicated.project(one, read_only=True) as session:
            assert await is_replica(session)
            with pytest.raises(NotFound):
                await repos.qa_tickets.get(session, foreign.id)
            for table in ("qa_tickets", "projects"):
                column = "id" if table == "projects" else "project_id"
                seen = await session.sql.execute(sa.text(f"SELECT DISTINCT {column} FROM public.{table}"))
                assert set(seen.scalars()) <= {one}

    @pytest.mark.parametrize(
        "attack",
        [
            "SELECT set_config('derwin.project_id', '{two}', true)",
            "SELECT set_config('role', 'none', true)",
            "SELECT public.derwin_open('{two}.00')",
        ],
    )
    async def test_a_forged_scope_ends_in_an_error(self, pair: Cluster, replicated: Database, attack: str):
        one, two = [(await new_project(replicated)).id for _ in range(2)]
        await pair.abreast()
        with pytest.raises(DerwinError) as caught:
            async with replicated.project(one, read_only=True) as session:
                await session.sql.execute(sa.text(attack.format(two=two)))
                await session.sql.execute(sa.text("SELECT id FROM public.qa_tickets"))
        assert caught.value.sqlstate in ("42501", "DW004")


WRITES = {
    "create": lambda session, _: repos.qa_tickets.create(session, ticket()),
    "update": lambda session, row: repos.qa_tickets.update(session, row.id, QATicketUpdate(title="x")),
    "delete": lambda session, row: repos.qa_tickets.delete(session, row.id),
    "append": lambda session, _: repos.spend_ledger.append(session, entry()),
    "claim": lambda session, _: repos.qa_runs.claim(session, "w"),
    "sql": lambda session, _: session.sql.execute(sa.text("DELETE FROM public.qa_tickets")),
}


class TestWrites:
    @pytest.mark.parametrize("write", WRITES)
    async def test_are_refused_with_what_to_do(self, pair: Cluster, replicated: Database, write: str):
        project = (await new_project(replicated)).id
        async with replicated.project(project) as session:
            row = await make_ticket(session)
        await pair.abreast()
        with pytest.raises(ScopeError, match="without `read_only=True`"):
            async with replicated.project(project, read_only=True) as session:
                await WRITES[write](session, row)

    async def test_a_primary_that_became_a_standby_is_said_to_be_one(self, pair: Cluster, replicated: Database, caplog):
        project = (await new_project(replicated)).id
        await pair.abreast()
        urls = {**pair.database.urls, "url": url_of(pair.on_replica.service)}
        with caplog.at_level(logging.WARNING, "derwin_db"):
            async with Database(**urls) as misled:
                with pytest.raises(DatabaseUnavailable, match="standby"):
                    async with misled.project(project) as session:
                        await repos.qa_tickets.create(session, ticket())
        assert "standby" in caplog.text


class TestLag:
    async def test_a_unit_that_waits_for_nothing_sees_the_past(self, pair: Cluster, replicated: Database):
        project = (await new_project(replicated)).id
        await pair.abreast()
        await pair.pause()
        async with replicated.project(project) as session:
            await make_ticket(session)
        assert await ticket_ids(replicated, project) == (True, [])
        unknown = (await new_project(replicated)).id
        with pytest.raises(ProjectNotFound):
            await ticket_ids(replicated, unknown)

    async def test_a_unit_after_a_position_sees_it_from_the_primary_at_worst(self, pair: Cluster, replicated: Database):
        project = (await new_project(replicated)).id
        await pair.abreast()
        await pair.pause()
        async with replicated.project(project) as session:
            row = await make_ticket(session)
        after = await replicated.position()
        assert await ticket_ids(replicated, project, after=after) == (False, [row.id])
        await pair.go_on()
        async with pair.open(read_wait=20) as patient:
            assert await ticket_ids(patient, project, after=after) == (True, [row.id])
        assert await ticket_ids(replicated, project) == (True, [row.id])

    async def test_a_snapshot_is_taken_after_the_wait(self, pair: Cluster, replicated: Database):
        project = (await new_project(replicated)).id
        async with replicated.project(project) as session:
            row = await make_ticket(session)
        async with (
            pair.open(read_wait=20) as patient,
            patient.project(project, snapshot=True, after=await replicated.position()) as session,
        ):
            assert await repos.qa_tickets.get(session, row.id)
            assert await is_replica(session)

    async def test_a_replica_that_is_behind_takes_the_former_key_of_the_scope(self, pair: Cluster, replicated: Database):
        project = (await new_project(replicated)).id
        await pair.abreast()
        assert await ticket_ids(replicated, project) == (True, [])
        await pair.pause()
        owner = await pair.primary.connect(pair.database.owner.database)
        try:
            await rotation.start_rotation(owner)
            await rotation.finish_rotation(owner)
        finally:
            await owner.close()
        async with replicated.project(project) as session:
            row = await make_ticket(session)  # with the new key
        assert await ticket_ids(replicated, project) == (True, [])  # with the former one
        async with pair.open() as later:  # it knows the new key alone
            assert await ticket_ids(later, project) == (False, [row.id])
        await pair.abreast()
        assert await ticket_ids(replicated, project) == (True, [row.id])

    async def test_without_a_stand_in_the_error_says_it(self, pair: Cluster):
        async with pair.open(read_fallback=False, read_wait=0.1) as db:
            project = (await new_project(db)).id
            await pair.abreast()
            await pair.pause()
            await new_project(db)
            with pytest.raises(ReplicaBehind):
                await ticket_ids(db, project, after=await db.position())
            assert await ticket_ids(db, project) == (True, [])
            assert db.connections_in_use() == 0

    async def test_a_unit_that_writes_does_not_wait(self, pair: Cluster, replicated: Database):
        project = (await new_project(replicated)).id
        async with replicated.project(project, after="FFFFFFFF/FFFFFFFF") as session:
            assert await make_ticket(session)

    @pytest.mark.parametrize("after", ["", "0", "0/0'; --", "0/G", 7, "123456789/0"])
    def test_what_no_position_is_is_refused_before_any_sql(self, replicated: Database, after: Any):
        with pytest.raises(InvalidInput, match="position"):
            replicated.project("acme", read_only=True, after=after)
