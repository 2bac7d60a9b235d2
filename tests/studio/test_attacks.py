"""What docs/isolation.md promises holds over the studio: one project a page, text is text, nothing is written."""

import itertools
import logging
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from derwin_db import Database, repos
from derwin_db.fields.scalars import new_id
from derwin_db.models import Project
from derwin_db.sql import PROJECT_TABLES
from derwin_db.studio import create_app
from derwin_db.studio.projects import REASON
from derwin_db.studio.views import VIEWS
from derwin_db.testing import Filled
from tests.studio.conftest import Visit
from tests.studio.hostile import BREAKOUT, LINK, SCRIPT
from tests.studio.pages import pages_of
from tests.studio.test_pages import next_page, row_links


class TestForeignRows:
    @pytest.mark.parametrize("table", PROJECT_TABLES)
    async def test_are_like_rows_that_are_not_there(
        self, client: httpx.AsyncClient, ours: Filled, theirs: Filled, table: str
    ) -> None:
        foreign = await client.get(f"p/{ours.slug}/tables/{table}/{theirs.rows[table][0].id}")
        absent = await client.get(f"p/{ours.slug}/tables/{table}/{new_id()}")
        own = await client.get(f"p/{ours.slug}/tables/{table}/{ours.rows[table][0].id}")
        assert (foreign.status_code, absent.status_code, own.status_code) == (404, 404, 200)
        assert foreign.content == absent.content
        assert {name: value for name, value in foreign.headers.items() if name != "date"} == {
            name: value for name, value in absent.headers.items() if name != "date"
        }

    async def test_a_project_that_is_not_there_is_like_garbage(self, client: httpx.AsyncClient) -> None:
        answers = [await client.get(f"p/{name}/") for name in ("no-such-project", str(new_id()), "%00", "-", "a%20b", "../x")]
        assert {answer.status_code for answer in answers} == {404}

    async def test_no_page_of_a_project_holds_a_text_of_another(self, visit: Visit, ours: Filled, theirs: Filled) -> None:
        for page, response in visit.pages.items():
            assert theirs.marker not in response.text, page
            assert ours.slug in response.text, page

    @pytest.mark.parametrize("table", PROJECT_TABLES)
    async def test_filters_by_foreign_ids_find_nothing(
        self, client: httpx.AsyncClient, ours: Filled, theirs: Filled, table: str
    ) -> None:
        for choice in VIEWS[table].choices:
            name = choice.column
            foreign = next((getattr(row, name, None) for row in theirs.rows[table] if getattr(row, name, None)), None)
            if not choice.takes_values or choice.values is not None or foreign is None:
                continue
            response = await client.get(f"p/{ours.slug}/tables/{table}", params={name: str(foreign)})
            assert (response.status_code, row_links(response.text)) == (200, []), name

    @pytest.mark.parametrize("table", ["qa_tickets", "rag_corpus"])
    async def test_words_find_nothing_of_another_project(
        self, client: httpx.AsyncClient, ours: Filled, theirs: Filled, table: str
    ) -> None:
        for filled, count in ((theirs, 0), (ours, len(ours.rows[table]))):
            response = await client.get(f"p/{ours.slug}/tables/{table}", params={"with-words": filled.marker})
            assert len(row_links(response.text)) == count

    @pytest.mark.parametrize("form", ["csv", "json"])
    async def test_a_download_holds_nothing_of_another_project(
        self, client: httpx.AsyncClient, ours: Filled, theirs: Filled, form: str
    ) -> None:
        for table in PROJECT_TABLES:
            columns = {"with-column": list(VIEWS[table].fields)}
            text = (await client.get(f"p/{ours.slug}/tables/{table}.{form}", params=columns)).text
            assert theirs.marker not in text, table
            assert str(theirs.project_id) not in text, table
            assert all(str(row.id) in text for row in ours.rows[table]), table


class TestCursors:
    async def test_of_another_project_are_refused(self, client: httpx.AsyncClient, ours: Filled, theirs: Filled) -> None:
        link = next_page((await client.get(f"p/{theirs.slug}/tables/qa_tickets?limit=2")).text)
        assert link is not None
        assert (await client.get(link)).status_code == 200
        stolen = await client.get(link.replace(theirs.slug, ours.slug))
        garbage = await client.get(f"p/{ours.slug}/tables/qa_tickets?limit=2&cursor=garbage")
        assert (stolen.status_code, garbage.status_code) == (400, 400)
        assert stolen.content == garbage.content

    async def test_of_another_query_are_refused(self, client: httpx.AsyncClient, ours: Filled) -> None:
        link = next_page((await client.get(f"p/{ours.slug}/tables/qa_tickets?limit=2")).text)
        assert link is not None
        refused = await client.get(f"{link}&status=OPEN")
        assert (refused.status_code, "This page has moved on" in refused.text) == (400, True)
        assert (await client.get(link.replace("qa_tickets", "raw_signals"))).status_code == 400


