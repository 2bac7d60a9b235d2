"""What the pages show, over real HTTP."""

import logging
import re
from html import unescape

import httpx
import pytest

from derwin_db import Database, repos
from derwin_db.errors import ConfigurationError, DatabaseTimeout, DatabaseUnavailable, DerwinError
from derwin_db.models import (
    ProfileChange,
    ProfileEvolutionLog,
    Project,
    ProjectCreate,
    ProjectProfileCreate,
    ProjectProfileUpdate,
    TicketStatus,
)
from derwin_db.sql import PROJECT_TABLES
from derwin_db.studio import profile, projects
from derwin_db.studio.diffs import Line
from derwin_db.studio.rendering import counted, money, plain, short, size
from derwin_db.studio.rendering import words as as_words
from derwin_db.studio.views import VIEWS, label_of
from derwin_db.testing import Filled
from derwin_db.testing.examples import example
from tests.studio.conftest import Visit
from tests.studio.pages import KINDS, pages_of

LIFELINE = "p/lifeline"


def words(html: str) -> str:
    """The text of a page, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def row_links(html: str) -> list[str]:
    """Where the rows of the page's first table lead, below the token."""
    body = html.partition("<tbody>")[2].partition("</tbody>")[0]
    return [re.sub(r"^/[^/]+/", "", link) for link in re.findall(r'<th scope="row"[^>]*><a href="([^"]+)"', body)]


def changed_lines(html: str) -> list[tuple[str, str]]:
    """Whether a line of a diff came or went, and its text."""
    found = re.findall(r'<tr class="(added|removed)">.*?<td class="code">(.*?)</td></tr>', html)
    return [(kind, unescape(text)) for kind, text in found]


def next_page(html: str) -> str | None:
    found = re.search(r'<a class="button" rel="next" href="/[^/]+/([^"]+)"', html)
    return unescape(found[1]) if found else None


class TestEveryPage:
    def test_every_table_has_one(self) -> None:
        assert set(VIEWS) == set(PROJECT_TABLES)

    @pytest.mark.parametrize("name", PROJECT_TABLES)
    def test_every_column_is_one_of_the_table(self, name: str) -> None:
        assert set(VIEWS[name].columns) <= {column.name for column in VIEWS[name].repository.table.c}

    async def test_of_a_filled_project_answers(self, visit: Visit, ours: Filled) -> None:
        assert len(visit.pages) == len(KINDS) + 2 * len(PROJECT_TABLES)
        for page, response in visit.pages.items():
            assert response.status_code == 200, page
            assert response.headers["content-type"] == "text/html; charset=utf-8"
            assert ours.slug in response.text, page

    def test_is_marked_where_one_is_among_them(self, visit: Visit, ours: Filled) -> None:
        names = {"": "Overview", "profile": "Profile", "tables": "All tables", "schema": "Schema", "sql": "SQL"}
        names |= {f"tables/{name}": view.title for name, view in VIEWS.items()}
        for page, name in names.items():
            text = visit.pages[f"p/{ours.slug}/{page}"].text
            assert re.findall(r' aria-current="page">([^<]*)</a>', text) == [name], page

    async def test_of_an_empty_project_says_what_to_do(self, client: httpx.AsyncClient, data: Database, empty: Project) -> None:
        for page in await pages_of(data, empty.slug):
            text = words((await client.get(page)).text)
            is_list = page.startswith("p/empty/tables/") and "mode_logs" not in page and "?" not in page
            assert "repos." in text or "derwin-db seed --demo" in text or not is_list, page


