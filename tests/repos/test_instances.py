"""Rows that repositories return are real SQLModel instances: assigned to, copied, pickled, merged and served like any."""

import copy
import json
import pickle
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import TypeAdapter

from derwin_db import Database, ProjectSession, repos
from derwin_db.models import Project, QATicketUpdate, RAGCorpus
from tests.repos.conftest import Filled
from tests.repos.filling import REPOSITORIES
from tests.repos.rows import a_fix, a_ticket, axis


@pytest.fixture
async def own(db: Database, filled: Filled) -> AsyncIterator[ProjectSession]:
    """A unit of work of the filled project that leaves nothing behind."""
    unit = db.project(filled.project)
    await unit.__aenter__()
    yield unit
    await unit._abandon()


@pytest.fixture(params=sorted(REPOSITORIES))
async def row(request: pytest.FixtureRequest, own: ProjectSession) -> Any:
    return (await REPOSITORIES[request.param].list(own, limit=1)).items[0]


class TestAssign:
    async def test_changes_the_instance(self, row: Any) -> None:
        before = row.created_at
        row.created_at = None
        assert row.created_at is None
        assert sa.inspect(row).attrs.created_at.history.deleted == [before]

    async def test_stores_nothing(self, db: Database, own: ProjectSession, filled: Filled, row: Any) -> None:
        repo = REPOSITORIES[type(row).__tablename__]
        before = row.model_dump()
        row.created_at = None
        assert (await repo.get(own, row.id)).model_dump() == before


class TestCopy:
    @pytest.mark.parametrize(
        "copied", [copy.copy, copy.deepcopy, lambda row: row.model_copy(), lambda row: row.model_copy(deep=True)]
    )
    async def test_equals_and_is_its_own(self, row: Any, copied: Any) -> None:
        twin = copied(row)
        assert twin is not row
        assert type(twin) is type(row)
        assert twin == row
        twin.created_at = None
        assert row.created_at is not None

    async def test_a_deep_copy_shares_no_json(self, own: ProjectSession) -> None:
        profile = await repos.project_profiles.current(own)
        twin = copy.deepcopy(profile)
        twin.critical_flows[0].steps.append("pay")
        assert profile.critical_flows[0].steps == ["draft", "post"]


class TestPickle:
    async def test_comes_back_equal_and_assignable(self, row: Any) -> None:
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            back = pickle.loads(pickle.dumps(row, protocol))
            assert back == row
            assert sa.inspect(back).key == sa.inspect(row).key
            back.created_at = None
            assert back.created_at is None


class TestState:
    async def test_is_detached_and_has_its_key(self, row: Any) -> None:
        state = sa.inspect(row)
        assert state.detached
        assert not state.modified
        keys = [column.name for column in type(row).__table__.primary_key]
        assert state.key[1] == tuple(getattr(row, name) for name in keys)

    async def test_all_columns_are_loaded(self, row: Any) -> None:
        """An attribute that had to be loaded would raise on a detached instance."""
        for name in type(row).model_fields:
            getattr(row, name)
        assert sa.inspect(row).unloaded == set()


class TestJson:
    async def test_is_the_same_as_pydantic_makes_of_the_values(self, row: Any) -> None:
        text = row.model_dump_json()
        assert json.loads(text) == json.loads(TypeAdapter(type(row)).dump_json(row))
        assert json.loads(text)["id"] == str(row.id)


class TestMerge:
    async def test_without_changes_writes_nothing(self, own: ProjectSession, row: Any) -> None:
        repo = REPOSITORIES[type(row).__tablename__]
        merged = await own.sql.merge(row)
        assert merged is not row
        assert not own.sql.is_modified(merged)
        await own.sql.flush()
        assert await repo.get(own, row.id) == row

    async def test_of_a_pickled_row_finds_the_stored_one(self, own: ProjectSession, row: Any) -> None:
        merged = await own.sql.merge(pickle.loads(pickle.dumps(row)))
        assert sa.inspect(merged).persistent
        assert not own.sql.is_modified(merged)

    async def test_writes_what_was_assigned(self, session: ProjectSession) -> None:
        ticket = await repos.qa_tickets.create(session, a_ticket())
        ticket.title = "assigned"
        await session.sql.merge(ticket)
        await session.sql.flush()
        assert (await repos.qa_tickets.get(session, ticket.id)).title == "assigned"

    async def test_takes_a_row_that_a_verb_returned(self, session: ProjectSession) -> None:
        ticket = await repos.qa_tickets.create(session, a_ticket())
        updated = await repos.qa_tickets.update(session, ticket.id, QATicketUpdate(steps_to_reproduce=["wait"]))
        merged = await session.sql.merge(updated)
        assert (merged.version, merged.steps_to_reproduce) == (2, ["wait"])


class TestAdd:
    async def test_lets_go_of_a_row_with_its_unit_though_nothing_was_sent(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            ticket = await repos.qa_tickets.create(session, a_ticket())
        for _ in range(2):
            async with db.project(project.id) as session:
                session.sql.add(ticket)
            assert session._source is None  # no statement ran
            assert sa.inspect(ticket).detached


class TestMergeWithoutEmbedding:
    """An entry is read without its 1,536 numbers; storing it again must not store that it has none."""

    async def _entry(self, session: ProjectSession) -> RAGCorpus:
        added = await repos.rag_corpus.add(session, a_fix(embedding=axis(1.0, 2.0)))
        return await repos.rag_corpus.get(session, added.id)

    async def _check(self, session: ProjectSession, entry: RAGCorpus, problem: str) -> None:
        await session.sql.flush()
        stored = await repos.rag_corpus.get(session, entry.id, with_embedding=True)
        assert (stored.problem, stored.embedding) == (problem, axis(1.0, 2.0))

    async def test_leaves_the_stored_one(self, session: ProjectSession) -> None:
        entry = await self._entry(session)
        assert entry.embedding is None
        entry.problem = "changed"
        await session.sql.merge(entry)
        await self._check(session, entry, "changed")

    @pytest.mark.parametrize(
        "through", [copy.copy, copy.deepcopy, lambda row: row.model_copy(), lambda row: pickle.loads(pickle.dumps(row))]
    )
    async def test_of_a_copy_leaves_it_too(self, session: ProjectSession, through: Any) -> None:
        entry = through(await self._entry(session))
        entry.problem = "changed"
        await session.sql.merge(entry)
        await self._check(session, entry, "changed")

    async def test_an_embedding_that_is_assigned_is_stored(self, session: ProjectSession) -> None:
        entry = await self._entry(session)
        entry.embedding = axis(3.0)
        await session.sql.merge(entry)
        await session.sql.flush()
        stored = await repos.rag_corpus.get(session, entry.id, with_embedding=True)
        assert stored.embedding == axis(3.0)

    async def test_a_row_that_was_read_whole_can_lose_it(self, session: ProjectSession) -> None:
        entry = await self._entry(session)
        whole = await repos.rag_corpus.get(session, entry.id, with_embedding=True)
        whole.embedding = None
        await session.sql.merge(whole)
        await session.sql.flush()
        assert (await repos.rag_corpus.get(session, entry.id, with_embedding=True)).embedding is None
