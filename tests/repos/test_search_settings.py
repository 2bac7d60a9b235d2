"""What a search sets is in force: a server takes a mistyped or unknown setting of an extension without a word."""

import math
from importlib import import_module

import pytest
from sqlalchemy import text

from derwin_db import Database, repos
from derwin_db.errors import DerwinError
from derwin_db.models import RAGCorpusCreate
from derwin_db.repos.rag_corpus import _SETTINGS, RAGCorpora


def direction(angle: float) -> list[float]:
    return [math.cos(angle), math.sin(angle), *[0.0] * 1534]


def fix(angle: float) -> RAGCorpusCreate:
    return RAGCorpusCreate(classification="ui_bug", problem=str(angle), fix_summary="f", diff="d", embedding=direction(angle))


@pytest.fixture
async def filled(session):
    await repos.rag_corpus.add_many(session, [fix(number / 100) for number in range(60)])
    return session


class TestSettings:
    async def test_are_in_force_after_a_search(self, filled):
        await repos.rag_corpus.search(filled, direction(0.3))
        found = await filled.sql.execute(
            text("SELECT name, setting FROM pg_settings WHERE name = ANY (:names)"), {"names": [*_SETTINGS]}
        )
        assert dict(found.all()) == _SETTINGS

    async def test_end_with_the_unit(self, db, project, filled):
        await repos.rag_corpus.search(filled, direction(0.3))
        async with db.project(project.id) as other:
            assert await other.sql.scalar(text("SELECT current_setting('plan_cache_mode')")) == "auto"

    @pytest.mark.parametrize("name", ["hnsw.iterativ_scan", "hnsw.efsearch", "derwin.anything"])
    async def test_one_that_the_server_does_not_know_is_found(self, filled, monkeypatch, name):
        module = import_module("derwin_db.repos.rag_corpus")
        monkeypatch.setitem(_SETTINGS, name, "64")
        monkeypatch.setattr(module, "SEARCH_SETTINGS", f"{module.SEARCH_SETTINGS}; SET LOCAL {name} = 64")
        with pytest.raises(DerwinError):  # once the extension is loaded, the server itself refuses a name that begins with hnsw
            await RAGCorpora().search(filled, direction(0.3))

    async def test_are_looked_at_once_for_each_database(self, db, project, migrated):
        corpus = RAGCorpora()
        assert await looks(db, project, corpus)
        assert not await looks(db, project, corpus)
        async with Database(**migrated.urls) as another:
            assert await looks(another, project, corpus)


async def looks(db, project, corpus) -> bool:
    """Whether a search asks for the settings in force."""
    sent = []
    async with db.project(project.id) as unit:
        connection = await unit._connected()
        with connection.query_logger(lambda record: sent.append(record.query)):
            await corpus.search(unit, direction(0.3))
    return any("pg_settings" in query for query in sent)


class TestOrder:
    async def test_is_by_similarity(self, filled):
        found = await repos.rag_corpus.search(filled, direction(0.305), limit=20)
        similarities = [match.similarity for match in found]
        assert similarities == sorted(similarities, reverse=True)
        assert {match.entry.problem for match in found[:2]} == {"0.3", "0.31"}

    @pytest.mark.parametrize("limit", [1, 7, 60, 500])
    async def test_returns_as_many_as_there_are(self, filled, limit):
        assert len(await repos.rag_corpus.search(filled, direction(0.3), limit=limit)) == min(limit, 60)
