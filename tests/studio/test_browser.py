"""The pages in a real Chromium: readable in light and dark at three widths, by keyboard and by screen reader.

The rules of accessibility are those of axe-core, which reads a page as a screen reader does.
"""

from collections.abc import Iterator
from decimal import Decimal
from importlib.resources import files
from importlib.util import find_spec

import pytest
from selenium.webdriver.common.keys import Keys

from derwin_db import Database, repos
from derwin_db.models import Project, Severity
from tests.studio.browser import Browser, opened
from tests.studio.pages import WRONG, pages_of
from tests.studio.serving import Studio

WIDTHS, SCHEMES = (1440, 820, 390), ("light", "dark")
LOOKS = [(width, scheme) for width in WIDTHS for scheme in SCHEMES]
LEAST_LETTER = 11
CHART_LETTERS = "[...document.querySelectorAll('.plot text')]"
REFUSED = "the server responded with a status of 4"


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
  if (e.closest('svg title, svg desc, .arrow')) continue;
  const style = getComputedStyle(e), ink = light(parse(e.closest('svg') ? style.fill : style.color)), paper = light(ground(e));
  const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  if (ratio < 4.5) found.push(`${e.tagName}.${e.className.baseVal ?? e.className}: ${ratio.toFixed(2)}`);
}
return [...new Set(found)];
"""

LETTERS = """
const sizes = [...document.querySelectorAll('body *')]
  .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.getClientRects().length)
  .filter(e => !e.closest('title, desc'))
  .map(e => parseFloat(getComputedStyle(e).fontSize) * (e.getScreenCTM ? e.getScreenCTM().d : 1));
return Math.min(...sizes);
"""

AXE = (
    files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    if find_spec("axe_playwright_python")
    else ""
)
RULES = "{resultTypes: ['violations'], rules: {'target-size': {enabled: true}}}"
VIOLATIONS = f"""
const done = arguments[arguments.length - 1];
axe.run(document, {RULES}).then(
  found => done(found.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html.slice(0, 120)).slice(0, 3).join(' | '))),
  error => done(['axe failed: ' + error]));
"""

PLACES = """
const box = e => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.width] };
return ['header', '.brand', '.switch', '.side', 'main', 'h1']
  .map(s => box(document.querySelector(s)).slice(0, s === 'h1' ? 2 : 3));
