"""What a page seldom meets, in this process, where it can be brought about."""

import logging
from collections.abc import AsyncIterator

import httpx
import pytest

from derwin_db import Database
from derwin_db.errors import DerwinError
from derwin_db.models import Project
from derwin_db.studio import create_app, profile, sql_box
from derwin_db.studio.rendering import plain, short, size
from derwin_db.testing import TestDatabase
from tests.studio.test_pages import changed_lines, words


@pytest.fixture
async def inside(database: TestDatabase, data: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with Database(**database.urls) as db:
        transport = httpx.ASGITransport(app=create_app(db, token="secret", takes_sql=True))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost/secret/") as opened:
            yield opened


class TestRefusals:
    async def test_a_slug_that_names_nothing_is_not_there(self, inside: httpx.AsyncClient) -> None:
        response = await inside.get("", params={"slug": "No Slug"})
        assert (response.status_code, "Not found" in words(response.text)) == (404, True)

    async def test_a_parameter_that_is_given_twice(self, inside: httpx.AsyncClient, empty: Project) -> None:
        response = await inside.get(f"p/{empty.slug}/profile?cursor=a&cursor=b")
        assert (response.status_code, "Each filter can be given once." in words(response.text)) == (422, True)

    async def test_a_statement_that_is_ended_before_it_runs(
        self, inside: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The limit of time holds for all that the unit of work does, what the box itself asks of the server too."""
        slow = "SELECT pg_sleep(9)::text WHERE $1::text[] IS NOT NULL AND $2::text[] IS NOT NULL"
        monkeypatch.setattr(sql_box, "_DO_MORE", slow)
        monkeypatch.setattr(sql_box, "SECONDS", 0.05)
        response = await inside.get("p/lifeline/sql", params={"statement": "SELECT 1"})
        assert (response.status_code, "and was ended" in response.text) == (422, True)


async def test_an_error_that_is_nobody_s_is_in_the_log_and_on_no_page(
    inside: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def project(*_: object, **__: object) -> None:
        raise DerwinError("canary")

    monkeypatch.setattr(Database, "project", project)
    with caplog.at_level(logging.ERROR, logger="derwin_db.studio"):
        response = await inside.get("p/lifeline/")
    assert (response.status_code, "canary" in response.text) == (500, False)
    assert "DerwinError: canary" in caplog.messages


async def test_a_profile_that_is_too_long_for_a_diff_is_shown_by_its_operations(
    inside: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "_MOST_LINES", 3)
    text = (await inside.get("p/lifeline/profile")).text
    assert "The profile is too long for a diff." in words(text)
    assert "<code>replace /" in text
    assert changed_lines(text) == []


class TestValues:
    @pytest.mark.parametrize(
        ("length", "text"),
        [(0, "0 B"), (1023, "1,023 B"), (1536, "1.5 KiB"), (1024**4, "1 TiB"), (2048 * 1024**4, "2,048 TiB")],
    )
    def test_lengths_are_in_the_unit_that_reads_best(self, length: int, text: str) -> None:
        assert size(length) == text

    def test_a_name_that_is_none_is_empty(self) -> None:
        assert short(plain(None)) == ""
