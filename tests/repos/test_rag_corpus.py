"""rag_corpus: remembering fixes, and finding the most similar ones."""

import math
import random
from typing import Any

import pytest
from pydantic import ValidationError

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import InvalidInput, NotFound
from derwin_db.fields.scalars import new_id
from derwin_db.fields.vector import VECTOR_SIZE
from derwin_db.models import Project, RAGCorpus, RAGCorpusCreate, RAGCorpusUpdate
from tests.repos.rows import a_fix, a_ticket, axis

CONTENT = set(RAGCorpusCreate.model_fields)
NEW_VALUES: dict[str, Any] = {
    "ticket_id": new_id(),
    "fix_attempt_id": new_id(),
    "classification": "billing",
    "problem": "p",
    "fix_summary": "f",
    "diff": "",
    "embedding_model": "m",
    "token_count": 7,
}
NULLABLE = ("ticket_id", "fix_attempt_id", "embedding", "embedding_model")


def at(degrees: float) -> list[float]:
    """Return the embedding at this angle to axis(1.0): its cosine similarity to that one is known."""
    return axis(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))


def similarity(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)


@pytest.fixture
async def entry(session: ProjectSession) -> RAGCorpus:
    return await repos.rag_corpus.add(session, a_fix(embedding=axis(1.0, 2.0)))


class TestAdd:
    async def test_writes_the_entry_and_leaves_the_numbers_there(self, session: ProjectSession) -> None:
        data = a_fix(**NEW_VALUES, embedding=axis(0.1, -3.5))
        row = await repos.rag_corpus.add(session, data)
        assert row.model_dump(include=CONTENT) == {**data.model_dump(), "embedding": None}
        assert (row.use_count, row.last_used_at) == (0, None)
        whole = await repos.rag_corpus.get(session, row.id, with_embedding=True)
        assert whole.embedding == data.embedding

    async def test_without_an_embedding(self, session: ProjectSession) -> None:
        row = await repos.rag_corpus.add(session, a_fix())
        assert (await repos.rag_corpus.get(session, row.id, with_embedding=True)).embedding is None

    async def test_other_input_is_refused(self, session: ProjectSession) -> None:
        with pytest.raises(InvalidInput):
            await repos.rag_corpus.add(session, a_ticket())  # type: ignore[arg-type]


class TestAddMany:
    async def test_writes_all(self, session: ProjectSession) -> None:
        rows = [a_fix(problem=f"{n}", embedding=axis(float(n)) if n else None) for n in range(5)]
        assert await repos.rag_corpus.add_many(session, rows) == 5
        stored = [row async for row in repos.rag_corpus.stream(session, with_embedding=True)]
        assert [row.model_dump(include=CONTENT) for row in reversed(stored)] == [row.model_dump() for row in rows]

    async def test_a_generator_in_batches(self, session: ProjectSession) -> None:
        assert await repos.rag_corpus.add_many(session, (a_fix() for _ in range(1001))) == 1001
        assert await repos.rag_corpus.count(session) == 1001

    @pytest.mark.parametrize("rows", [None, "ab", 7, [None], [a_ticket()]])
    async def test_other_input_is_refused(self, session: ProjectSession, rows: Any) -> None:
        with pytest.raises(InvalidInput):
            await repos.rag_corpus.add_many(session, rows)

    async def test_nothing_is_nothing(self, session: ProjectSession) -> None:
        assert await repos.rag_corpus.add_many(session, []) == 0


