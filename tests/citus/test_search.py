"""Search on a cluster: what comparing everything finds, in one statement that one worker answers, for projects on both."""

import json
import math
import random
from typing import Any
from uuid import UUID

import pytest

from derwin_db import Database, repos
from derwin_db.connection.driver import PooledConnection
from derwin_db.fields.vector import VECTOR_SIZE
from derwin_db.testing import TestDatabase, factories
from tests.citus.conftest import apart

ENTRIES = 150
WORD = "Zeitreise"


def direction(seed: int) -> list[float]:
    numbers = random.Random(seed)
    return [numbers.gauss(0, 1) for _ in range(VECTOR_SIZE)]


def near(base: list[float], seed: int) -> list[float]:
    numbers = random.Random(seed)
    return [value + numbers.gauss(0, 0.8) for value in base]


def cosine(one: list[float], other: list[float]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


@pytest.fixture(scope="module")
async def filled(db: Database, migrated: TestDatabase) -> dict[UUID, list[list[float]]]:
    """The embeddings of two projects on different workers: around ten points, each project with points of its own."""
    found = {}
    for number, project in enumerate(await apart(db, migrated, "search")):
        points = [direction(100 * number + point) for point in range(10)]
        vectors = [near(points[entry % 10], 1000 * number + entry) for entry in range(ENTRIES)]
        async with db.project(project) as session:
            rows = [factories.past_fix(embedding=vector, problem=f"entry {entry}") for entry, vector in enumerate(vectors)]
            assert await repos.rag_corpus.add_many(session, rows) == ENTRIES
            await repos.rag_corpus.add(session, factories.past_fix(embedding=None, problem=f"{WORD} {number}"))
            await repos.qa_tickets.create_many(session, [factories.ticket(title=f"ticket {entry}") for entry in range(30)])
            await repos.qa_tickets.create(session, factories.ticket(title=f"{WORD} {number}"))
        found[project] = vectors
    return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[PooledConnection, str, tuple[Any, ...]]]:
    """What is fetched of the server, with its arguments."""
    seen: list[tuple[PooledConnection, str, tuple[Any, ...]]] = []
    fetch = PooledConnection.fetch

    async def noted(connection: Any, sql: str, *arguments: Any, **options: Any) -> Any:
        seen.append((connection, sql, arguments))
        return await fetch(connection, sql, *arguments, **options)

    monkeypatch.setattr(PooledConnection, "fetch", noted)
    return seen


class TestSearch:
    async def test_finds_what_comparing_everything_finds(self, db: Database, filled: dict[UUID, list[list[float]]]) -> None:
        for project, vectors in filled.items():
            query = near(vectors[3], 7)
            expected = sorted(range(ENTRIES), key=lambda entry: -cosine(query, vectors[entry]))[:10]
            async with db.project(project) as session:
                found = await repos.rag_corpus.search(session, query, limit=10)
            assert [match.entry.problem for match in found] == [f"entry {entry}" for entry in expected]
            assert found[0].similarity == pytest.approx(cosine(query, vectors[expected[0]]), abs=1e-4)

    async def test_finds_words_and_both(self, db: Database, filled: dict[UUID, list[list[float]]]) -> None:
        for number, (project, vectors) in enumerate(filled.items()):
            async with db.project(project) as session:
                worded = await repos.rag_corpus.search(session, text=WORD, limit=5)
                both = await repos.rag_corpus.search(session, vectors[0], text=WORD, limit=5)
                tickets = await repos.qa_tickets.search(session, WORD)
            assert [match.entry.problem for match in worded] == [f"{WORD} {number}"]
            assert {"entry 0", f"{WORD} {number}"} <= {match.entry.problem for match in both}
            assert [ticket.title for ticket in tickets.items] == [f"{WORD} {number}"]

    @pytest.mark.parametrize("how", ["by embedding", "by words", "by both", "tickets"])
    async def test_is_one_statement_of_one_task(
        self,
        db: Database,
        filled: dict[UUID, list[list[float]]],
        asked: list[tuple[PooledConnection, str, tuple[Any, ...]]],
        how: str,
    ) -> None:
        for project, vectors in filled.items():
            async with db.project(project) as session:
                await repos.qa_tickets.count(session)  # the project has been seen
            asked.clear()
            async with db.project(project) as session:
                if how == "tickets":
                    await repos.qa_tickets.search(session, WORD)
                else:
                    embedding = None if how == "by words" else vectors[0]
                    text = None if how == "by embedding" else WORD
                    await repos.rag_corpus.search(session, embedding, text=text)
            [(connection, sql, arguments)] = asked
            plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", *arguments))
            assert plan[0]["Plan"]["Distributed Query"]["Job"]["Task Count"] == 1
