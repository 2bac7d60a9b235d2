"""Search by words, alone and with meaning: past fixes in one ranking, tickets in pages."""

from collections import Counter
from math import log
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import InvalidCursor, InvalidInput
from derwin_db.models import Project, QATicketUpdate, RAGCorpusUpdate, TicketStatus
from tests.conftest import NewProject
from tests.repos.labelled_fixes import FIXES, QUESTIONS, Question, embedding
from tests.repos.rows import a_fix, a_ticket, axis


@pytest.fixture
async def labelled(session: ProjectSession) -> ProjectSession:
    """A project with the labelled fixes; the classification is the name."""
    rows = [
        a_fix(classification=name, problem=fix.problem, fix_summary=fix.summary, embedding=embedding(fix.meaning))
        for name, fix in FIXES.items()
    ]
    await repos.rag_corpus.add_many(session, rows)
    return session


async def answer(session: ProjectSession, question: Question, way: str, limit: int = 3) -> list[str]:
    given: dict[str, Any] = {"text": question.text} if way != "meaning" else {}
    given |= {"embedding": embedding(question.meaning)} if way != "words" else {}
    return [match.entry.classification for match in await repos.rag_corpus.search(session, **given, limit=limit)]


async def quality(session: ProjectSession, way: str) -> float:
    """The share of what is relevant among the first as many as are relevant, on average over the questions."""
    shares = []
    for question in QUESTIONS:
        first = await answer(session, question, way, limit=len(question.relevant))
        shares.append(len({*first} & {*question.relevant}) / len(question.relevant))
    return sum(shares) / len(shares)


class TestLabelled:
    async def test_both_find_more_than_either(self, labelled: ProjectSession) -> None:
        found = {way: await quality(labelled, way) for way in ("words", "meaning", "both")}
        assert found["both"] >= 0.75
        assert found["both"] >= max(found["words"], found["meaning"]) + 0.1

    @pytest.mark.parametrize("question", [one for one in QUESTIONS if len(one.relevant) == 1], ids=lambda one: one.text)
    async def test_an_identifier_is_found_by_itself(self, labelled: ProjectSession, question: Question) -> None:
        assert (await answer(labelled, question, "words"))[0] == question.relevant[0]


class TestOnePlace:
    @pytest.mark.parametrize(
        "text",
        [
            "OrderTotal.compute",
            "ordertotal",
            "ORDERTOTAL.COMPUTE",
            "(OrderTotal.compute())",
            "compute",
            "order",
            "in OrderTotal.compute: line 7",
        ],
    )
    async def test_identifiers_are_found_whole_and_in_parts(self, labelled: ProjectSession, text: str) -> None:
        matches = await repos.rag_corpus.search(labelled, text=text, limit=1)
        assert matches[0].entry.classification == "rounding"

    @pytest.mark.parametrize("text", ["!!", " ", "'", "\\", "nowhere_to_be_found", "a" * 70])
    async def test_without_a_word_nothing_is_found(self, labelled: ProjectSession, text: str) -> None:
        assert await repos.rag_corpus.search(labelled, text=text) == []
        by_both = await repos.rag_corpus.search(labelled, axis(1.0), text=text, limit=4)
        assert [match.entry.id for match in by_both] == [
            match.entry.id for match in await repos.rag_corpus.search(labelled, axis(1.0), limit=4)
        ]

    @pytest.mark.parametrize("text", ["it's", "c:\\temp\\x", "a & b | !c <-> d:*", "''", "$1", "%s", "x" * 9_000, "é" * 64])
    async def test_no_text_is_taken_for_a_query(self, session: ProjectSession, text: str) -> None:
        await repos.rag_corpus.add(session, a_fix(problem=text, fix_summary="other"))
        found = await repos.rag_corpus.search(session, text=f"{text} other")
        assert [match.entry.problem for match in found] == [text]

    async def test_the_64_longest_words_of_a_question_count(self, session: ProjectSession) -> None:
        for problem in ("sixty", "abc"):
            await repos.rag_corpus.add(session, a_fix(problem=problem, fix_summary="other"))
        longer = [f"longer{number}" for number in range(10, 73)]
        found = await repos.rag_corpus.search(session, text=" ".join(["abc", *longer, "sixty"]))
        assert [match.entry.problem for match in found] == ["sixty"]

    async def test_rare_words_count_more(self, session: ProjectSession) -> None:
        rows = [a_fix(problem=f"the total of order {n}", fix_summary="f") for n in range(20)]
        await repos.rag_corpus.add_many(session, [*rows, a_fix(problem="E4711", fix_summary="f")])
        found = await repos.rag_corpus.search(session, text="the total E4711", limit=2)
        assert found[0].entry.problem == "E4711"

    async def test_of_one_classification(self, labelled: ProjectSession) -> None:
        for given in ({"text": "E4711 order"}, {"text": "order", "embedding": axis(1.0)}):
            found = await repos.rag_corpus.search(labelled, **given, classification="tax")  # type: ignore[arg-type]
            assert {match.entry.classification for match in found} <= {"tax"}

    async def test_similarity_is_told_where_there_is_one(self, session: ProjectSession) -> None:
        await repos.rag_corpus.add(session, a_fix(problem="total one", embedding=axis(1.0, 1.0)))
        await repos.rag_corpus.add(session, a_fix(problem="total two", embedding=None))
        by_words = await repos.rag_corpus.search(session, text="total")
        assert [match.similarity for match in by_words] == [None, None]
        by_both = {m.entry.problem: m.similarity for m in await repos.rag_corpus.search(session, axis(1.0), text="total")}
        assert by_both == {"total one": pytest.approx(0.5**0.5), "total two": None}

    async def test_a_least_similarity_bounds_what_meaning_finds(self, session: ProjectSession) -> None:
        await repos.rag_corpus.add(session, a_fix(problem="near", embedding=axis(1.0)))
        await repos.rag_corpus.add(session, a_fix(problem="far", embedding=axis(0.0, 1.0)))
        for text, expected in (("nothing", {"near"}), ("far", {"near", "far"})):
            found = await repos.rag_corpus.search(session, axis(1.0), text=text, min_similarity=0.5)
            assert {match.entry.problem for match in found} == expected

    @pytest.mark.parametrize(
        "bad", [{}, {"text": ""}, {"text": 5}, {"text": "x" * 10_001}, {"text": "x", "min_similarity": 0.5}, {"text": "a\0"}]
    )
    async def test_bad_input_is_refused_before_any_sql(self, db: Database, project: Project, bad: dict[str, Any]) -> None:
        async with db.project(project.id) as unit:
            with pytest.raises(InvalidInput):
                await repos.rag_corpus.search(unit, **bad)
            assert unit._connection is None

    async def test_statistics_are_those_of_the_project(self, db: Database, new_project: NewProject) -> None:
        """A word that another project uses everywhere is as rare here as before."""
        ours, other = await new_project(), await new_project()
        rows = [a_fix(problem="alpha", fix_summary="f"), *[a_fix(problem="beta", fix_summary="f") for _ in range(3)]]
        async with db.project(ours.id) as session:
            await repos.rag_corpus.add_many(session, rows)
            before = await repos.rag_corpus.search(session, text="alpha beta")
        async with db.project(other.id) as session:
            await repos.rag_corpus.add_many(session, [a_fix(problem="alpha") for _ in range(50)])
        async with db.project(ours.id) as session:
            assert await repos.rag_corpus.search(session, text="alpha beta") == before
        assert before[0].entry.problem == "alpha"


