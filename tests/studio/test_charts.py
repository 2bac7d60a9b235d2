"""The charts show what the repositories add up, to the last digit."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from itertools import pairwise
from statistics import median
from typing import ClassVar
from xml.etree import ElementTree as ET

import httpx
import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.models import DiscoveryRoute, Project, QARun, SpendLedgerCreate
from derwin_db.models.qa_ticket import OPEN_STATUSES
from derwin_db.studio import aggregates
from derwin_db.studio.aggregates import Period
from derwin_db.studio.charts import Chart, Data, Tick, columns, lines, nice_ticks, rows
from derwin_db.studio.overview import dollars, spend_picture
from derwin_db.studio.rendering import Renderer, words
from derwin_db.studio.views import Views
from derwin_db.testing import Filled
from tests.studio.test_pages import words as words_of

NAMES = ("spend", "trust", "tickets", "signals", "runs")
DAYS = 90
"""More than the demo has: its totals are those of all there is."""


def figure(html: str, name: str) -> ET.Element:
    """The chart, which has to be well-formed XML."""
    plot = re.search(r'<div class="plot">.*?</div>', of_figure(html, name), re.DOTALL)
    assert plot is not None, name
    return next(svg for svg in ET.fromstring(plot[0]) if svg.attrib["class"] == "chart")


def of_figure(html: str, name: str) -> str:
    return html.partition(f'<figure id="{name}"')[2].partition("</figure>")[0]


def marks(svg: ET.Element) -> list[tuple[str, str, Decimal]]:
    """(label, series, value) of each bar."""
    return [
        (mark.attrib["data-label"], mark.attrib["data-series"], Decimal(mark.attrib["data-value"]))
        for mark in svg.iter()
        if mark.tag in ("rect", "circle")
    ]


def totals(svg: ET.Element, part: int) -> dict[str, Decimal]:
    found: dict[str, Decimal] = defaultdict(Decimal)
    for mark in marks(svg):
        found[str(mark[part])] += mark[2]
    return dict(found)


@pytest.fixture
async def overview(client: httpx.AsyncClient) -> str:
    return (await client.get(f"p/lifeline/?days={DAYS}")).text


class TestSpend:
    async def test_is_that_of_the_ledger_by_day(self, overview: str, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            expected = await repos.spend_ledger.totals_by(session, "day")
            total = await repos.spend_ledger.total(session)
        shown = totals(figure(overview, "spend"), 0)
        assert shown == {f"{day.day} {day:%b}": amount for day, amount in expected.items()}
        assert re.search(rf'<dd id="spent"><a [^>]*>\${total:,.2f}</a></dd>', overview)

    async def test_is_that_of_the_ledger_by_model(self, overview: str, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            by_model = await repos.spend_ledger.totals_by(session, "model")
            by_source = await repos.spend_ledger.totals_by(session, "source")
        shown = totals(figure(overview, "spend"), 1)
        for model, amount in by_model.items():
            if model is not None:
                assert shown[model] == amount
        assert shown["COMPUTE"] == by_source["COMPUTE"]
        assert sum(shown.values()) == sum(by_model.values())

    async def test_a_shorter_time_has_only_its_days(self, client: httpx.AsyncClient, data: Database) -> None:
        text = (await client.get("p/lifeline/?days=14")).text
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        async with data.project("lifeline", read_only=True) as session:
            expected = await repos.spend_ledger.total(session, since=midnight - timedelta(days=13))
        assert sum(totals(figure(text, "spend"), 0).values()) == expected

    async def test_a_day_begins_at_midnight_in_utc_wherever_the_session_is(self, db: Database, project: Project) -> None:
        period = Period.of(14)
        midnight = period.until - timedelta(days=3)
        async with db.project(project.id) as session:
            for minutes, amount in ((-1, "1"), (0, "2"), (1439, "4"), (1440, "8")):
                await repos.spend_ledger.append(session, charge(amount, midnight + timedelta(minutes=minutes)))
        for zone in ("UTC", "Asia/Tokyo", "America/Lima"):
            async with db.project(project.id) as session:
                await session.sql.execute(sa.text(f"SET LOCAL TIME ZONE '{zone}'"))
                found = {day: amount for day, _, amount in await aggregates.spend(session, period)}
            days = [(midnight + timedelta(days=number)).date() for number in (-1, 0, 1)]
            assert found == dict(zip(days, map(Decimal, (1, 6, 8)), strict=True)), zone
        async with db.project(project.id) as session:
            before = await aggregates.spend(session, Period(days=2, until=midnight))
        assert [amount for _, _, amount in before] == [Decimal(1)]

    def test_payees_come_in_the_order_of_their_cost(self) -> None:
        period = Period.of(7)
        at = period.since.date()
        found = [(at, "cheap", Decimal(1)), (at, "alike", Decimal(5)), (at, "also", Decimal(5)), (at, "dear", Decimal(3))]
        found.append((at + timedelta(days=1), "dear", Decimal(3)))
        drawn = spend_picture(found, period)
        assert [series for _, series in drawn.legend] == ["dear", "alike", "also", "cheap"]


def charge(amount: str, at: datetime) -> SpendLedgerCreate:
    return SpendLedgerCreate(
        kind="CHARGE", source="OTHER", amount_usd=amount, model="m", idempotency_key=f"{at}", occurred_at=at
    )


class TestTickets:
    async def test_are_those_of_the_repository(self, overview: str, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            tickets = [ticket async for ticket in repos.qa_tickets.stream(session)]
            by_status = await repos.qa_tickets.counts_by_status(session)
        svg = figure(overview, "tickets")
        assert Counter({(bucket, status): int(count) for bucket, status, count in marks(svg)}) == Counter(
            (words(str(ticket.final_bucket)), str(ticket.status)) for ticket in tickets
        )
        assert totals(svg, 1) == {str(status): count for status, count in by_status.items() if count}

    async def test_one_without_a_bucket_is_shown(self, client: httpx.AsyncClient, ours: Filled) -> None:
        text = (await client.get(f"p/{ours.slug}/")).text
        without = sum(ticket.final_bucket is None for ticket in ours.rows["qa_tickets"])
        assert totals(figure(text, "tickets"), 0)["No bucket"] == without


class TestSignals:
    async def test_are_those_of_the_repository(self, overview: str, data: Database) -> None:
        svg = figure(overview, "signals")
        async with data.project("lifeline", read_only=True) as session:
            shown = totals(svg, 0)
            for route in DiscoveryRoute:
                assert await repos.raw_signals.count(session, route=route) == shown.get(words(route), 0)
            for status, count in totals(svg, 1).items():
                assert await repos.raw_signals.count(session, status=status) == count  # type: ignore[arg-type]
            assert sum(totals(svg, 0).values()) == await repos.raw_signals.count(session)


class TestRuns:
    async def test_have_their_length_and_outcome(self, overview: str, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            runs = (await repos.qa_runs.list(session, limit=60)).items
        shown = marks(figure(overview, "runs"))
        assert [(status, round(float(minutes), 6)) for _, status, minutes in shown] == [
            (str(run.status), round(minutes_of(run), 6)) for run in reversed(runs)
        ]

    async def test_lead_to_their_rows(self, overview: str, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            runs = (await repos.qa_runs.list(session, limit=60)).items
        links = [link.attrib["href"].rpartition("/")[2] for link in figure(overview, "runs").iter("a")]
        assert links == [str(run.id) for run in reversed(runs)]

    async def test_are_counted_by_outcome(self, overview: str, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            runs = [run async for run in repos.qa_runs.stream(session)]
        assert runs
        for status, count in Counter(str(run.status) for run in runs).items():
            assert re.search(rf">{count} {status.lower()}</a>", overview), status


class TestFigures:
    async def test_are_those_of_the_repositories(self, overview: str, data: Database) -> None:
        async with data.project("lifeline", read_only=True) as session:
            tickets = await repos.qa_tickets.count(session)
            still_open = await repos.qa_tickets.count(session, status=list(OPEN_STATUSES))
            signals = await repos.raw_signals.count(session)
            runs = [run async for run in repos.qa_runs.stream(session)]
        text = words_of(overview)
        assert f"Open tickets {still_open} of {tickets} in all Signals in {DAYS} days {signals} " in text
        assert f"Runs in {DAYS} days {len(runs)} " in text
        middle = median(minutes_of(run) for run in runs if run.status == "COMPLETED")
        assert f"completed in {round(middle, 1)} min" in text
        assert 0 < still_open < tickets

    async def test_lead_to_their_rows(self, overview: str) -> None:
        links = {
            "qa_tickets?" + "&amp;".join(f"status={status}" for status in OPEN_STATUSES),
            "spend_ledger?order=-occurred_at",
            "raw_signals",
            "qa_runs",
            "qa_runs?status=COMPLETED",
        }
        figures = overview.partition('<dl class="figures">')[2].partition("</dl>")[0]
        assert links <= set(re.findall(r'href="[^"]*/tables/([^"]+)"', figures))

    async def test_leave_out_what_was_before(self, data: Database) -> None:
        period = Period.of(14)
        async with data.project("lifeline", read_only=True) as session:
            signals = await repos.raw_signals.count(session, since=period.since)
            runs = await repos.qa_runs.count(session, since=period.since)
            found = [await ask(session, period) for ask in (aggregates.signals, aggregates.runs)]
            assert 0 < signals < await repos.raw_signals.count(session)
            assert 0 < runs < await repos.qa_runs.count(session)
        assert [sum(count for _, _, count in found[0]), sum(count for _, count, _ in found[1])] == [signals, runs]

    async def test_are_of_60_days_unless_it_is_said(self, client: httpx.AsyncClient) -> None:
        text = (await client.get("p/lifeline/")).text
        assert 'aria-current="true">60 days</a>' in text
        assert "Spent in 60 days" in words_of(text)


class TestTrust:
    async def test_ends_at_the_score_that_is_stored(self, overview: str, data: Database) -> None:
        async with data.project("lifeline") as session:
            await repos.classification_trust.refresh(session)
            stored = {row.classification: row.score async for row in repos.classification_trust.stream(session)}
        shown = {series: float(score) for _, series, score in marks(figure(overview, "trust"))}
        assert {name: round(score, 9) for name, score in shown.items()} == {name: round(stored[name], 9) for name in shown}
        assert set(shown) == {name for name, score in stored.items() if score} | set(shown)

    async def test_was_on_each_day_what_a_window_then_would_have_given(self, overview: str, data: Database) -> None:
        from statsmodels.stats.proportion import proportion_confint

        async with data.project("lifeline", read_only=True) as session:
            names = {ticket.id: ticket.classification async for ticket in repos.qa_tickets.stream(session)}
            attempts = [attempt async for attempt in repos.qa_fix_attempts.stream(session)]
        table = dict(numbers(overview, "trust"))
        head = [unescape(name) for name in re.findall(r'class="number">([^<]+)</th>', part(overview, "trust"))]
        now = datetime.now(UTC)
        checked = 0
        for age in (0, 10, 25, 40):
            end = now - timedelta(days=age)
            label = f"{end.day} {end:%b}"
            for name, text in zip(head, table[label], strict=True):
                found = [
                    attempt.outcome == "MERGED"
                    for attempt in attempts
                    if names[attempt.ticket_id] == name
                    and attempt.concluded_at is not None
                    and end - timedelta(days=30) < attempt.concluded_at <= end
                ]
                expected = proportion_confint(sum(found), len(found), method="wilson")[0] if found else 0.0
                assert float(text) == pytest.approx(max(expected, 0.0), abs=0.0006), (name, label)
                checked += bool(found)
        assert checked > 10


class TestAll:
    @pytest.mark.parametrize("name", NAMES)
    async def test_have_a_title_a_description_and_a_table_of_the_same_numbers(self, overview: str, name: str) -> None:
        svg = figure(overview, name)
        assert svg.attrib["role"] == "group"
        ids = svg.attrib["aria-labelledby"].split()
        assert [element.attrib["id"] for element in svg if element.tag in ("title", "desc")] == ids
        assert all(element.text for element in svg if element.tag in ("title", "desc"))
        cells = {text for _, texts in numbers(overview, name) for text in texts}
        tips = {(mark.findtext("title") or "").rpartition(": ")[2] for mark in svg.iter() if mark.tag in ("rect", "circle")}
        assert tips <= cells
        assert tips

    @pytest.mark.parametrize("name", NAMES)
    async def test_bars_lie_within_the_picture(self, overview: str, name: str) -> None:
        svg = figure(overview, name)
        height = float(svg.attrib["height"])
        places = []
        for mark in svg.iter():
            if mark.tag == "rect":
                x, y, w, h = (float(mark.attrib[key].rstrip("%")) for key in ("x", "y", "width", "height"))
                places.append((x, x + w, y, y + h))
            elif mark.tag == "circle":
                x, y = (float(mark.attrib[key].rstrip("%")) for key in ("cx", "cy"))
                places.append((x, x, y, y))
        assert places
        for left, right, top, bottom in places:
            assert 0 <= left <= right <= 100.01
            assert 0 <= top <= bottom <= height

    async def test_an_empty_project_has_none_and_says_so(self, client: httpx.AsyncClient, empty: Project) -> None:
        text = (await client.get(f"p/{empty.slug}/")).text
        assert '<svg class="chart' not in text
        assert text.count("Nothing to draw") == len(NAMES)
        assert "Nothing has happened here yet" in text


def part(html: str, name: str) -> str:
    return of_figure(html, name).partition("<details>")[2]


def numbers(html: str, name: str) -> Iterator[tuple[str, list[str]]]:
    """Rows of the table below the chart."""
    for label, cells in re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', part(html, name)):
        yield unescape(label), [unescape(cell) for cell in re.findall(r'<td class="number">(.*?)</td>', cells)]


def minutes_of(run: QARun) -> float:
    assert run.started_at is not None
    assert run.finished_at is not None
    return (run.finished_at - run.started_at).total_seconds() / 60


def chart() -> Chart:
    return Chart("name", "Title", "Description.", "Corner")


def data_of(values: dict[tuple[str, str], float]) -> Data:
    labels = sorted({label for label, _ in values})
    return Data(labels, {name: "tone-0" for _, name in values}, values, str, lambda ticks: list(map(str, ticks)))


class TestGeometry:
    @pytest.mark.parametrize(
        ("low", "high", "expected"),
        [(0, 10, [0, 2, 4, 6, 8, 10]), (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-3, 7, [-4, -2, 0, 2, 4, 6, 8]), (0, 1e-5, 6)],
    )
    def test_ticks_are_round_and_go_around_the_values(self, low: float, high: float, expected: list[float] | int) -> None:
        found = nice_ticks(low, high)
        assert found[0] <= low
        assert found[-1] >= high * (1 - 1e-9)
        assert len(found) == expected if isinstance(expected, int) else found == pytest.approx(expected)

    @pytest.mark.parametrize(("high", "expected"), [(0, [0, 1]), (1, [0, 1]), (3, [0, 1, 2, 3]), (12, [0, 5, 10, 15])])
    def test_ticks_of_counts_are_whole(self, high: float, expected: list[int]) -> None:
        assert nice_ticks(0, high, whole=True) == expected

    @pytest.mark.parametrize(
        ("ticks", "expected"),
        [
            ([0.0, 5.0, 10.0], ["$0", "$5", "$10"]),
            ([0.0, 0.5, 1.0], ["$0.00", "$0.50", "$1.00"]),
            ([0.0, 0.002, 0.004], ["$0.000", "$0.002", "$0.004"]),
        ],
    )
    def test_amounts_of_an_axis_have_as_many_digits(self, ticks: list[float], expected: list[str]) -> None:
        assert dollars(ticks) == expected

    def test_names_of_lines_stand_apart_and_beside_them(self) -> None:
        drawn = lines(chart(), data_of({("a", name): 0.5 + number / 1000 for number, name in enumerate("stuvwx")}), top=1.0)
        places = [end.at for end in drawn.ends]
        assert [end.text for end in drawn.ends] == list("xwvuts")
        assert all(below - above >= 15 for above, below in pairwise(places))
        assert abs(places[2] - drawn.ends[2].from_y) < 60
        low = lines(chart(), data_of({("a", name): 0.0 for name in "stuvwx"}), top=1.0)
        assert max(end.at for end in low.ends) <= low.height

    def test_there_is_room_for_the_names_of_many_lines(self) -> None:
        many = {("a", f"name {number}"): number / 40 for number in range(40)}
        drawn = lines(chart(), data_of(many), top=1.0)
        places = [end.at for end in drawn.ends]
        assert all(below - above >= 15 for above, below in pairwise(places))
        assert (places[0] >= 12, places[-1] + 4 <= drawn.height) == (True, True)
        assert {drawn.ticks[0].at, drawn.ticks[-1].at} == {drawn.bottom, drawn.top}

    def test_a_bar_is_as_high_as_its_share_of_the_axis(self) -> None:
        drawn = columns(chart(), data_of({("a", "x"): 5.0, ("a", "y"): 2.5, ("b", "x"): 10.0}))
        full = drawn.bottom - drawn.top
        assert [mark.height for mark in drawn.marks] == pytest.approx([full / 2, full / 4, full])
        assert drawn.marks[1].y + drawn.marks[1].height == pytest.approx(drawn.marks[0].y)

    def test_of_nothing_there_are_no_bars(self) -> None:
        drawn = columns(chart(), data_of({}))
        assert (drawn.marks, drawn.labels, drawn.rows) == ([], [], [])

    def test_an_axis_goes_no_further_than_its_values(self) -> None:
        drawn = columns(chart(), data_of({("a", "x"): 0.2}))
        assert drawn.marks[0].height == pytest.approx(drawn.bottom - drawn.top)

    def test_every_place_of_a_line_has_a_name_unless_fewer_are_asked_for(self) -> None:
        data = data_of({(label, "x"): 1.0 for label in "abcd"})
        drawn = [[label.text for label in lines(chart(), data, top=1.0, **few).labels] for few in ({}, {"every": 3})]
        assert drawn == [list("abcd"), ["a", "d"]]

    def test_every_so_many_columns_have_a_name_from_the_first_on(self) -> None:
        drawn = columns(chart(), data_of({(label, "x"): 1.0 for label in "abcde"}), every=2)
        assert [label.text for label in drawn.labels] == ["a", "c", "e"]
        middles = [mark.x + mark.width / 2 for mark in drawn.marks]
        assert [label.at for label in drawn.labels] == pytest.approx(middles[::2], abs=0.02)

    def test_what_is_below_zero_goes_down_from_it(self) -> None:
        drawn = columns(chart(), data_of({("a", "x"): 4.0, ("a", "y"): -2.0}))
        zero = next(tick.at for tick in drawn.ticks if float(tick.text) == 0)
        up, down = drawn.marks
        assert up.y + up.height == pytest.approx(zero, abs=0.02)
        assert down.y == pytest.approx(zero, abs=0.02)

    def test_rows_lie_behind_each_other(self) -> None:
        drawn = rows(chart(), data_of({("a", "x"): 1.0, ("a", "y"): 3.0}))
        first, second = drawn.marks
        assert second.x == pytest.approx(first.x + first.width, abs=0.02)
        assert second.width == pytest.approx(3 * first.width, rel=0.01)

    def test_rows_lie_below_each_other(self) -> None:
        drawn = rows(chart(), data_of({(label, "x"): 1.0 for label in "abc"}))
        ends = [mark.y + mark.height for mark in drawn.marks]
        assert all(end < mark.y for end, mark in zip(ends[:-1], drawn.marks[1:], strict=True))
        assert all(mark.y < tick.at < end for mark, tick, end in zip(drawn.marks, drawn.labels, ends, strict=True))
        assert ends[-1] < drawn.height

    def test_a_line_skips_what_is_not_known(self) -> None:
        drawn = lines(chart(), data_of({("a", "x"): 0.0, ("c", "x"): 1.0, ("b", "y"): 0.5}), top=1.0)
        points = {series: path.split() for _, series, path in drawn.lines}
        assert [len(path) for path in points.values()] == [2, 1]
        assert points["x"][1].split(",")[1] == f"{drawn.top:.1f}"


class TestDrawing:
    """What the template makes of a chart."""

    def drawn(self, chart: Chart) -> str:
        source = "{% from 'chart.html' import draw with context %}{{ draw(chart) }}"
        return Renderer("/t", Views())._templates.from_string(source).render(chart=chart)

    def test_names_at_the_ends_stay_within(self) -> None:
        many = {(f"{number:02}", "x"): 1.0 for number in range(19)}
        grid = figure(self.drawn(columns(chart(), data_of(many), every=3)), "name").find("g")
        assert grid is not None
        assert [(text.text, text.attrib["text-anchor"], text.attrib.get("class")) for text in grid.iter("text")] == [
            ("00", "start", None),
            ("03", "middle", "more"),
            ("06", "middle", "more"),
            ("09", "middle", None),
            ("12", "middle", "more"),
            ("15", "middle", "more"),
            ("18", "end", None),
        ]

    def test_numbers_of_lying_bars_stand_below_them_and_names_beside(self) -> None:
        html = self.drawn(rows(chart(), data_of({("a", "x"): 4.0, ("b", "x"): 2.0})))
        grid = figure(html, "name").find("g")
        assert grid is not None
        anchors = [(text.text, text.attrib["text-anchor"]) for text in grid.iter("text")]
        assert anchors == [
            ("0.0", "start"), ("1.0", "middle"), ("2.0", "middle"), ("3.0", "middle"), ("4.0", "end")
        ]  # fmt: skip
        axis = html.partition('<svg class="axis"')[2].partition("</svg>")[0]
        assert re.findall(r">(\w)</text>", axis) == ["a", "b"]

    def test_a_bar_leads_where_its_label_does(self) -> None:
        data = data_of({("a", "OPEN"): 1.0, ("b", "OPEN"): 2.0})
        linked = Data(data.labels, data.series, data.values, data.text, data.short, {"a": "/there"}, {"a": "First"})
        svg = figure(self.drawn(columns(chart(), linked)), "name")
        assert [(link.attrib["href"], link.attrib["aria-label"]) for link in svg.iter("a")] == [("/there", "First, Open: 1.0")]
        assert [mark.findtext("title") for mark in svg.iter("rect")] == ["First, Open: 1.0", "b, Open: 2.0"]

    def test_of_nothing_says_so(self) -> None:
        html = self.drawn(chart())
        assert ("Nothing to draw" in html, "<svg" in html) == (True, False)


class TestToThePixel:
    """A whole chart of each kind, as it was looked at and found good: whoever changes a measure looks again."""

    VALUES: ClassVar = {("a", "x"): 3.0, ("a", "y"): -1.0, ("b", "x"): 5.0, ("b", "y"): 2.0}

    def test_of_standing_bars(self) -> None:
        drawn = columns(chart(), data_of(self.VALUES))
        assert (drawn.height, drawn.left, drawn.top, drawn.bottom, drawn.right_width) == (240, 56, 12, 212, 132)
        assert boxes(drawn) == [(5, 112, 40, 60), (5, 172, 40, 20), (55, 72, 40, 100), (55, 32, 40, 40)]
        assert places(drawn.ticks) == [(212, "-2.0"), (172, "0.0"), (132, "2.0"), (92, "4.0"), (52, "6.0"), (12, "8.0")]
        assert places(drawn.labels) == [(25, "a"), (75, "b")]
        assert drawn.rows == [("a", ["3.0", "-1.0"]), ("b", ["5.0", "2.0"])]
        assert drawn.legend == [("tone-0", "x"), ("tone-0", "y")]
        assert not drawn.is_lying

    def test_of_lying_bars(self) -> None:
        drawn = rows(chart(), data_of(self.VALUES))
        assert (drawn.height, drawn.left, drawn.top, drawn.bottom) == (96, 128, 12, 68)
        assert boxes(drawn) == [(20, 16, 30, 20), (10, 16, 10, 20), (20, 44, 50, 20), (70, 44, 20, 20)]
        assert places(drawn.ticks) == [(0, "-2.0"), (20, "0.0"), (40, "2.0"), (60, "4.0"), (80, "6.0"), (100, "8.0")]
        assert places(drawn.labels) == [(26, "a"), (54, "b")]
        assert drawn.is_lying

    def test_of_lines(self) -> None:
        values = {("a", "x"): 0.2, ("b", "x"): 0.6, ("b", "y"): 0.62, ("c", "x"): 0.5, ("c", "y"): 0.5}
        drawn = lines(chart(), data_of(values), top=1.0, every=2)
        points = {"x": "0.00,172.0 50.00,92.0 100.00,112.0", "y": "50.00,88.0 100.00,112.0"}
        assert drawn.lines == [("tone-0", series, path) for series, path in points.items()]
        assert boxes(drawn) == [(100, 112, 0, 0)] * 2
        assert all(mark.is_point for mark in drawn.marks)
        assert [(end.at, end.from_y, end.text) for end in drawn.ends] == [(112, 112, "x"), (127, 112, "y")]
        assert places(drawn.labels) == [(0, "a"), (100, "c")]

    def test_of_names_at_the_lower_end(self) -> None:
        drawn = lines(chart(), data_of({("a", name): 0.0 for name in "xyz"}), top=1.0)
        assert [(end.at, end.from_y) for end in drawn.ends] == [(189.5, 212), (204.5, 212), (219.5, 212)]


def boxes(drawn: Chart) -> list[tuple[float, float, float, float]]:
    return [(mark.x, mark.y, mark.width, mark.height) for mark in drawn.marks]


def places(ticks: list[Tick]) -> list[tuple[float, str]]:
    return [(round(tick.at, 6), tick.text) for tick in ticks]
