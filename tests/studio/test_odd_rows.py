"""Rows that no repository writes but SQL by hand may, texts that are empty, and more rows than a page shows."""

import json
import re
from html import unescape

import httpx
import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.fields.scalars import new_id
from derwin_db.models import FixOutcome, ProfileChange, Project, ProjectProfileUpdate
from derwin_db.repos import base as base_module
from derwin_db.studio import profile, ticket
from derwin_db.testing.factories import (
    create_artifact,
    create_doc,
    create_fix_attempt,
    create_past_fix,
    create_profile,
    create_project,
    create_run,
    create_signal,
    create_spend,
    create_ticket,
)
from tests.studio.test_pages import changed_lines, row_links, words

JSON_COLUMNS = {
    "qa_tickets": ("steps_to_reproduce",),
    "qa_fix_attempts": ("diff_stat",),
    "project_profiles": ("domain_ontology", "risk_weights", "critical_flows", "glossary"),
}


@pytest.fixture
async def odd(data: Database) -> Project:
    """A project of one's own, with a profile."""
    async with data.admin(reason="odd rows") as admin:
        project = await create_project(admin, slug=f"odd-{new_id().hex[-20:]}")
    async with data.project(project.id) as session:
        await create_profile(session)
    return project


def stored(html: str) -> list[object]:
    """What is shown as it is stored."""
    return [json.loads(unescape(text)) for text in re.findall(r'aria-label="As it is stored">(.*?)</pre>', html, re.DOTALL)]


