"""The search by similarity finds what comparing everything finds: in every geometry, of every size, beside other projects."""

import math
from typing import Any

import asyncpg
import numpy as np
import pytest
import sqlalchemy as sa

from benchmarks.vector_data import GEOMETRIES, Answers, source_of
from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import ExtensionMissing
from derwin_db.fields.scalars import new_id
from derwin_db.fields.vector import VECTOR_SIZE
from derwin_db.models import RAGCorpusUpdate
from derwin_db.repos.rules import nearest
from derwin_db.testing import TestDatabase
from tests.conftest import NewProject
from tests.repos.rows import a_fix, axis

ROWS = 600
"""More than what is kept by its bits, and few enough to write."""

QUERIES = 10
DERIVED = sa.text(
    "SELECT problem, bits = binary_quantize(embedding)::bit(1536), words = derwin_words(problem || ' ' || fix_summary) "
    "FROM rag_corpus ORDER BY problem"
)


async def fill(session: ProjectSession, points: np.ndarray, **given: Any) -> None:
    rows = [a_fix(problem=f"{number}", embedding=point, **given) for number, point in enumerate(points.tolist())]
    await repos.rag_corpus.add_many(session, rows)


async def found(session: ProjectSession, embedding: Any, **options: Any) -> list[int]:
    return [int(match.entry.problem) for match in await repos.rag_corpus.search(session, list(embedding), **options)]


def exact(points: np.ndarray, wanted: np.ndarray, limit: int) -> list[int]:
    return np.argsort(-(points @ wanted), kind="stable")[:limit].tolist()


def recall(ours: list[int], true: list[int]) -> float:
    return len({*ours} & {*true}) / len(true)


class TestExactness:
    @pytest.mark.parametrize("geometry", GEOMETRIES)
    async def test_in_every_geometry(self, session: ProjectSession, geometry: str) -> None:
        source = source_of(geometry)
        points, wanted = source.points(ROWS), source.points(QUERIES)
        await fill(session, points)
        for limit in (10, 3):
            answers = [await found(session, one.tolist(), limit=limit) for one in wanted]
            assert {len(answer) for answer in answers} == {limit}
            recalls = [recall(answer, exact(points, one, limit)) for answer, one in zip(answers, wanted, strict=True)]
            assert min(recalls) >= 0.9
            assert sum(recalls) / QUERIES >= 0.99

    @pytest.mark.parametrize("rows", [1, 9, 40, 51])
    async def test_of_small_projects_all_is_compared(self, session: ProjectSession, rows: int) -> None:
        source = source_of("random")
        points, wanted = source.points(rows), source.points(3)
        await fill(session, points)
        for one in wanted:
            assert await found(session, one.tolist(), limit=10) == exact(points, one, 10)

    async def test_a_wide_limit(self, session: ProjectSession) -> None:
        source = source_of("topics")
        points, wanted = source.points(ROWS), source.points(2)
        await fill(session, points)
        for one in wanted:
            assert recall(await found(session, one.tolist(), limit=500), exact(points, one, 500)) >= 0.99

    async def test_within_a_classification(self, session: ProjectSession) -> None:
        source = source_of("decaying")
        points, wanted = source.points(600), source.points(4)
        await fill(session, points[:300], classification="even")
        rows = [a_fix(problem=f"{300 + n}", embedding=p, classification="odd") for n, p in enumerate(points[300:].tolist())]
        await repos.rag_corpus.add_many(session, rows)
        for one in wanted:
            answer = await found(session, one.tolist(), limit=10, classification="odd")
            assert recall(answer, [300 + n for n in exact(points[300:], one, 10)]) >= 0.9

    async def test_of_shorter_embeddings_that_were_padded(self, session: ProjectSession) -> None:
        """Zeros at the end change no angle: what a model of 384 numbers finds is what is found."""
        generator = np.random.default_rng(5)
        short = generator.standard_normal((600, 20)) @ generator.standard_normal((20, 384))
        short /= np.linalg.norm(short, axis=1, keepdims=True)
        padded = np.pad(short, ((0, 0), (0, VECTOR_SIZE - 384)))
        await fill(session, padded[:-5])
        for number in range(-5, 0):
            matches = await repos.rag_corpus.search(session, padded[number].tolist(), limit=10)
            true = exact(short[:-5], short[number], 10)
            assert recall([int(match.entry.problem) for match in matches], true) >= 0.9
            assert matches[0].similarity == pytest.approx(short[true[0]] @ short[number], abs=1e-6)

    async def test_what_is_equal_comes_in_the_order_of_ids(self, session: ProjectSession) -> None:
        await fill(session, np.array([axis(1.0)] * 700 + [axis(1.0, 0.5)] * 20))
        assert await found(session, axis(2.0), limit=30) == list(range(30))
        least = math.cos(0.1)
        assert len(await found(session, axis(1.0), limit=500, min_similarity=least)) == 500

    async def test_of_what_has_no_embedding_nothing_is_found(self, session: ProjectSession) -> None:
        await repos.rag_corpus.add_many(session, [a_fix() for _ in range(5)])
        assert await repos.rag_corpus.search(session, axis(1.0)) == []