async def titles(session: ProjectSession, text: str, **options: Any) -> list[str]:
    return [ticket.title for ticket in (await repos.qa_tickets.search(session, text, **options)).items]


class TestTickets:
    @pytest.mark.parametrize("field", ["title", "description", "steps_to_reproduce", "expected", "actual", "external_ref"])
    async def test_are_found_by_every_text(self, session: ProjectSession, field: str) -> None:
        value: Any = ["open it", "OrderTotal.compute fails"] if field == "steps_to_reproduce" else "OrderTotal.compute fails"
        ticket = await repos.qa_tickets.create(session, a_ticket(**{field: value}))
        await repos.qa_tickets.create(session, a_ticket(title="other"))
        found = await repos.qa_tickets.search(session, "ordertotal.compute")
        assert [row.id for row in found.items] == [ticket.id]
        assert found.items == [await repos.qa_tickets.get(session, ticket.id)]

    @pytest.mark.parametrize("field", ["title", "description", "steps_to_reproduce", "expected", "actual", "external_ref"])
    async def test_follow_every_text(self, session: ProjectSession, field: str) -> None:
        before, after = (["before"], ["after"]) if field == "steps_to_reproduce" else ("before", "after")
        ticket = await repos.qa_tickets.create(session, a_ticket(**{field: before}))
        await repos.qa_tickets.update(session, ticket.id, QATicketUpdate(**{field: after}))
        assert [len(await titles(session, text)) for text in ("before", "after")] == [0, 1]

    async def test_follow_what_changes(self, session: ProjectSession) -> None:
        ticket = await repos.qa_tickets.create(session, a_ticket(title="before"))
        await repos.qa_tickets.update(session, ticket.id, QATicketUpdate(title="after"))
        await repos.qa_tickets.transition(session, ticket.id, TicketStatus.TRIAGED)
        assert await titles(session, "before") == []
        assert await titles(session, "after") == ["after"]

    async def test_best_first_then_newest(self, session: ProjectSession) -> None:
        rows = [a_ticket(title=title) for title in ("sum one", "sum two", "sum E4711", "other")]
        await repos.qa_tickets.create_many(session, rows)
        assert await titles(session, "sum E4711") == ["sum E4711", "sum two", "sum one"]

    async def test_a_word_weighs_its_inverse_document_frequency(self, session: ProjectSession) -> None:
        texts = ("delta", "alpha delta gamma", "gamma", "alpha delta gamma", "beta", "alpha epsilon gamma", "delta gamma",
                 "alpha epsilon gamma zeta", "gamma", "delta epsilon gamma")  # fmt: skip
        having = Counter(word for text in texts for word in text.split())
        weights = {word: log(1 + (len(texts) - count + 0.5) / (count + 0.5)) for word, count in having.items()}
        tickets = [await repos.qa_tickets.create(session, a_ticket(title=text)) for text in texts]
        best = sorted(tickets, key=lambda row: (sum(weights[word] for word in row.title.split()), row.id), reverse=True)
        found = await repos.qa_tickets.search(session, " ".join(having))
        assert [row.title for row in found.items] == [row.title for row in best]

    async def test_pages_hold_each_once(self, session: ProjectSession) -> None:
        await repos.qa_tickets.create_many(session, [a_ticket(title=f"total {n % 3}") for n in range(23)])
        whole = await titles(session, "total 1", limit=500)
        pages, cursor = [], None
        seen: list[UUID] = []
        while True:
            page = await repos.qa_tickets.search(session, "total 1", limit=5, cursor=cursor)
            pages.append([ticket.title for ticket in page.items])
            seen += [ticket.id for ticket in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert [len(page) for page in pages] == [5, 5, 5, 5, 3]
        assert [title for page in pages for title in page] == whole
        assert len({*seen}) == 23

    async def test_with_filters(self, session: ProjectSession) -> None:
        rows = [a_ticket(title=f"total {severity}", severity=severity) for severity in ("LOW", "HIGH", "LOW")]
        await repos.qa_tickets.create_many(session, rows)
        assert await titles(session, "total", severity="LOW") == ["total LOW", "total LOW"]
        assert await titles(session, "total", severity="LOW", status=TicketStatus.RESOLVED) == []

    async def test_a_cursor_of_another_search_is_refused(self, session: ProjectSession) -> None:
        await repos.qa_tickets.create_many(session, [a_ticket(title="total") for _ in range(3)])
        cursor = (await repos.qa_tickets.search(session, "total", limit=1)).next_cursor
        listed = (await repos.qa_tickets.list(session, limit=1)).next_cursor
        for text, given, filters in (("totals", cursor, {}), ("total", cursor, {"severity": "LOW"}), ("total", listed, {})):
            with pytest.raises(InvalidCursor):
                await repos.qa_tickets.search(session, text, limit=1, cursor=given, **filters)  # type: ignore[arg-type]


class TestWordsOfAText:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("OrderTotal.compute", {"ordertotal.compute", "ordertotal", "compute", "order", "total"}),
            ("order_total E4711", {"order_total", "order", "total", "e4711"}),
            ("HTTPServer2Go", {"httpserver2go", "http", "server2", "go"}),
            ("c:\\temp 'quoted' (x)", {"c:\\temp", "c", "temp", "quoted", "x"}),
            ("Größe, naïve", {"größe", "naïve"}),
            ("a\tb\nc", {"a", "b", "c"}),
            ("x" * 65 + " y", {"y"}),
            ("日本語 テスト", {"日本語", "テスト"}),
            ("", set()),
        ],
    )
    async def test_are_these(self, session: ProjectSession, text: str, expected: set[str]) -> None:
        query = sa.text("SELECT tsvector_to_array(derwin_words(:text))").bindparams(text=text)
        assert {*(await session.sql.scalar(query))} == expected

    async def test_the_longest_text_that_is_taken_has_some(self, session: ProjectSession) -> None:
        text = " ".join(f"wörd{n}" for n in range(100_000))
        await repos.rag_corpus.add(session, a_fix(problem=text[:1_000_000]))
        assert len(await repos.rag_corpus.search(session, text="wörd7")) == 1
        await repos.rag_corpus.add(session, a_fix(problem="\U0001f600" * 1_000_000))


