"""Small projects are searched exactly, large ones through the index, and what that needs is in force, and no longer.

A server takes a mistyped or unknown setting of an extension without a word.
"""

import math
from importlib import import_module

import asyncpg
import pytest
from sqlalchemy import text

from derwin_db import Database, repos
from derwin_db.errors import ExtensionMissing
from derwin_db.models import ProjectCreate, RAGCorpusCreate
from derwin_db.repos.rag_corpus import _SETTINGS, RAGCorpora

MODULE = import_module("derwin_db.repos.rag_corpus")
ROWS = 300


def direction(angle: float) -> list[float]:
    return [math.cos(angle), math.sin(angle), *[0.0] * 1534]


def fix(number: int) -> RAGCorpusCreate:
    return RAGCorpusCreate(
        classification="ui_bug" if number % 2 else "data_integrity",
        problem=str(number),
        fix_summary="f",
        diff="d",
        embedding=direction(number / 200),
    )


@pytest.fixture
async def filled(own_db):
    """A database of one's own, with one project that is large as soon as EXACT_ROWS is 0."""
    async with own_db.admin(reason="a test") as admin:
        await repos.projects.create(admin, ProjectCreate(slug="filled", name="Filled", type="OTHER"))
    async with own_db.project("filled") as session:
        await repos.rag_corpus.add_many(session, [fix(number) for number in range(ROWS)])
    return own_db


@pytest.fixture
def large(monkeypatch):
    """Makes projects count as large."""
    monkeypatch.setattr(MODULE, "EXACT_ROWS", 0)


async def sent_by(db, corpus, **options) -> list[str]:
    """The statements of one search."""
    sent = []
    async with db.project("filled") as unit:
        connection = await unit._connected()
        with connection.query_logger(lambda record: sent.append(record.query)):
            await corpus.search(unit, direction(0.3), **options)
    return sent


class TestWay:
    async def test_small_is_exact_without_settings(self, filled):
        sent = await sent_by(filled, RAGCorpora())
        assert any("cosine_distance" in query for query in sent)
        assert not any("SET LOCAL" in query or "<=>" in query for query in sent)

    async def test_large_goes_through_the_index(self, filled, large):
        sent = await sent_by(filled, RAGCorpora())
        [query] = [query for query in sent if "<=>" in query]
        async with filled.project("filled") as unit:
            connection = await unit._connected()
            await unit.set_for_unit(MODULE.SEARCH_SETTINGS)
            plan = await connection.fetch(f"EXPLAIN {query}", direction(0.3), unit.project_id, 10, 2)
        assert "ix_rag_corpus_embedding" in str(plan)

    async def test_a_rare_classification_of_a_large_project_is_exact(self, filled, monkeypatch):
        monkeypatch.setattr(MODULE, "EXACT_ROWS", ROWS // 2 + 10)
        assert any("<=>" in query for query in await sent_by(filled, RAGCorpora()))
        assert not any("<=>" in query for query in await sent_by(filled, RAGCorpora(), classification="ui_bug"))

    @pytest.mark.parametrize("limit", [1, 7, ROWS, 500])
    @pytest.mark.parametrize("exact_rows", [0, 1000], ids=["index", "exact"])
    async def test_both_return_the_nearest_in_order(self, filled, monkeypatch, exact_rows, limit):
        monkeypatch.setattr(MODULE, "EXACT_ROWS", exact_rows)
        async with filled.project("filled") as session:
            found = await repos.rag_corpus.search(session, direction(0.30125), limit=limit)
        near = sorted(range(ROWS), key=lambda number: abs(number / 200 - 0.30125))
        assert [int(match.entry.problem) for match in found] == near[:limit]
        assert found[0].similarity == pytest.approx(math.cos(0.00125), abs=1e-6)

    @pytest.mark.parametrize("exact_rows", [0, 1000], ids=["index", "exact"])
    async def test_both_take_all_conditions(self, filled, monkeypatch, exact_rows):
        monkeypatch.setattr(MODULE, "EXACT_ROWS", exact_rows)
        async with filled.project("filled") as session:
            found = await repos.rag_corpus.search(
                session, direction(0.3), limit=50, classification="ui_bug", min_similarity=math.cos(0.0501)
            )
        assert sorted(int(match.entry.problem) for match in found) == list(range(51, 71, 2))


class TestSettings:
    async def test_end_with_the_search(self, filled, large):
        async with filled.project("filled") as session:
            await repos.rag_corpus.search(session, direction(0.3))
            found = await session.sql.execute(
                text("SELECT name, setting FROM pg_settings WHERE name = ANY (:names)"), {"names": [*_SETTINGS]}
            )
            assert dict(found.all()) == {
                "plan_cache_mode": "auto",
                "enable_sort": "on",
                "hnsw.iterative_scan": "off",
                "hnsw.ef_search": "40",
            }

    async def test_are_all_known_to_the_server(self, filled, own_database):
        """A mistyped one would be taken without a word, and mean nothing."""
        connection = await asyncpg.connect(**own_database.owner.connect_arguments())
        try:
            await connection.execute("LOAD 'vector'")
            found = await connection.fetch("SELECT name FROM pg_settings WHERE name = ANY ($1)", list(_SETTINGS))
        finally:
            await connection.close()
        assert {row["name"] for row in found} == set(_SETTINGS)

    async def test_a_pgvector_without_them_is_refused_at_start(self, own_database):
        connection = await asyncpg.connect(**own_database.owner.connect_arguments())
        try:
            await connection.execute("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
        finally:
            await connection.close()
        with pytest.raises(ExtensionMissing, match=r"0\.8"):
            await Database(**own_database.urls).start()