class TestOtherProjects:
    async def test_shape_no_answer_and_are_in_none(self, db: Database, new_project: NewProject) -> None:
        source = source_of("random")
        points, wanted = source.points(300), source.points(5).tolist()
        ours, other = await new_project(), await new_project()
        async with db.project(ours.id) as session:
            await fill(session, points)
            before = [await repos.rag_corpus.search(session, one, limit=20) for one in wanted]
        async with db.project(other.id) as session:
            await fill(session, np.array(wanted * 60, dtype=np.float32))
        async with db.project(ours.id) as session:
            assert [await repos.rag_corpus.search(session, one, limit=20) for one in wanted] == before


class TestRebuilds:
    async def test_change_nothing(self, own_db: Database, own_database: TestDatabase) -> None:
        from derwin_db.models import ProjectCreate

        async with own_db.admin(reason="a test") as admin:
            project = await repos.projects.create(admin, ProjectCreate(slug="rebuilt", name="Rebuilt", type="OTHER"))
        source = source_of("near-duplicates")
        points, wanted = source.points(300), source.points(4).tolist()
        async with own_db.project(project.id) as session:
            await fill(session, points)
        answers = []
        owner = await asyncpg.connect(**own_database.owner.connect_arguments())
        try:
            for _ in range(5):
                await owner.execute("REINDEX INDEX public.ix_rag_corpus_bits")
                await owner.execute("VACUUM (ANALYZE) public.rag_corpus")
                async with own_db.project(project.id) as session:
                    answers.append([await found(session, one, limit=10) for one in wanted])
        finally:
            await owner.close()
        assert answers == [answers[0]] * 5


class TestDerived:
    async def test_follows_whatever_is_written(self, session: ProjectSession) -> None:
        """By the repository, by SQL of a service, and where somebody writes what is derived himself."""
        entry = await repos.rag_corpus.add(session, a_fix(problem="a", embedding=axis(1.0, -1.0)))
        await repos.rag_corpus.add(session, a_fix(problem="b", embedding=None))
        await session.sql.execute(
            sa.text("UPDATE rag_corpus SET bits = (~ bits)::bit(1536), words = 'forged' WHERE problem = 'a'")
        )
        assert (await session.sql.execute(DERIVED)).all() == [("a", True, True), ("b", None, True)]
        await repos.rag_corpus.update(session, entry.id, RAGCorpusUpdate(embedding=axis(-1.0, 1.0), fix_summary="Another one"))
        assert (await session.sql.execute(DERIVED)).all() == [("a", True, True), ("b", None, True)]
        assert await repos.rag_corpus.search(session, text="another") != []
        await repos.rag_corpus.update(session, entry.id, RAGCorpusUpdate(embedding=None))
        assert await repos.rag_corpus.search(session, axis(1.0)) == []


def test_the_answers_that_a_measurement_keeps_are_those_of_comparing_all() -> None:
    """Entries come in parts, the first of them fewer than an answer has."""
    source = source_of("topics")
    points, wanted = source.points(300), source.points(4)
    ids = [new_id() for _ in points]
    answers = Answers(wanted, 10)
    for start, end in ((0, 4), (4, 150), (150, 300)):
        answers.see(ids[start:end], points[start:end])
    assert answers.ids() == [{ids[place] for place in exact(points, one, 10)} for one in wanted]


class TestReach:
    """What the margin is for: with none, neighbours are missed, so the tests above would notice."""

    async def test_without_a_margin_something_is_missed(self, session: ProjectSession, monkeypatch: pytest.MonkeyPatch) -> None:
        from derwin_db.repos.rag_corpus import _search_statement

        source = source_of("random")
        points, wanted = source.points(ROWS), source.points(QUERIES)
        await fill(session, points)
        with monkeypatch.context() as patch:
            patch.setattr(nearest, "SPREADS", -4)
            patch.setattr(nearest, "LEAST_MARGIN", -200)
            _search_statement.cache_clear()
            answers = [await found(session, one.tolist(), limit=10) for one in wanted]
        _search_statement.cache_clear()
        recalls = [recall(answer, exact(points, one, 10)) for answer, one in zip(answers, wanted, strict=True)]
        assert sum(recalls) / QUERIES < 0.95


async def test_a_pgvector_without_bits_is_refused_at_start(own_database: TestDatabase) -> None:
    connection = await asyncpg.connect(**own_database.owner.connect_arguments())
    try:
        await connection.execute("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
    finally:
        await connection.close()
    with pytest.raises(ExtensionMissing, match=r"0\.8"):
        await Database(**own_database.urls).start()
