"""The embedding column: pgvector's type and comparators in SQLAlchemy, values as lists of 32-bit floats."""

from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from pgvector import Vector as VectorValue
from pgvector.sqlalchemy import VECTOR
from sqlmodel import select

from derwin_db import ProjectSession, repos
from derwin_db.fields.vector import Vector
from derwin_db.models import RAGCorpus
from derwin_db.query.builders import table_of
from derwin_db.query.statement import DIALECT
from tests.repos.rows import a_fix, axis

EMBEDDING: Any = RAGCorpus.embedding
COLUMN: Any = table_of(RAGCorpus).c.embedding
DISTANCES = {
    "cosine_distance": [0.0, 1 - 0.5**0.5, 1.0],
    "l2_distance": [0.0, 1.0, 2**0.5],
    "l1_distance": [0.0, 1.0, 2.0],
    "max_inner_product": [-1.0, -1.0, 0.0],
}
"""Of (1, 0), (1, 1) and (0, 1) from (1, 0)."""


@pytest.fixture
async def three(session: ProjectSession) -> ProjectSession:
    """A project with entries at (1, 0), (1, 1) and (0, 1)."""
    places = ([1.0, 0.0], [1.0, 1.0], [0.0, 1.0])
    await repos.rag_corpus.add_many(session, [a_fix(problem=f"{n}", embedding=axis(*p)) for n, p in enumerate(places)])
    return session


class TestComparators:
    @pytest.mark.parametrize("name", DISTANCES)
    async def test_of_the_orm(self, three: ProjectSession, name: str) -> None:
        distance = getattr(EMBEDDING, name)(axis(1.0))
        rows = await three.sql.execute(select(RAGCorpus.problem, distance).order_by(RAGCorpus.problem))
        assert [row[1] for row in rows] == pytest.approx(DISTANCES[name], abs=1e-6)

    @pytest.mark.parametrize("name", DISTANCES)
    async def test_of_core(self, three: ProjectSession, name: str) -> None:
        table = table_of(RAGCorpus)
        distance = getattr(COLUMN, name)(sa.bindparam("wanted"))
        query = sa.select(distance).order_by(table.c.problem)
        found = await three.sql.scalars(query, {"wanted": axis(1.0)})
        assert found.all() == pytest.approx(DISTANCES[name], abs=1e-6)

    async def test_between_columns(self, three: ProjectSession) -> None:
        assert set(await three.sql.scalars(sa.select(EMBEDDING.cosine_distance(EMBEDDING)))) == {0.0}

    async def test_in_conditions_and_order(self, three: ProjectSession) -> None:
        distance = EMBEDDING.cosine_distance(axis(0.0, 1.0))
        query = sa.select(RAGCorpus).where(distance < 0.5).order_by(distance)
        rows = (await three.sql.scalars(query)).all()
        assert [row.problem for row in rows] == ["2", "1"]
        assert rows[0].embedding == axis(0.0, 1.0)

    @pytest.mark.parametrize(
        "wanted",
        [axis(1.0), tuple(axis(1.0)), np.array(axis(1.0)), np.array(axis(1.0), dtype=np.float32), VectorValue(axis(1.0))],
        ids=["list", "tuple", "array", "array of 32 bits", "Vector"],
    )
    async def test_take_what_holds_numbers(self, three: ProjectSession, wanted: Any) -> None:
        query = sa.select(RAGCorpus.problem).order_by(EMBEDDING.l2_distance(wanted)).limit(1)
        assert (await three.sql.scalars(query)).all() == ["0"]

    def test_literal_values_can_be_shown(self) -> None:
        query = sa.select(sa.type_coerce(sa.column("e"), Vector(2)).l2_distance([1.0, 2.0]))
        assert "<-> CAST(ARRAY[1.0, 2.0] AS VECTOR(2))" in str(
            query.compile(dialect=DIALECT, compile_kwargs={"literal_binds": True})
        )


class TestValues:
    async def test_are_lists_however_they_are_read(self, three: ProjectSession) -> None:
        table = table_of(RAGCorpus)
        by_hand = sa.text("SELECT embedding FROM public.rag_corpus WHERE problem = '1'").columns(embedding=Vector())
        for query in (
            sa.select(EMBEDDING).where(RAGCorpus.problem == "1"),
            sa.select(COLUMN).where(table.c.problem == "1"),
            by_hand,
        ):
            assert (await three.sql.scalars(query)).all() == [axis(1.0, 1.0)]

    async def test_are_written_by_the_orm_and_by_core(self, session: ProjectSession) -> None:
        values = {"classification": "ui_bug", "fix_summary": "f", "diff": "", "project_id": session.project_id}
        session.sql.add(RAGCorpus(problem="orm", embedding=axis(0.1, 0.2), **values))
        await session.sql.flush()
        rows = [
            {"problem": "core", "embedding": np.array(axis(3.0, 4.0)), **values},
            {"problem": "none", "embedding": None, **values},
        ]
        await session.sql.execute(sa.insert(table_of(RAGCorpus)), rows)
        stored = {row.problem: row.embedding async for row in repos.rag_corpus.stream(session, with_embedding=True)}
        assert stored == {"orm": pytest.approx(axis(0.1, 0.2)), "core": axis(3.0, 4.0), "none": None}


def test_the_type_is_pgvectors() -> None:
    assert isinstance(COLUMN.type, VECTOR)
    assert COLUMN.type.compile(dialect=DIALECT) == "VECTOR(1536)"