class TestWithEmbedding:
    async def test_reads_bring_the_numbers_when_asked(self, session: ProjectSession, entry: RAGCorpus) -> None:
        corpus = repos.rag_corpus
        for wanted, expected in ((False, None), (True, axis(1.0, 2.0))):
            found = await corpus.find(session, entry.id, with_embedding=wanted)
            assert found is not None
            rows = [
                found,
                await corpus.get(session, entry.id, with_embedding=wanted),
                *(await corpus.list(session, with_embedding=wanted)).items,
                *[row async for row in corpus.stream(session, with_embedding=wanted)],
            ]
            assert [row.embedding for row in rows] == [expected] * 4

    async def test_a_cursor_goes_on_either_way(self, session: ProjectSession) -> None:
        await repos.rag_corpus.add_many(session, [a_fix(embedding=axis(1.0)) for _ in range(3)])
        page = await repos.rag_corpus.list(session, limit=2)
        rest = await repos.rag_corpus.list(session, limit=2, cursor=page.next_cursor, with_embedding=True)
        assert [row.embedding for row in rest.items] == [axis(1.0)]

    async def test_unknown_ids(self, session: ProjectSession) -> None:
        with pytest.raises(NotFound):
            await repos.rag_corpus.get(session, new_id(), with_embedding=True)
        assert await repos.rag_corpus.find(session, new_id(), with_embedding=True) is None


class TestUpdate:
    @pytest.mark.parametrize("field", NEW_VALUES)
    async def test_changes_what_is_set_and_nothing_else(self, session: ProjectSession, entry: RAGCorpus, field: str) -> None:
        row = await repos.rag_corpus.update(session, entry.id, RAGCorpusUpdate(**{field: NEW_VALUES[field]}))
        assert row == entry.model_copy(update={field: NEW_VALUES[field], "updated_at": row.updated_at})
        whole = await repos.rag_corpus.get(session, entry.id, with_embedding=True)
        assert whole.embedding == axis(1.0, 2.0)

    async def test_the_embedding(self, session: ProjectSession, entry: RAGCorpus) -> None:
        for embedding in (axis(5.0), None):
            row = await repos.rag_corpus.update(session, entry.id, RAGCorpusUpdate(embedding=embedding))
            assert row.embedding is None
            assert (await repos.rag_corpus.get(session, entry.id, with_embedding=True)).embedding == embedding

    @pytest.mark.parametrize("field", NULLABLE)
    async def test_none_clears_what_may_be_null(self, session: ProjectSession, field: str) -> None:
        values = {"ticket_id": new_id(), "fix_attempt_id": new_id(), "embedding": axis(1.0), "embedding_model": "m"}
        entry = await repos.rag_corpus.add(session, a_fix(**values))
        await repos.rag_corpus.update(session, entry.id, RAGCorpusUpdate(**{field: None}))
        row = await repos.rag_corpus.get(session, entry.id, with_embedding=True)
        assert {name: getattr(row, name) for name in values} == {**values, field: None}

    @pytest.mark.parametrize("field", sorted(set(NEW_VALUES) - set(NULLABLE)))
    def test_none_is_refused_elsewhere(self, field: str) -> None:
        with pytest.raises(ValidationError):
            RAGCorpusUpdate(**{field: None})

    async def test_nothing_set_and_unknown(self, session: ProjectSession, entry: RAGCorpus) -> None:
        assert await repos.rag_corpus.update(session, entry.id, RAGCorpusUpdate()) == entry
        for data in (RAGCorpusUpdate(), RAGCorpusUpdate(diff="x")):
            with pytest.raises(NotFound):
                await repos.rag_corpus.update(session, new_id(), data)


class TestRecordUse:
    async def test_counts_and_stamps(self, session: ProjectSession, entry: RAGCorpus) -> None:
        for used in (1, 2, 3):
            row = await repos.rag_corpus.record_use(session, entry.id)
            assert row.use_count == used
        assert row == entry.model_copy(update={"use_count": 3, "last_used_at": row.updated_at, "updated_at": row.updated_at})

    async def test_an_unknown_entry_is_not_found(self, session: ProjectSession) -> None:
        with pytest.raises(NotFound):
            await repos.rag_corpus.record_use(session, new_id())


class TestDelete:
    async def test_forgets(self, session: ProjectSession, entry: RAGCorpus) -> None:
        await repos.rag_corpus.delete(session, entry.id)
        assert not await repos.rag_corpus.exists(session, entry.id)
        with pytest.raises(NotFound):
            await repos.rag_corpus.delete(session, entry.id)