class TestShapes:
    @pytest.mark.parametrize("text", ["3", "null", '"a"', "[1]", '[{"name": "a"}]', '{"x": 1}'])
    async def test_that_are_none_of_ours_are_shown_as_they_are(
        self, inside: httpx.AsyncClient, data: Database, odd: Project, text: str
    ) -> None:
        async with data.project(odd.id) as session:
            attempt = await create_fix_attempt(session)
            for table, columns in JSON_COLUMNS.items():
                changes = ", ".join(f"{name} = '{text}'" for name in columns)
                await session.sql.execute(sa.text(f"UPDATE {table} SET {changes}"))
        known = await inside.get(f"p/{odd.slug}/profile")
        page = await inside.get(f"p/{odd.slug}/tables/qa_tickets/{attempt.ticket_id}")
        assert (known.status_code, page.status_code) == (200, 200)
        assert stored(known.text) == [json.loads(text)] * (3 if text == '{"x": 1}' else 4)  # that may be weights
        assert stored(page.text) == [json.loads(text)] * (text != "null")

    @pytest.mark.parametrize("patch", ["3", "[1]", '{"op": "test"}', '[{"op": "remove", "path": "/none"}]'])
    async def test_of_a_log_that_can_t_be_replayed(
        self, inside: httpx.AsyncClient, data: Database, odd: Project, patch: str
    ) -> None:
        async with data.project(odd.id) as session:
            await session.sql.execute(sa.text("UPDATE project_profiles SET version = 2"))
            await session.sql.execute(
                sa.text(
                    "INSERT INTO profile_evolution_logs"
                    " (project_id, profile_id, from_version, to_version, change, actor, reason, patch)"
                    f" SELECT project_id, id, 1, 2, 'LEARNED', 'actor', 'by hand', '{patch}' FROM project_profiles"
                )
            )
        response = await inside.get(f"p/{odd.slug}/profile")
        assert (response.status_code, "by hand" in response.text, changed_lines(response.text)) == (200, True, [])
        assert "its log can't be replayed" in words(response.text)
        assert "<code>add /summary</code>" in response.text
        shown = "<code>remove /none</code>" in response.text
        assert (shown, stored(response.text)) == ((True, []) if "/none" in patch else (False, [json.loads(patch)]))

    async def test_of_a_change_that_a_document_brought_lead_to_it(
        self, inside: httpx.AsyncClient, data: Database, odd: Project
    ) -> None:
        async with data.project(odd.id) as session:
            doc = await create_doc(session)
            await repos.project_profiles.evolve(
                session,
                ProjectProfileUpdate(summary="read"),
                change=ProfileChange.DOC_INGESTED,
                expected_version=1,
                actor="a",
                reason="b",
                doc_id=doc.id,
            )
        text = (await inside.get(f"p/{odd.slug}/profile")).text
        assert text.count(f'tables/ingested_docs/{doc.id}">a document</a>') == 1

    async def test_of_a_long_patch_is_cut(
        self, inside: httpx.AsyncClient, data: Database, odd: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with data.project(odd.id) as session:
            current = await repos.project_profiles.current(session)
            for count in (100, 201):
                glossary = {**current.glossary, **{f"term {number}": "means" for number in range(count)}}
                current = await repos.project_profiles.evolve(
                    session,
                    ProjectProfileUpdate(glossary=glossary),
                    change=ProfileChange.LEARNED,
                    expected_version=current.version,
                    actor="a",
                    reason="b",
                )
        monkeypatch.setattr(profile, "_MOST_LINES", 1)
        text = (await inside.get(f"p/{odd.slug}/profile")).text
        third, second = (text.partition(f"<b>Version {version}</b>")[2].partition("</details>")[0] for version in (3, 2))
        assert [part.count("<code>add /glossary/") for part in (third, second)] == [100, 100]
        assert ["The whole patch" in part for part in (third, second)] == [True, False]


class TestEmptyTexts:
    async def test_of_a_past_fix_without_an_embedding(self, inside: httpx.AsyncClient, data: Database, odd: Project) -> None:
        async with data.project(odd.id) as session:
            empty = await create_past_fix(session, problem="", embedding=None, embedding_model=None)
            other = await create_past_fix(session, problem="A total", embedding=None, embedding_model=None)
        response = await inside.get(f"p/{odd.slug}/tables/rag_corpus/{empty.id}")
        assert (response.status_code, "There is no other fix like it here" in response.text) == (200, True)
        assert row_links((await inside.get(f"p/{odd.slug}/tables/rag_corpus/{other.id}")).text) == []

    async def test_that_are_long_are_searched_for_by_their_beginning(
        self, inside: httpx.AsyncClient, data: Database, odd: Project
    ) -> None:
        async with data.project(odd.id) as session:
            long = await create_past_fix(session, problem="rounding " * 2000, embedding=None, embedding_model=None)
            other = await create_past_fix(session, problem="rounding", embedding=None, embedding_model=None)
        response = await inside.get(f"p/{odd.slug}/tables/rag_corpus/{long.id}")
        assert (response.status_code, f"rag_corpus/{other.id}" in response.text) == (200, True)

    async def test_have_a_link_all_the_same(self, inside: httpx.AsyncClient, data: Database, odd: Project) -> None:
        async with data.project(odd.id) as session:
            one = await create_past_fix(session, problem="")
            other = await create_past_fix(session, problem="")
        text = (await inside.get(f"p/{odd.slug}/tables/rag_corpus/{one.id}")).text
        assert "<h1>(empty)</h1>" in text
        assert f'{other.id}">(empty)</a>' in text


class TestLines:
    async def test_of_a_text_stand_below_each_other(self, inside: httpx.AsyncClient, data: Database, odd: Project) -> None:
        async with data.project(odd.id) as session:
            attempt = await create_fix_attempt(session)
            await repos.qa_fix_attempts.start(session, attempt.id)
            await repos.qa_fix_attempts.conclude(session, attempt.id, FixOutcome.TESTS_FAILED, error="one\n  two")
        text = (await inside.get(f"p/{odd.slug}/tables/qa_fix_attempts/{attempt.id}")).text
        assert re.search(r"<pre[^>]*>one\n  two</pre>", text)

    async def test_of_a_diff_of_a_profile_end_as_json_has_them(
        self, inside: httpx.AsyncClient, data: Database, odd: Project
    ) -> None:
        async with data.project(odd.id) as session:
            await repos.project_profiles.evolve(
                session,
                ProjectProfileUpdate(summary="one\u2028two"),
                change=ProfileChange.LEARNED,
                expected_version=1,
                actor="a",
                reason="b",
            )
        lines = changed_lines((await inside.get(f"p/{odd.slug}/profile")).text)
        assert ("added", '  "summary": "one\u2028two",') in lines


class TestMore:
    async def test_than_a_ticket_shows_is_behind_a_link(
        self, inside: httpx.AsyncClient, data: Database, odd: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with data.project(odd.id) as session:
            run = await create_run(session)
            first = await create_ticket(session)
            for _ in range(2):
                twin = await create_ticket(session)
                await repos.qa_tickets.mark_duplicate(session, twin.id, first.id)
                signal = await create_signal(session, run_id=run.id)
                await repos.raw_signals.attach(session, [signal.id], first.id)
                attempt = await create_fix_attempt(session, ticket_id=first.id)
                await repos.qa_fix_attempts.cancel(session, attempt.id)
                await create_artifact(session, ticket_id=first.id)
                await create_spend(session, ticket_id=first.id)
            await create_artifact(session, fix_attempt_id=attempt.id)
        page = f"p/{odd.slug}/tables/qa_tickets/{first.id}"
        whole = (await inside.get(page)).text
        monkeypatch.setattr(ticket, "_MOST", 1)
        cut = (await inside.get(page)).text
        links = {
            f"raw_signals?ticket_id={first.id}": "All signals",
            f"qa_fix_attempts?ticket_id={first.id}": "All attempts",
            f"qa_tickets?duplicate_of_id={first.id}": "All duplicates",
        }
        for link, label in links.items():
            assert (f'{link}">{label}</a>' in cut, label in whole) == (True, False), label
        text = words(whole)
        assert ("Spend 2 entries" in text, "Past fixes none" in text) == (True, True)
        assert not re.search(r"<dt>(Signals|Fix attempts|Artifacts|Tickets)</dt>", whole)
        artifacts = re.findall(r'audit_artifacts/([\w-]+)"', whole)
        assert (len(artifacts), sorted(artifacts, reverse=True)) == (3, artifacts)  # ids are of the time that they were made at
        assert re.findall(r'audit_artifacts/([\w-]+)"', cut) == artifacts[:1]

    async def test_than_is_counted_has_a_sign(
        self, inside: httpx.AsyncClient, data: Database, odd: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with data.project(odd.id) as session:
            run = await create_run(session)
            found = [await create_ticket(session, run_id=run.id) for _ in range(3)]
            for _ in range(3):
                await create_spend(session, ticket_id=found[0].id)
        base = f"p/{odd.slug}/tables"
        pages = (base, f"{base}/qa_tickets", f"{base}/qa_runs/{run.id}", f"{base}/qa_tickets/{found[0].id}")
        for most, seen in ((3, "3"), (2, "2 +")):
            monkeypatch.setattr(base_module, "MAX_TOTAL", most)
            index, tickets, row, ticket_page = [words((await inside.get(page)).text) for page in pages]
            assert f"Tickets qa_tickets {seen} " in index
            assert ("Tickets more than 2 rows" in tickets, "Tickets 3 rows" in tickets) == (most == 2, most == 3)
            assert f"Tickets {seen} " in row.partition(f"/ {run.id}")[2]
            assert ("the first 10,000 rows" in (await inside.get(pages[1])).text) == (most == 2)
            assert ("Spend more than 2 entries" in ticket_page, "Spend 3 entries" in ticket_page) == (most == 2, most == 3)