class TestFilters:
    @pytest.mark.parametrize(
        "query",
        [
            "status=OPEN'--",
            "status=open",
            "classification=a'%20OR%20true--",
            "run_id=not-an-id",
            "run_id=%00",
            "fingerprint=%00",
            "since=yesterday",
            "since=2026-13-45",
            "limit=0",
            "limit=501",
            "limit=-1",
            "limit=1e3",
            "limit=%D9%A3",
            "project_id=00000000-0000-7000-8000-000000000000",
            "id=1",
            "sql=SELECT%201",
            "since=2026-01-01&since=2026-01-02",
            "min_risk_score=much",
            "min_risk_score=1e999",
            "is-none=status",
            "is-none=title",
            "is-not=min_risk_score",
            "order=title",
            "order=-risk_score&order=risk_score",
            "with-column=project_id",
            "with-column=embedding",
            "with-words=%00",
            "with-words=a&with-words=b",
        ],
    )
    @pytest.mark.parametrize("form", ["", ".csv", ".json"])
    async def test_what_is_no_value_is_refused(self, client: httpx.AsyncClient, query: str, form: str) -> None:
        response = await client.get(f"p/lifeline/tables/qa_tickets{form}?{query}")
        assert response.status_code == 422, query
        assert response.headers["content-type"].startswith("text/html")
        assert row_links(response.text) == []

    async def test_a_value_that_is_wrong_is_repeated_as_text_alone(self, client: httpx.AsyncClient) -> None:
        for name in ("classification", "min_risk_score", "since", "with-words", "status"):
            response = await client.get("p/lifeline/tables/qa_tickets", params={name: BREAKOUT + "\0", "is-none": "status"})
            assert response.status_code == 422, name
            assert "<img src=x" not in response.text
            assert "&#34;&#39;&gt;" in response.text, name

    @pytest.mark.parametrize(
        "page",
        [
            "",
            "p/lifeline/",
            "p/lifeline/tables",
            "p/lifeline/profile",
            "p/lifeline/schema",
            "p/lifeline/sql",
            "p/lifeline/tables/policies",
        ],
    )
    async def test_a_parameter_that_is_none_is_refused(self, client: httpx.AsyncClient, page: str) -> None:
        response = await client.get(page, params={"<script>": "1"})
        assert response.status_code == 422
        assert "<script>" not in response.text

    @pytest.mark.parametrize(
        "query",
        [
            "with-words=%00",
            "with-words=" + "a" * 10_001,
            "classification=A%20B",
            "with-words=a&classification=a&classification=b",
        ],
    )
    async def test_words_have_bounds(self, client: httpx.AsyncClient, query: str) -> None:
        assert (await client.get(f"p/lifeline/tables/rag_corpus?{query}")).status_code == 422

    @pytest.mark.parametrize("days", ["0", "61", "all", "9999999999"])
    async def test_days_are_some(self, client: httpx.AsyncClient, days: str) -> None:
        assert (await client.get("p/lifeline/", params={"days": days})).status_code == 422

    @pytest.mark.parametrize("table", ["projects", "derwin_alembic_version", "pg_authid", "scope_key", "qa_tickets;"])
    async def test_no_other_table_is_shown(self, client: httpx.AsyncClient, table: str) -> None:
        assert (await client.get(f"p/lifeline/tables/{table}")).status_code == 404


class TestHostileText:
    async def test_is_text_on_every_page(self, client: httpx.AsyncClient, data: Database, hostile: Project) -> None:
        seen = literal = 0
        for page in await pages_of(data, hostile.slug):
            response = await client.get(page)
            text = response.text
            assert response.status_code == 200, page
            assert "<script" not in text.lower(), page
            assert text.lower().count("<img") == 1, page  # the studio's own
            assert not re.search(r'<[^>"]*("[^"]*"[^>"]*)*\son\w+\s*=', text), page
            assert f'href="{LINK.partition(":")[0]}' not in text, page
            literal += text.count("{{ 7 * 7 }}")
            seen += text.count("&lt;script&gt;")
        assert seen > 30
        assert literal > 30

    async def test_is_text_where_it_is_asked_for(self, client: httpx.AsyncClient) -> None:
        response = await client.get("p/lifeline/tables/rag_corpus", params={"with-words": SCRIPT.replace(" ", "")})
        assert response.status_code == 200
        assert "<script" not in response.text
        assert "&lt;script&gt;" in response.text

    async def test_a_link_that_runs_is_no_link(self, client: httpx.AsyncClient, data: Database, hostile: Project) -> None:
        async with data.project(hostile.id, read_only=True) as session:
            [attempt] = (await repos.qa_fix_attempts.list(session)).items
        for page in (f"qa_fix_attempts/{attempt.id}", f"qa_tickets/{attempt.ticket_id}"):
            text = (await client.get(f"p/hostile/tables/{page}")).text
            assert "javascript:document" in text
            assert not re.search(r"href=.?javascript", text)