"""

TONES = """
return [...document.querySelectorAll('.key')].map(e => getComputedStyle(e).color);
"""


def check(browser: Browser) -> list[str]:
    """What is wrong with the page that is open, as one sees and hears it."""
    found = [f"contrast: {what}" for what in browser.run(CONTRASTS)]
    if browser.run(LETTERS) < LEAST_LETTER:
        found.append(f"letters of {browser.run(LETTERS)} px")
    if browser.run("return document.documentElement.scrollWidth > innerWidth"):
        found.append("wider than the window")
    if browser.run("return document.querySelectorAll('h1').length + document.querySelectorAll('main').length") != 2:
        found.append("not one heading and one main part")
    if AXE:
        browser.run(AXE)
        found += browser.run_until_done(VIOLATIONS)
    return found


def opened_and_checked(browser: Browser, studio: Studio, page: str) -> list[str]:
    """Open a page, and return what is wrong with it and what the console says of it: a refusal is right where it is wanted."""
    said = browser.open(studio.url + page)
    refusals = [words for words in said if REFUSED in words]
    others = [words for words in said if words not in refusals]
    if page in WRONG:
        return check(browser) + others + ["not refused"] * (not refusals)
    return check(browser) + others + refusals


@pytest.fixture(scope="module")
async def pages(data: Database, empty: Project) -> list[str]:
    """Of each kind one page, and those that are wrong."""
    every = await pages_of(data, "lifeline")
    return ["", *every, *WRONG, f"p/{empty.slug}/", f"p/{empty.slug}/tables/qa_tickets"]


class TestEveryPage:
    @pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.long)])
    async def test_runs_nothing_that_is_stored(
        self, browser: Browser, studio: Studio, data: Database, hostile: Project, step: int
    ) -> None:
        for page in ["", *await pages_of(data, hostile.slug)][::step]:
            assert browser.open(studio.url + page) == [], page
            assert browser.title.endswith("Derwin studio"), page
            stored = 'script, [onerror], a[href^="javascript"], main img'
            assert browser.run(f"return document.querySelectorAll('{stored}').length") == 0

    async def test_one_in_seven_is_readable_in_one_of_its_looks(
        self, browser: Browser, studio: Studio, pages: list[str]
    ) -> None:
        wrong = {}
        for number, page in enumerate(pages[::7]):
            width, scheme = LOOKS[number % len(LOOKS)]
            browser.resize(width, 900)
            browser.prefer(scheme)
            if found := opened_and_checked(browser, studio, page):
                wrong[f"{page} {width} {scheme}"] = found
        assert wrong == {}

    @pytest.mark.long
    @pytest.mark.timeout(1800)
    @pytest.mark.parametrize(("width", "scheme"), LOOKS)
    async def test_is_readable_in_all_looks(
        self, browser: Browser, studio: Studio, pages: list[str], width: int, scheme: str
    ) -> None:
        browser.resize(width, 900)
        browser.prefer(scheme)
        wrong = {}
        for page in pages:
            if found := opened_and_checked(browser, studio, page):
                wrong[page] = found
        assert wrong == {}

    @pytest.mark.parametrize(
        ("number", "width"),
        [
            pytest.param(number, width, marks=() if WIDTHS[number] == width else pytest.mark.long)
            for number in range(3)
            for width in WIDTHS
        ],
    )
    async def test_panels_are_readable_too(self, browser: Browser, studio: Studio, number: int, width: int) -> None:
        browser.resize(width, 900)
        browser.open(f"{studio.url}p/lifeline/tables/qa_tickets?status=OPEN")
        browser.run(f"document.querySelectorAll('details.panel')[{number}].open = true")
        assert check(browser) == []

    async def test_nothing_jumps_from_page_to_page(self, browser: Browser, studio: Studio) -> None:
        seen = {}
        for page in (
            "",
            "profile",
            "tables",
            "schema",
            "sql",
            "tables/qa_tickets",
            "tables/policies",
            "tables/qa_tickets?status=OPEN",
        ):
            browser.open(f"{studio.url}p/lifeline/{page}")
            seen[page] = browser.run(PLACES)
        assert len({str(places) for places in seen.values()}) == 1, seen


class TestPictures:
    async def test_show_the_numbers_of_the_ledger(self, browser: Browser, studio: Studio, data: Database) -> None:
        browser.open(f"{studio.url}p/lifeline/?days=90")
        shown = browser.run("return [...document.querySelectorAll('#spend rect[data-value]')].map(e => e.dataset.value)")
        async with data.project("lifeline", read_only=True) as session:
            assert sum(map(Decimal, shown)) == await repos.spend_ledger.total(session)

    @pytest.mark.parametrize("width", WIDTHS)
    async def test_bars_are_as_high_as_their_numbers(self, browser: Browser, studio: Studio, width: int) -> None:
        browser.resize(width, 900)
        browser.open(f"{studio.url}p/lifeline/")
        bars = browser.run(
            "return [...document.querySelectorAll('#runs rect[data-value]')]"
            ".map(e => [Number(e.dataset.value), e.getBoundingClientRect().height])"
        )
        value, height = max(bars)
        assert height > 50
        assert all(abs(bar[1] / height - bar[0] / value) < 0.02 for bar in bars)

    @pytest.mark.parametrize("width", [*WIDTHS, 320, 2200])
    async def test_letters_have_one_size_and_stand_apart(self, browser: Browser, studio: Studio, width: int) -> None:
        browser.resize(width, 900)
        browser.open(f"{studio.url}p/lifeline/")
        seen = browser.run(
            f"return {CHART_LETTERS}.filter(e => e.getClientRects().length).map(e => {{ const r = e.getBoundingClientRect();"
            " return [e.closest('figure').id, e.closest('svg').getAttribute('class'),"
            " parseFloat(getComputedStyle(e).fontSize) * e.getScreenCTM().a,"
            " r.left, r.right, r.top, r.bottom, e.textContent] })"
        )
        assert len(seen) > 20
        assert {size for _, _, size, *_ in seen} == {12}
        for number, (figure, plot, _, left, right, top, bottom, text) in enumerate(seen):
            for other in seen[number + 1 :]:
                if (figure, plot) == tuple(other[:2]):
                    apart = right <= other[3] or other[4] <= left or bottom <= other[5] + 2 or other[6] <= top + 2
                    assert apart, (figure, text, other[-1])

    async def test_names_stand_beside_their_lines(self, browser: Browser, studio: Studio) -> None:
        browser.open(f"{studio.url}p/lifeline/")
        names, legend = browser.run(
            "const texts = s => [...document.querySelectorAll(s)]"
            ".filter(e => e.getClientRects().length).map(e => e.textContent);"
            " return [texts('#trust .ends text'), texts('#trust .legend li')]"
        )
        assert (len(names) > 4, legend) == (True, [])
        browser.resize(390, 900)
        browser.open(f"{studio.url}p/lifeline/")
        narrow = browser.run(
            "return [...document.querySelectorAll('#trust .legend li')].filter(e => e.getClientRects().length).length"
        )
        assert narrow == len(names)

    async def test_take_the_colours_of_the_scheme(self, browser: Browser, studio: Studio) -> None:
        seen = {}
        for scheme in SCHEMES:
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
        wanted = browser.run(
            "return [...document.querySelectorAll('a[href], input, summary, button')].filter(e => e.checkVisibility()).length"
        )
        reached = 0
        for _ in range(wanted + 10):
            browser.press(Keys.TAB)
            tag, outline = browser.run("const e = document.activeElement; return [e.tagName, getComputedStyle(e).outlineStyle]")
            if tag in ("A", "INPUT", "SUMMARY", "BUTTON"):
                reached += 1
                assert outline != "none", tag
            if tag == "BODY":
                break
        assert reached >= wanted

    async def test_a_filter_is_chosen_and_sent(self, browser: Browser, studio: Studio, data: Database) -> None:
        browser.open(f"{studio.url}p/lifeline/tables/qa_tickets?order=-risk_score")
        browser.run("document.querySelector('details.panel summary').focus()")
        browser.press(Keys.ENTER)
        for value in ("HIGH", "LOW"):
            browser.run(f"document.querySelector('[name=severity][value={value}]').focus()")
            browser.press(Keys.SPACE)
        browser.run("document.querySelector('details[open] button').focus()")
        browser.follow(Keys.ENTER)
        async with data.project("lifeline", read_only=True) as session:
            expected = await repos.qa_tickets.count(session, severity=[Severity.HIGH, Severity.LOW])
        assert browser.run("return document.querySelector('#total').textContent.trim()") == f"{expected} rows match"
        assert browser.run("return [...document.querySelectorAll('[name=severity]:checked')].map(e => e.value)") == [
            "HIGH",
            "LOW",
        ]
        assert browser.run("return document.querySelector('[aria-sort]').textContent").startswith("Risk score")

    async def test_words_are_typed_and_found(self, browser: Browser, studio: Studio) -> None:
        browser.open(f"{studio.url}p/lifeline/tables/rag_corpus")
        browser.run("document.querySelector('[type=search]').focus()")
        browser.press("contrast")
        browser.follow(Keys.ENTER)
        first = browser.run("return document.querySelector('tbody th').textContent")
        assert "contrast" in first.lower()

    async def test_columns_are_chosen(self, browser: Browser, studio: Studio) -> None:
        browser.open(f"{studio.url}p/lifeline/tables/qa_tickets")
        browser.run("document.querySelectorAll('details.panel')[1].open = true")
        for name in ("severity", "external_ref"):
            browser.run(f"document.querySelector('[name=with-column][value={name}]').click()")
        browser.run("document.querySelector('details[open] button').focus()")
        browser.follow(Keys.ENTER)
        shown = browser.run("return [...document.querySelectorAll('thead th')].map(e => e.textContent.trim())")
        assert "Severity" not in shown
        assert "External ref" in shown

    async def test_a_heading_sorts(self, browser: Browser, studio: Studio) -> None:
        browser.open(f"{studio.url}p/lifeline/tables/spend_ledger")
        browser.run("[...document.querySelectorAll('thead a')].find(e => e.textContent.includes('Amount')).focus()")
        browser.follow(Keys.ENTER)
        amounts = browser.run(
            "return [...document.querySelectorAll('tbody tr')]"
            ".map(e => Number([...e.cells].find(c => c.textContent.includes('$')).textContent.trim().replace(/[$,]/g, '')))"
        )
        assert len(amounts) == 50
        assert amounts == sorted(amounts, reverse=True)

    async def test_amounts_stand_under_each_other(self, browser: Browser, studio: Studio) -> None:
        browser.open(f"{studio.url}p/lifeline/tables/spend_ledger")
        digits = browser.run(
            "return [...document.querySelectorAll('tbody td.number')].map(e => e.textContent.trim())"
            ".filter(text => text.includes('$')).map(text => text.split('.')[1].length)"
        )
        assert (len(digits), len(set(digits))) == (50, 1)

    async def test_sql_is_typed_and_answered(self, browser: Browser, studio: Studio) -> None:
        browser.open(f"{studio.url}p/lifeline/sql")
        browser.run("document.querySelector('textarea').focus()")
        browser.press("SELECT count(*) FROM qa_tickets", Keys.TAB)
        browser.follow(Keys.ENTER)
        assert browser.run("return document.querySelector('tbody td').textContent") == "80"

    async def test_links_lead_both_ways(self, browser: Browser, studio: Studio, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            fix = (await repos.rag_corpus.list(session, limit=1)).items[0]
            assert fix.fix_attempt_id is not None
            attempt = await repos.qa_fix_attempts.get(session, fix.fix_attempt_id)
            ticket = await repos.qa_tickets.get(session, attempt.ticket_id)
            paid = (await repos.spend_ledger.list(session, fix_attempt_id=attempt.id)).items[0]
            found_by = (await repos.spend_ledger.list(session, run_id=ticket.run_id, limit=1)).items[0]
        for page, targets in {
            f"qa_tickets/{ticket.id}": [
                f"qa_fix_attempts/{attempt.id}",
                f"qa_runs/{ticket.run_id}",
                f"spend_ledger?ticket_id={ticket.id}",
                f"rag_corpus?ticket_id={ticket.id}",
            ],
            f"qa_fix_attempts/{attempt.id}": [
                f"qa_tickets/{ticket.id}",
                f"audit_artifacts?fix_attempt_id={attempt.id}",
                f"spend_ledger?fix_attempt_id={attempt.id}",
                f"rag_corpus?fix_attempt_id={attempt.id}",
            ],
            f"qa_runs/{ticket.run_id}": [
                f"qa_tickets?run_id={ticket.run_id}",
                f"raw_signals?run_id={ticket.run_id}",
                f"spend_ledger?run_id={ticket.run_id}",
            ],
            f"spend_ledger/{paid.id}": [f"qa_tickets/{ticket.id}", f"qa_fix_attempts/{attempt.id}"],
            f"spend_ledger/{found_by.id}": [f"qa_runs/{ticket.run_id}"],
            f"rag_corpus/{fix.id}": [f"qa_tickets/{ticket.id}", f"qa_fix_attempts/{attempt.id}"],
        }.items():
            browser.open(f"{studio.url}p/lifeline/tables/{page}")
            for target in targets:
                assert browser.run(f"return document.querySelectorAll('a[href$=\"{target}\"]').length"), (page, target)
