"""The pages in a real Chromium: nothing in its console, readable in light and dark, wide and narrow, by keyboard."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from selenium.webdriver.common.keys import Keys

from derwin_db import Database, repos
from derwin_db.models import Project
from derwin_db.testing import Filled
from tests.studio.browser import Browser, opened
from tests.studio.pages import pages_of
from tests.studio.serving import Studio

WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with opened() as browser:
        yield browser


@pytest.fixture
def browser(window: Browser) -> Browser:
    window.resize(1280, 900)
    window.prefer("light")
    return window


CONTRASTS = """
const channel = value => { value /= 255; return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4 };
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length > 3 && n[3] === 0 ? null : n };
const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c) return c }
  return parse(getComputedStyle(document.documentElement).backgroundColor) || [255, 255, 255] };
const found = [];
for (const e of document.querySelectorAll('body *')) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
  if (e.closest('svg title, svg desc')) continue;
  const style = getComputedStyle(e), ink = light(parse(e.closest('svg') ? style.fill : style.color)), paper = light(ground(e));
  const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  if (ratio < 4.5) found.push(`${e.tagName}.${e.className.baseVal ?? e.className}: ${ratio.toFixed(2)}`);
}
return [...new Set(found)];
"""

TONES = """
return [...document.querySelectorAll('.key')].map(e => getComputedStyle(e).color);
"""


class TestEveryPage:
    async def test_loads_without_a_word_in_the_console(
        self, browser: Browser, studio: Studio, data: Database, ours: Filled, empty: Project
    ) -> None:
        pages = ["", *await pages_of(data, "lifeline"), *await pages_of(data, ours.slug), *await pages_of(data, empty.slug)]
        assert {page: said for page in pages if (said := browser.open(studio.url + page))} == {}

    async def test_runs_nothing_that_is_stored(
        self, browser: Browser, studio: Studio, data: Database, hostile: Project
    ) -> None:
        for page in ["", *await pages_of(data, hostile.slug)]:
            assert browser.open(studio.url + page) == [], page
            assert browser.title.endswith("Derwin studio"), page
            assert (
                browser.run("return document.querySelectorAll('script, img, [onerror], a[href^=\"javascript\"]').length") == 0
            )

    @pytest.mark.parametrize("width", WIDTHS)
    async def test_fits_the_window(self, browser: Browser, studio: Studio, data: Database, width: int) -> None:
        browser.resize(width, 900)
        for page in ["", *await pages_of(data, "lifeline")]:
            browser.open(studio.url + page)
            assert browser.run("return document.documentElement.scrollWidth <= innerWidth"), page

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    async def test_can_be_read(self, browser: Browser, studio: Studio, data: Database, scheme: str) -> None:
        browser.prefer(scheme)
        for page in ["", *await pages_of(data, "lifeline")]:
            browser.open(studio.url + page)
            assert browser.run(CONTRASTS) == [], page

    async def test_has_headings_and_names_what_it_shows(self, browser: Browser, studio: Studio, data: Database) -> None:
        for page in ["", *await pages_of(data, "lifeline")]:
            browser.open(studio.url + page)
            seen = browser.run(
                "return [document.querySelectorAll('h1').length, document.querySelectorAll('main').length,"
                " document.querySelectorAll('table').length, document.querySelectorAll('table thead th[scope=col]').length,"
                " [...document.querySelectorAll('input, select')].filter(e => !e.labels.length).length,"
                " [...document.querySelectorAll('[tabindex]')].filter(e => !e.getAttribute('aria-label')).length]"
            )
            assert seen[:2] == [1, 1], page
            assert seen[3] >= 2 * seen[2], page
            assert seen[4:] == [0, 0], page


class TestPictures:
    async def test_show_the_numbers_of_the_ledger(self, browser: Browser, studio: Studio, data: Database) -> None:
        browser.open(f"{studio.url}p/lifeline/?days=90")
        shown = browser.run("return [...document.querySelectorAll('#spend rect[data-value]')].map(e => e.dataset.value)")
        async with data.project("lifeline", read_only=True) as session:
            assert sum(map(Decimal, shown)) == await repos.spend_ledger.total(session)

    async def test_bars_are_as_high_as_their_numbers(self, browser: Browser, studio: Studio) -> None:
        browser.open(f"{studio.url}p/lifeline/")
        bars = browser.run(
            "return [...document.querySelectorAll('#runs rect[data-value]')]"
            ".map(e => [Number(e.dataset.value), e.getBoundingClientRect().height])"
        )
        value, height = max(bars)
        assert height > 50
        assert all(abs(bar[1] / height - bar[0] / value) < 0.02 for bar in bars)

    async def test_take_the_colours_of_the_scheme(self, browser: Browser, studio: Studio) -> None:
        seen = {}
        for scheme in ("light", "dark"):
            browser.prefer(scheme)
            browser.open(f"{studio.url}p/lifeline/")
            seen[scheme] = browser.run(TONES)
            assert len(set(seen[scheme][:5])) == 5  # the payees: each a colour of its own
        assert all(one != other for one, other in zip(seen["light"], seen["dark"], strict=True))

    async def test_have_their_numbers_behind_a_key(self, browser: Browser, studio: Studio) -> None:
        browser.open(f"{studio.url}p/lifeline/")
        browser.run("document.querySelector('#spend summary').focus()")
        browser.press(Keys.ENTER)
        assert browser.run("return document.querySelector('#spend details').open")


class TestKeyboard:
    async def test_the_first_key_leads_to_the_content(self, browser: Browser, studio: Studio) -> None:
        browser.open(f"{studio.url}p/lifeline/tables/qa_tickets")
        browser.press(Keys.TAB)
        assert browser.run("return document.activeElement.className") == "skip"
        assert browser.run("return document.activeElement.getBoundingClientRect().left") >= 0

    async def test_everything_that_leads_on_is_reached_and_seen(self, browser: Browser, studio: Studio) -> None:
        browser.open(f"{studio.url}p/lifeline/tables/project_mode_logs")
        wanted = browser.run("return document.querySelectorAll('a[href], input, select, button').length")
        reached = 0
        for _ in range(wanted + 10):
            browser.press(Keys.TAB)
            tag, outline = browser.run("const e = document.activeElement; return [e.tagName, getComputedStyle(e).outlineStyle]")
            if tag in ("A", "INPUT", "SELECT", "BUTTON"):
                reached += 1
                assert outline != "none", tag
            if tag == "BODY":
                break
        assert reached >= wanted

    async def test_a_filter_is_chosen_and_sent(self, browser: Browser, studio: Studio, data: Database) -> None:
        browser.open(f"{studio.url}p/lifeline/tables/qa_tickets")
        browser.run("document.querySelector('select[name=severity]').focus()")
        browser.press("H")
        browser.run("document.querySelector('form button').focus()")
        browser.follow(Keys.ENTER)
        async with data.project("lifeline", read_only=True) as session:
            expected = await repos.qa_tickets.count(session, severity="HIGH")  # type: ignore[arg-type]
        assert browser.run("return document.querySelector('#total').textContent") == f"{expected} rows match"
        assert browser.run("return document.querySelector('select[name=severity]').value") == "HIGH"