class TestProjects:
    async def test_are_listed(self, client: httpx.AsyncClient, ours: Filled, theirs: Filled) -> None:
        text = (await client.get("")).text
        assert {"p/lifeline/", f"p/{ours.slug}/", f"p/{theirs.slug}/"} <= set(row_links(text))

    async def test_a_slug_that_is_typed_leads_to_its_project(self, client: httpx.AsyncClient) -> None:
        response = await client.get("", params={"slug": "lifeline"})
        assert (response.status_code, response.headers["location"].endswith("/p/lifeline/")) == (303, True)

    async def test_go_on_from_page_to_page(
        self, inside: httpx.AsyncClient, ours: Filled, theirs: Filled, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        every = row_links((await inside.get("")).text)
        monkeypatch.setattr(projects, "PAGE_SIZE", 1)
        seen: list[str] = []
        page: str | None = ""
        while page is not None:
            text = (await inside.get(page)).text
            assert ("First page" in text) == bool(seen)
            assert not set(row_links(text)) & set(seen)
            seen, page = [*seen, *row_links(text)], next_page(text)
        assert seen == every
        assert len(seen) > 2

    async def test_the_address_works_without_its_last_slash(self, client: httpx.AsyncClient) -> None:
        response = await client.get(str(client.base_url).rstrip("/"), follow_redirects=True)
        assert (response.status_code, "Projects" in response.text) == (200, True)


class TestTable:
    async def test_pages_hold_every_row_once(self, client: httpx.AsyncClient, data: Database) -> None:
        seen: list[str] = []
        page: str | None = f"{LIFELINE}/tables/raw_signals?limit=100"
        while page:
            text = (await client.get(page)).text
            seen += row_links(text)
            page = next_page(text)
        async with data.project("lifeline", read_only=True) as session:
            ids = [row.id async for row in repos.raw_signals.stream(session)]
        assert seen == [f"{LIFELINE}/tables/raw_signals/{id}" for id in ids]

    @pytest.mark.parametrize("status", [TicketStatus.RESOLVED, TicketStatus.OPEN])
    async def test_filters_are_those_of_the_repository(
        self, client: httpx.AsyncClient, data: Database, status: TicketStatus
    ) -> None:
        query = {"status": status, "severity": "", "limit": "500"}
        response = await client.get(f"{LIFELINE}/tables/qa_tickets", params=query)
        async with data.project("lifeline", read_only=True) as session:
            expected = await repos.qa_tickets.count(session, status=status)
        assert len(row_links(response.text)) == expected
        assert f"{expected} rows match" in words(response.text)

    async def test_a_filter_stays_on_the_next_page(self, client: httpx.AsyncClient) -> None:
        first = await client.get(f"{LIFELINE}/tables/raw_signals", params={"status": "TRIAGED", "limit": "10"})
        link = next_page(first.text)
        assert link is not None
        second = await client.get(link)
        assert "status=TRIAGED" in link
        assert len(row_links(second.text)) == 10
        assert not set(row_links(first.text)) & set(row_links(second.text))

    async def test_a_day_bounds_the_list(self, client: httpx.AsyncClient, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            middle = (await repos.qa_tickets.list(session, limit=40)).items[-1].created_at
            midnight = middle.replace(hour=0, minute=0, second=0, microsecond=0)
            expected = await repos.qa_tickets.count(session, since=midnight)
        response = await client.get(f"{LIFELINE}/tables/qa_tickets", params={"since": f"{midnight:%Y-%m-%d}"})
        assert f"{expected} rows match" in words(response.text)

    async def test_counts_are_in_the_list_of_tables(self, client: httpx.AsyncClient, data: Database) -> None:
        text = words((await client.get(f"{LIFELINE}/tables")).text)
        async with data.project("lifeline", read_only=True) as session:
            for name, view in VIEWS.items():
                assert f"{view.title} {name} {await view.repository.count(session)} " in text, name


class TestRow:
    async def test_shows_every_field_but_the_numbers_of_an_embedding(self, client: httpx.AsyncClient, ours: Filled) -> None:
        for name, view in VIEWS.items():
            response = await client.get(f"p/{ours.slug}/tables/{name}/{ours.rows[name][0].id}")
            if name in ("qa_tickets", "rag_corpus"):
                continue
            assert [f"<dt>{label_of(field)}</dt>" in response.text for field in view.fields] == [True] * len(view.fields)
            assert "embedding" not in view.fields

    async def test_has_lengths_in_their_unit_and_long_texts_line_by_line(
        self, client: httpx.AsyncClient, data: Database
    ) -> None:
        async with data.project("lifeline", read_only=True) as session:
            [artifact] = (await repos.audit_artifacts.list(session, limit=1)).items
            attempts = (await repos.qa_fix_attempts.list(session, limit=100)).items
            failed = next((one for one in attempts if one.error), None)
        for page in (f"audit_artifacts/{artifact.id}", "audit_artifacts"):
            assert f" {size(artifact.byte_size)} " in words((await client.get(f"{LIFELINE}/tables/{page}")).text)
        assert failed is not None
        text = (await client.get(f"{LIFELINE}/tables/qa_fix_attempts/{failed.id}")).text
        assert unescape(failed.error or "") in unescape(text)

    async def test_leads_to_what_belongs_to_it(self, client: httpx.AsyncClient, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            run = (await repos.qa_runs.list(session)).items[-1]
            signals = await repos.raw_signals.count(session, run_id=run.id)
        text = (await client.get(f"{LIFELINE}/tables/qa_runs/{run.id}")).text
        link = f"{LIFELINE}/tables/raw_signals?run_id={run.id}"
        assert link in text
        assert f"{signals} rows match" in words((await client.get(link)).text)


class TestTicket:
    async def test_has_its_signals_attempts_and_artifacts(self, client: httpx.AsyncClient, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            artifact = (await repos.audit_artifacts.list(session)).items[-1]
            assert artifact.ticket_id is not None
            signals = (await repos.raw_signals.list(session, ticket_id=artifact.ticket_id)).items
            attempts = (await repos.qa_fix_attempts.list(session, ticket_id=artifact.ticket_id)).items
        text = (await client.get(f"{LIFELINE}/tables/qa_tickets/{artifact.ticket_id}")).text
        assert attempts
        assert signals
        for table, rows in {"raw_signals": signals, "qa_fix_attempts": attempts, "audit_artifacts": [artifact]}.items():
            assert {f"{LIFELINE}/tables/{table}/{row.id}" for row in rows} <= set(re.findall(r'href="/[^/]+/([^"]+)"', text)), (
                table
            )

    async def test_says_what_an_attempt_took(self, client: httpx.AsyncClient, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            attempts = (await repos.qa_fix_attempts.list(session, limit=100)).items
        attempt = next(one for one in attempts if one.diff_stat and one.concluded_at and one.diff_stat.insertions > 1)
        assert attempt.diff_stat is not None
        stat = attempt.diff_stat
        text = words((await client.get(f"{LIFELINE}/tables/qa_tickets/{attempt.ticket_id}")).text)
        assert (
            f"{attempt.model}, {money(attempt.cost_usd)}, {attempt.input_tokens:,} tokens in, {attempt.output_tokens:,} out; "
            f"{counted(stat.files, 'file')}, +{stat.insertions} \N{MINUS SIGN}{stat.deletions} ; "
            f"concluded {attempt.concluded_at:%Y-%m-%d %H:%M} "
        ) in text
        assert stat.insertions != stat.deletions

    async def test_has_its_first_bucket_where_it_is_another_one(self, client: httpx.AsyncClient, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            tickets = (await repos.qa_tickets.list(session, limit=100)).items
        moved = next(one for one in tickets if one.initial_bucket and one.initial_bucket != one.final_bucket)
        stayed = next(one for one in tickets if one.initial_bucket and one.initial_bucket == one.final_bucket)
        for one, expected in ((moved, True), (stayed, False)):
            text = (await client.get(f"{LIFELINE}/tables/qa_tickets/{one.id}")).text
            assert (f"<small>first {as_words(str(one.initial_bucket))}</small>" in text) == expected

    async def test_leads_to_past_fixes_like_it(self, client: httpx.AsyncClient, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            [ticket] = (await repos.qa_tickets.list(session, limit=1)).items
        text = (await client.get(f"{LIFELINE}/tables/qa_tickets/{ticket.id}")).text
        for label in ("with words of it", "of this classification"):
            link = re.search(rf'href="/[^/]+/([^"]+)">{label}</a>', text)
            assert link is not None
            found = await client.get(unescape(link[1]))
            assert (found.status_code, bool(row_links(found.text))) == (200, True), label

    async def test_has_the_trust_in_fixes_of_its_kind(self, client: httpx.AsyncClient, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            trust = max((await repos.classification_trust.list(session)).items, key=lambda row: row.score)
            [ticket] = (await repos.qa_tickets.list(session, classification=trust.classification, limit=1)).items
        text = words((await client.get(f"{LIFELINE}/tables/qa_tickets/{ticket.id}")).text)
        assert f"Trust in its fixes {trust.score:.2f} after {trust.attempts} attempts " in text

    async def test_has_evidence_of_its_attempts_too(self, client: httpx.AsyncClient, data: Database, ours: Filled) -> None:
        evidence = ours.rows["audit_artifacts"][0]
        async with data.project(ours.slug, read_only=True) as session:
            attempt = await repos.qa_fix_attempts.get(session, evidence.fix_attempt_id)
        assert evidence.ticket_id != attempt.ticket_id
        text = (await client.get(f"p/{ours.slug}/tables/qa_tickets/{attempt.ticket_id}")).text
        assert f"audit_artifacts/{evidence.id}" in text

    async def test_names_its_duplicates(self, client: httpx.AsyncClient, ours: Filled) -> None:
        [twin] = [row for row in ours.rows["qa_tickets"] if row.duplicate_of_id]
        text = (await client.get(f"p/{ours.slug}/tables/qa_tickets/{twin.duplicate_of_id}")).text
        assert f"qa_tickets/{twin.id}" in text.partition('id="duplicates"')[2]


class TestProfile:
    async def test_has_a_diff_for_each_version(self, client: httpx.AsyncClient, data: Database) -> None:
        text = (await client.get(f"{LIFELINE}/profile")).text
        async with data.project("lifeline", read_only=True) as session:
            current = await repos.project_profiles.current(session)
        assert [int(version) for version in re.findall(r"<b>Version (\d+)</b>", text)] == list(range(current.version, 0, -1))
        third = text.partition("<b>Version 3</b>")[2].partition("<b>Version 2</b>")[0]
        lines = [(kind, text.replace(" ", "")) for kind, text in changed_lines(third)]
        assert sorted(lines) == [
            ("added", '"reporting":0.3,'),
            ("added", '"stock":0.9,'),
            ("removed", '"reporting":0.4,'),
            ("removed", '"stock":0.8,'),
        ]

    async def test_a_roll_back_is_the_change_turned_round(self, client: httpx.AsyncClient) -> None:
        text = (await client.get(f"{LIFELINE}/profile")).text
        fifth, fourth = (text.partition(f"<b>Version {number}</b>")[2].partition("</details>")[0] for number in (5, 4))
        added, removed = (
            [[text for seen, text in changed_lines(part) if seen == kind] for part in (fifth, fourth)]
            for kind in ("added", "removed")
        )
        assert added[0] == removed[1] != []
        assert removed[0] == added[1] != []

    async def test_pages_go_on_from_the_version_before(self, client: httpx.AsyncClient, data: Database) -> None:
        async with data.admin(reason="a long history") as admin:
            project = await repos.projects.create(admin, example(ProjectCreate, slug="long-history"))
        async with data.project(project.id) as session:
            who = {"actor": "test", "reason": "test"}
            await repos.project_profiles.create(session, example(ProjectProfileCreate), **who)
            for version in range(1, 13):
                update = ProjectProfileUpdate(summary=f"summary {version + 1}")
                await repos.project_profiles.evolve(
                    session, update, change=ProfileChange.LEARNED, expected_version=version, **who
                )
        first = (await client.get("p/long-history/profile")).text
        link = next_page(first)
        assert link is not None
        second = (await client.get(link)).text
        versions = [re.findall(r"<b>Version (\d+)</b>", text) for text in (first, second)]
        assert versions == [[str(number) for number in range(13, 3, -1)], ["3", "2", "1"]]
        oldest = first.partition("<b>Version 4</b>")[2]
        assert "summary 3" in oldest.partition('<tr class="added"')[0]
        assert "summary 4" in oldest.partition('<tr class="added"')[2]

    async def test_a_log_that_the_database_does_not_give_is_no_odd_one(
        self, inside: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def at_version(*_: object) -> None:
            raise DatabaseTimeout

        monkeypatch.setattr(profile, "_PAGE", 1)
        monkeypatch.setattr(type(repos.project_profiles), "at_version", at_version)
        assert (await inside.get(f"{LIFELINE}/profile")).status_code == 504

    def test_a_diff_has_some_lines_around_and_an_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        entry = ProfileEvolutionLog()
        before = dict.fromkeys("abcdefgh", 0)
        change = profile._change(entry, before, {**before, "d": 1, "e": 1})
        assert change.diff == [
            Line("place", "@@ -3,6 +3,6 @@"),
            Line("same", '  "b": 0,', 3, 3),
            Line("same", '  "c": 0,', 4, 4),
            Line("removed", '  "d": 0,', 5, None),
            Line("removed", '  "e": 0,', 6, None),
            Line("added", '  "d": 1,', None, 5),
            Line("added", '  "e": 1,', None, 6),
            Line("same", '  "f": 0,', 7, 7),
            Line("same", '  "g": 0,', 8, 8),
        ]
        monkeypatch.setattr(profile, "_MOST_SHOWN", 9)
        assert not profile._change(entry, before, {**before, "d": 1, "e": 1}).is_cut
        monkeypatch.setattr(profile, "_MOST_SHOWN", 4)
        cut = profile._change(entry, before, {**before, "d": 1, "e": 1})
        assert (cut.is_cut, cut.diff, cut.added, cut.removed) == (True, change.diff[:4], 0, 1)

    @pytest.mark.parametrize("is_first", [True, False])
    def test_a_diff_of_what_is_long_on_one_side_is_none(self, monkeypatch: pytest.MonkeyPatch, *, is_first: bool) -> None:
        monkeypatch.setattr(profile, "_MOST_LINES", 3)
        contents = [{"a": 1, "b": 2}, {"a": 1}][:: 1 if is_first else -1]
        assert profile._change(ProfileEvolutionLog(), *contents).diff is None
        assert profile._change(ProfileEvolutionLog(), {"a": 1}, {"a": 2}).diff is not None

    async def test_its_newest_changes_are_open_and_its_weights_fall(self, client: httpx.AsyncClient, data: Database) -> None:
        text = (await client.get(f"{LIFELINE}/profile")).text
        changes = re.findall(r'<details class="change card"( open)?>', text)
        assert changes == [" open"] * 3 + [""] * (len(changes) - 3)
        async with data.project("lifeline", read_only=True) as session:
            weights = (await repos.project_profiles.current(session)).risk_weights
        shown = re.findall(
            r'<tr><th scope="row">([^<]*)</th><td class="number">([\d.]+)</td>', text.partition("Risk weights")[2]
        )
        assert dict(shown) == {area: f"{weight:.2f}" for area, weight in weights.items()}
        assert [weight for _, weight in shown] == sorted((weight for _, weight in shown), reverse=True)

    async def test_a_change_says_how_many_lines_came_and_went(self, client: httpx.AsyncClient) -> None:
        text = (await client.get(f"{LIFELINE}/profile")).text
        for version in (2, 3, 4):
            part = text.partition(f"<b>Version {version}</b>")[2].partition("</details>")[0]
            kinds = [kind for kind, _ in changed_lines(part)]
            assert f"+{kinds.count('added')} \N{MINUS SIGN}{kinds.count('removed')} " in words(part)

    async def test_a_profile_that_is_too_long_for_a_diff_is_shown_by_its_operations(
        self, inside: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(profile, "_MOST_LINES", 3)
        text = (await inside.get("p/lifeline/profile")).text
        assert "The profile is too long for a diff, or" in words(text)
        assert "<code>replace /" in text
        assert changed_lines(text) == []


class TestFixes:
    @pytest.mark.parametrize("same", ["", "yes"])
    async def test_similar_ones_are_those_of_the_repository(self, client: httpx.AsyncClient, data: Database, same: str) -> None:
        async with data.project("lifeline", read_only=True) as session:
            fix = (await repos.rag_corpus.list(session, with_embedding=True, limit=1)).items[0]
            assert fix.embedding is not None
            name = fix.classification if same else None
            matches = await repos.rag_corpus.search(session, fix.embedding, limit=11, classification=name)
        response = await client.get(f"{LIFELINE}/tables/rag_corpus/{fix.id}", params={"same": same})
        expected = [f"{LIFELINE}/tables/rag_corpus/{match.entry.id}" for match in matches if match.entry.id != fix.id]
        assert row_links(response.text.partition('id="similar"')[2]) == expected[:10]
        assert f"{matches[1].similarity:.3f}" in words(response.text)

    async def test_says_how_often_it_was_used_and_which_are_shown(self, client: httpx.AsyncClient, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            used = next(fix for fix in (await repos.rag_corpus.list(session, limit=500)).items if fix.last_used_at)
        page = f"{LIFELINE}/tables/rag_corpus/{used.id}"
        every, same = [(await client.get(page, params={"same": same})).text for same in ("", "yes")]
        assert f"last {used.last_used_at:%Y-%m-%d %H:%M}" in words(every)
        chosen = [re.findall(r'aria-current="true">([^<]*)</a>', text) for text in (every, same)]
        assert chosen == [["Of all"], [f"Of {used.classification}"]]

    async def test_without_an_embedding_its_words_find_others(self, client: httpx.AsyncClient, ours: Filled) -> None:
        [fix] = [row for row in ours.rows["rag_corpus"] if row.embedding is None]
        text = (await client.get(f"p/{ours.slug}/tables/rag_corpus/{fix.id}")).text
        assert "This fix has no embedding" in words(text)
        others = {f"p/{ours.slug}/tables/rag_corpus/{row.id}" for row in ours.rows["rag_corpus"] if row.id != fix.id}
        assert set(row_links(text.partition('id="similar"')[2])) == others


class TestErrors:
    async def test_a_slug_that_names_nothing_is_not_there(self, inside: httpx.AsyncClient) -> None:
        response = await inside.get("", params={"slug": "No Slug"})
        assert (response.status_code, "Not found" in words(response.text)) == (404, True)

    async def test_a_parameter_that_is_given_twice(self, inside: httpx.AsyncClient, empty: Project) -> None:
        response = await inside.get(f"p/{empty.slug}/profile?cursor=a&cursor=b")
        assert (response.status_code, "Each filter can be given once." in words(response.text)) == (422, True)

    @pytest.mark.parametrize(
        ("kind", "status", "title"),
        [
            (DatabaseUnavailable, 503, "The database does not answer"),
            (DatabaseTimeout, 504, "The database took too long"),
            (ConfigurationError, 503, "The database does not answer"),
        ],
    )
    async def test_of_the_database_are_said_without_their_words(
        self,
        inside: httpx.AsyncClient,
        monkeypatch: pytest.MonkeyPatch,
        kind: type[DerwinError],
        status: int,
        title: str,
    ) -> None:
        def project(*_: object, **__: object) -> None:
            raise kind("canary")

        monkeypatch.setattr(Database, "project", project)
        response = await inside.get("p/lifeline/")
        assert (response.status_code, f"<h1>{title}</h1>" in response.text) == (status, True)
        assert ("canary" in response.text, kind.default in unescape(response.text)) == (False, True)

    async def test_an_error_that_is_nobody_s_is_in_the_log_and_on_no_page(
        self, inside: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def project(*_: object, **__: object) -> None:
            raise DerwinError("canary")

        monkeypatch.setattr(Database, "project", project)
        with caplog.at_level(logging.ERROR, logger="derwin_db.studio"):
            response = await inside.get("p/lifeline/")
        assert (response.status_code, "canary" in response.text) == (500, False)
        assert "DerwinError: canary" in caplog.messages


class TestValues:
    @pytest.mark.parametrize(
        ("length", "text"),
        [(0, "0 B"), (1023, "1,023 B"), (1536, "1.5 KiB"), (1024**4, "1 TiB"), (2048 * 1024**4, "2,048 TiB")],
    )
    def test_lengths_are_in_the_unit_that_reads_best(self, length: int, text: str) -> None:
        assert size(length) == text

    def test_a_name_that_is_none_is_empty(self) -> None:
        assert short(plain(None)) == ""
        assert short(f"{'a' * 158} bc") == "a" * 158 + "\N{HORIZONTAL ELLIPSIS}"
        assert [short("a" * length) for length in (160, 161)] == ["a" * 160, "a" * 159 + "\N{HORIZONTAL ELLIPSIS}"]