class TestReading:
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
    async def test_every_other_method_is_refused_everywhere(self, client: httpx.AsyncClient, method: str) -> None:
        for page in ("", "p/lifeline/", "p/lifeline/tables/qa_tickets", "static/studio.css", "nothing"):
            response = await client.request(method, page)
            assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD"), page

    async def test_head_is_get_without_its_body(self, client: httpx.AsyncClient) -> None:
        response = await client.head("p/lifeline/tables")
        assert (response.status_code, response.content) == (200, b"")

    async def test_no_form_sends_more_than_a_query(self, visit: Visit) -> None:
        for page, response in visit.pages.items():
            text = response.text
            assert set(re.findall(r'<form[^>]*method="(\w+)"', text)) <= {"get"}, page
            assert len(re.findall("<form", text)) == len(re.findall('method="get"', text)), page

    async def test_changes_nothing(self, visit: Visit) -> None:
        assert all(visit.before.values())
        assert visit.after == visit.before


class Watched(Database):
    """A database that remembers how it was asked for units of work."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.asked: list[dict[str, object]] = []
        self.doors = 0

    def project(self, project, **options):  # type: ignore[no-untyped-def]
        self.asked.append(options)
        return super().project(project, **options)

    def admin(self, *, reason):  # type: ignore[no-untyped-def]
        self.doors += 1
        return super().admin(reason=reason)


class TestDoors:
    """In this process, where one sees which units of work a page opens."""

    @pytest.fixture
    async def watched(self, database) -> AsyncIterator[Watched]:
        async with Watched(**database.urls) as opened:
            yield opened

    @pytest.fixture
    async def inside(self, watched: Watched) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app=create_app(watched, token="secret", takes_sql=True))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost/secret/") as opened:
            yield opened

    async def test_every_unit_of_a_project_is_read_only(
        self, inside: httpx.AsyncClient, watched: Watched, data: Database, ours: Filled
    ) -> None:
        for page in await pages_of(data, ours.slug):
            before = len(watched.asked)
            await inside.get(page)
            assert len(watched.asked) > before, page
        for table in VIEWS:
            await inside.get(f"p/{ours.slug}/tables/{table}.csv")
        assert list(itertools.chain(*(options.items() for options in watched.asked))) == [("read_only", True)] * len(
            watched.asked
        )
        assert watched.doors == 0

    async def test_the_list_of_projects_alone_goes_through_the_admin_door_and_says_why(
        self, inside: httpx.AsyncClient, watched: Watched, data: Database, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, logger="derwin_db.admin"):
            await inside.get("")
        assert (watched.doors, watched.asked) == (1, [])
        assert [record.reason for record in caplog.records if record.name == "derwin_db.admin"] == [REASON]  # type: ignore[attr-defined]

    async def test_without_the_admin_door_a_project_opens_by_its_name(self, database, data: Database, ours: Filled) -> None:
        from derwin_db.settings import Settings
        from derwin_db.testing.server import url_of

        key = await scope_key(database)
        async with Database(url_of(database.service), settings=Settings(scope_key=key)) as alone:
            transport = httpx.ASGITransport(app=create_app(alone, token="secret"))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost/secret/") as inside:
                first = await inside.get("")
                found = await inside.get("", params={"slug": ours.slug}, follow_redirects=True)
        assert (first.status_code, "needs the admin door" in first.text, row_links(first.text)) == (200, True, [])
        assert ("ADMIN_URL" in first.text, "There is no project yet" in first.text) == (True, False)
        assert (found.status_code, ours.slug in found.text) == (200, True)

    async def test_a_defect_is_a_page_without_a_word_of_it(self, database) -> None:
        class Broken(Database):
            def project(self, *_, **__):  # type: ignore[no-untyped-def]
                raise RuntimeError("canary")

        app = create_app(Broken(**database.urls), token="secret")
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost/secret/") as inside:
            response = await inside.get("p/lifeline/")
        assert response.status_code == 500
        assert "canary" not in response.text
        assert "default-src 'none'" in response.headers["content-security-policy"]


async def scope_key(database) -> str:
    from derwin_db.deploy.targets import read_scope_keys
    from derwin_db.settings import Settings

    seal = (await read_scope_keys(database.owner, Settings()))[0]
    assert seal is not None
    return seal.to_text()