class TestSearch:
    async def _fill(self, session: ProjectSession) -> None:
        rows = [
            a_fix(problem=f"{d}", embedding=at(d), classification="even" if d % 20 == 0 else "odd") for d in range(0, 190, 10)
        ]
        await repos.rag_corpus.add_many(session, [*rows, a_fix(problem="none")])

    async def test_most_similar_first(self, session: ProjectSession) -> None:
        await self._fill(session)
        matches = await repos.rag_corpus.search(session, axis(2.0), limit=19)
        assert [match.entry.problem for match in matches] == [f"{d}" for d in range(0, 190, 10)]
        expected = [math.cos(math.radians(d)) for d in range(0, 190, 10)]
        assert [match.similarity for match in matches] == pytest.approx(expected, abs=1e-6)
        assert {match.entry.embedding for match in matches} == {None}

    async def test_of_equal_ones_the_oldest_first(self, session: ProjectSession) -> None:
        """By their ids, not by where their rows lie: those that were changed lie behind the others."""
        ids = sorted([(await repos.rag_corpus.add(session, a_fix(embedding=at(0)))).id for _ in range(12)])
        for id in ids[:4]:
            await repos.rag_corpus.update(session, id, RAGCorpusUpdate(token_count=1))
        for limit in (5, 12):
            found = await repos.rag_corpus.search(session, at(30), limit=limit)
            assert [match.entry.id for match in found] == ids[:limit]

    @pytest.mark.parametrize("limit", [1, 5, 19, 20, 500])
    async def test_as_many_as_there_are(self, session: ProjectSession, limit: int) -> None:
        await self._fill(session)
        assert len(await repos.rag_corpus.search(session, at(45), limit=limit)) == min(limit, 19)

    async def test_of_one_classification(self, session: ProjectSession) -> None:
        await self._fill(session)
        matches = await repos.rag_corpus.search(session, at(90), limit=3, classification="even")
        assert {match.entry.classification for match in matches} == {"even"}
        assert {match.entry.problem for match in matches} >= {"80", "100"}
        assert await repos.rag_corpus.search(session, at(90), classification="unknown") == []

    @pytest.mark.parametrize(("least", "count"), [(-1, 19), (-0.01, 10), (0.01, 9), (0.99, 1), (1, 1)])
    async def test_above_a_similarity(self, session: ProjectSession, least: float, count: int) -> None:
        await self._fill(session)
        matches = await repos.rag_corpus.search(session, axis(1.0), limit=50, min_similarity=least)
        assert len(matches) == count
        assert all(match.similarity >= least for match in matches)

    async def test_is_exact_also_on_random_vectors(self, db: Database, project: Project, other_project: Project) -> None:
        generator = random.Random(7)
        vectors = [[generator.gauss(0, 1) for _ in range(VECTOR_SIZE)] for _ in range(60)]
        async with db.project(other_project.id) as other:
            await repos.rag_corpus.add_many(other, [a_fix(embedding=vector) for vector in vectors[:30]])
        async with db.project(project.id) as session:
            await repos.rag_corpus.add_many(session, [a_fix(problem=f"{n}", embedding=v) for n, v in enumerate(vectors[30:])])
            wanted = vectors[0]
            exact = sorted(range(30), key=lambda n: -similarity(wanted, vectors[30 + n]))
            for _ in range(8):
                matches = await repos.rag_corpus.search(session, wanted, limit=10)
                assert [int(match.entry.problem) for match in matches] == exact[:10]

    @pytest.mark.parametrize(
        "bad",
        [
            {"embedding": []},
            {"embedding": [1.0] * 1535},
            {"embedding": [0.0] * 1536},
            {"embedding": [math.nan] * 1536},
            {"embedding": "x" * 1536},
            {"embedding": None},
            {"limit": 0},
            {"limit": 501},
            {"limit": True},
            {"classification": "No"},
            {"min_similarity": 1.1},
            {"min_similarity": True},
            {"min_similarity": math.nan},
            {"min_similarity": "0.5"},
        ],
    )
    async def test_bad_input_is_refused_before_any_sql(self, db: Database, project: Project, bad: dict[str, Any]) -> None:
        async with db.project(project.id) as unit:
            with pytest.raises(InvalidInput, match=next(iter(bad))):
                await repos.rag_corpus.search(unit, **{"embedding": axis(1.0), **bad})
            assert unit._connection is None