class TestDerivedColumns:
    @pytest.mark.parametrize(
        ("table", "column", "value"),
        [("qa_tickets", "words", "'forged'"), ("rag_corpus", "words", "'forged'"), ("rag_corpus", "bits", "NULL")],
    )
    async def test_are_derived_whatever_is_written_into_them(
        self, session: ProjectSession, table: str, column: str, value: str
    ) -> None:
        await repos.qa_tickets.create(session, a_ticket())
        await repos.rag_corpus.add(session, a_fix(embedding=axis(1.0)))
        before = await session.sql.scalar(sa.text(f"SELECT {column} FROM {table}"))
        await session.sql.execute(sa.text(f"UPDATE {table} SET {column} = {value}"))
        assert await session.sql.scalar(sa.text(f"SELECT {column} FROM {table}")) == before is not None

    async def test_follow_every_text_and_the_embedding_of_a_fix(self, session: ProjectSession) -> None:
        fix = await repos.rag_corpus.add(session, a_fix(problem="p1", fix_summary="s1", embedding=axis(1.0)))
        query, seen = sa.text("SELECT bits::text || words::text FROM rag_corpus"), set()
        for change in ({}, {"problem": "p2"}, {"fix_summary": "s2"}, {"embedding": axis(-1.0)}):
            await repos.rag_corpus.update(session, fix.id, RAGCorpusUpdate(**change))
            seen.add(await session.sql.scalar(query))
        assert len(seen) == 4
