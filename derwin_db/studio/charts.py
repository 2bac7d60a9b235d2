"""Charts as geometry: bars, rows and lines on a plane with an axis. `templates/chart.html` draws them as SVG.

Across, a place is a share of the plane in percent; down, it is in pixels. So a chart is as wide as there is room, and its
letters and lines have one size at every width.

They are drawn here and not by a plotting library because they stand in the page, in its colours and fonts: under a policy that
allows no script and no inline style. pygal needs 40-60 ms and 50 kB for one of them, and both would have to be taken out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

HEIGHT = 240
_LEFT, _TOP, _BOTTOM = 56, 12, 28
_ROW, _ROW_LEFT, _GAP = 28, 128, 8
_ENDS, _LETTER = 132, 15
"""Width of the labels of lines, and the height that one of them takes."""

_TICKS = 5

Amount = Any
"""An int, a float or a Decimal. Only places on the plane are floats."""


@dataclass(frozen=True)
class Mark:
    """One bar, or one point of a line, and the number that it stands for. `x` and `width` are in percent."""

    x: float
    y: float
    width: float
    height: float
    tone: str
    series: str
    label: str
    value: Amount
    text: str
    href: str | None = None
    is_point: bool = False


@dataclass(frozen=True)
class Tick:
    """One line of the axis of values, or one label of the other axis."""

    at: float
    text: str


@dataclass(frozen=True)
class End:
    """The name of a line beside its last point, moved where another one stands."""

    at: float
    from_y: float
    tone: str
    text: str


@dataclass
class Chart:
    """What is drawn, and the same numbers as a table."""

    name: str
    title: str
    description: str
    corner: str
    """Heading of the table's first column."""
    height: int = HEIGHT
    left: int = _LEFT
    """Width of the axis beside the plane."""
    is_broad: bool = False
    """Whether it takes all the room there is."""
    top: int = _TOP
    is_lying: bool = False
    """Whether the values go to the right."""
    marks: list[Mark] = field(default_factory=list)
    lines: list[tuple[str, str, str]] = field(default_factory=list)
    """(tone, series, points)"""
    ends: list[End] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)
    labels: list[Tick] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)
    """(tone, series)"""
    rows: list[tuple[str, list[str]]] = field(default_factory=list)

    right_width: ClassVar[int] = _ENDS

    @property
    def bottom(self) -> int:
        """Where the plane ends."""
        return self.height - _BOTTOM


@dataclass(frozen=True)
class Data:
    """What a chart is made of: a number for some of the pairs of label and series."""

    labels: Sequence[str]
    series: Mapping[str, str]
    """Each series and its tone: the class that colours it."""
    values: Mapping[tuple[str, str], Amount]
    text: Callable[[Amount], str]
    short: Callable[[Sequence[float]], Sequence[str]]
    """How the axis says its numbers."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Where each label leads."""
    names: Mapping[str, str] = field(default_factory=dict)
    """How labels read that are not names themselves."""
    on_axis: Mapping[str, str] = field(default_factory=dict)
    """How labels read below the chart, where there is less room."""
    counts: bool = False
    """Whether values are whole: then no line of the axis stands between two of them."""

    def name(self, label: str) -> str:
        """Return how a label reads."""
        return self.names.get(label, label)


def columns(chart: Chart, data: Data, *, every: int = 1) -> Chart:
    """Draw standing bars, the series on top of each other, and name every so many of them."""
    place = _axis(chart, data, _stacks(data), chart.bottom, chart.top)
    step = 100 / max(len(data.labels), 1)
    for number, label in enumerate(data.labels):
        x = number * step
        if number % every == 0:
            chart.labels.append(Tick(x + step / 2, data.on_axis.get(label) or data.name(label)))
        for series, low, high in _pile(data, label):
            top, bottom = sorted((place(low), place(high)))
            _mark(chart, data, label, series, (x + step * 0.1, top, step * 0.8, bottom - top))
    return chart


def rows(chart: Chart, data: Data) -> Chart:
    """Draw lying bars, the series behind each other: for labels that are words."""
    chart.is_lying, chart.left = True, _ROW_LEFT
    chart.height = _TOP + _ROW * len(data.labels) + _BOTTOM
    place = _axis(chart, data, _stacks(data), 0, 100)
    for number, label in enumerate(data.labels):
        y = chart.top + number * _ROW
        chart.labels.append(Tick(y + _ROW / 2, data.name(label)))
        for series, low, high in _pile(data, label):
            start, end = sorted((place(low), place(high)))
            _mark(chart, data, label, series, (start, y + _GAP / 2, end - start, _ROW - _GAP))
    return chart


def lines(chart: Chart, data: Data, *, every: int = 1, top: float) -> Chart:
    """Draw a line for each series from 0 to `top`; its last point is marked, and its name has room beside it."""
    chart.height = max(chart.height, _LETTER * len(data.series) + _BOTTOM)
    place = _axis(chart, data, [top], chart.bottom, chart.top)
    step = 100 / max(len(data.labels) - 1, 1)
    for number, label in enumerate(data.labels):
        if number % every == 0:
            chart.labels.append(Tick(number * step, data.name(label)))
    for series, tone in data.series.items():
        known = [(n, label) for n, label in enumerate(data.labels) if (label, series) in data.values]
        points = [(n * step, place(data.values[label, series])) for n, label in known]
        chart.lines.append((tone, series, " ".join(f"{x:.2f},{y:.1f}" for x, y in points)))
        for (_, label), (x, y) in list(zip(known, points, strict=True))[-1:]:
            _mark(chart, data, label, series, (x, y, 0, 0), is_point=True)
    chart.ends = _ends(chart)
    return chart


def _ends(chart: Chart) -> list[End]:
    """Return the names of the lines, from the top down, none upon another one."""
    last = sorted((mark.y, mark.tone, mark.series) for mark in chart.marks)
    room = chart.bottom + _LETTER / 2
    found: list[End] = []
    for number, (y, tone, series) in enumerate(last):
        above = found[-1].at + _LETTER if found else 0.0
        below = room - (len(last) - 1 - number) * _LETTER
        found.append(End(max(above, min(y, below)), y, tone, series))
    return found


def nice_ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return about five round numbers from at or below `low` to at or above `high`; of counts whole ones alone."""
    high = high if high > low else low + 1
    rough = max((high - low) / _TICKS, 1.0 if whole else 0.0)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(
        power * factor for factor in ((1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)) if power * factor >= rough * 0.999
    )
    first, last = math.floor(round(low / step, 9)), math.ceil(round(high / step, 9))
    return [number * step for number in range(first, last + 1)]


def _axis(chart: Chart, data: Data, extremes: Sequence[float], start: float, end: float) -> Callable[[Amount], float]:
    """Draw the lines of the values, write the table, and return where a value lies between start and end."""
    ends = [0.0, *extremes]
    found = nice_ticks(min(ends), max(ends), whole=data.counts)
    low, high = found[0], found[-1]

    def place(value: Amount) -> float:
        return start + (float(value) - low) / (high - low) * (end - start)

    chart.ticks = [Tick(place(tick), text) for tick, text in zip(found, data.short(found), strict=True)]
    chart.legend = [(tone, series) for series, tone in data.series.items()]
    for label in data.labels:
        cells = [data.values.get((label, series)) for series in data.series]
        chart.rows.append((data.name(label), ["" if cell is None else data.text(cell) for cell in cells]))
    return place


def _pile(data: Data, label: str) -> list[tuple[str, Amount, Amount]]:
    """Return (series, from, to): what is above 0 goes up from it, what is below goes down."""
    above: Amount = 0
    below: Amount = 0
    pile = []
    for series in data.series:
        value = data.values.get((label, series))
        if not value:
            continue
        if value > 0:
            pile.append((series, above, above + value))
            above += value
        else:
            pile.append((series, below, below + value))
            below += value
    return pile


def _stacks(data: Data) -> list[float]:
    return [float(end) for label in data.labels for _, _, end in _pile(data, label)]


def _mark(
    chart: Chart, data: Data, label: str, series: str, box: tuple[float, float, float, float], *, is_point: bool = False
) -> None:
    value = data.values[label, series]
    x, y, width, height = (round(number, 2) for number in box)
    chart.marks.append(
        Mark(
            x,
            y,
            width,
            height,
            data.series[series],
            series,
            data.name(label),
            value,
            data.text(value),
            data.links.get(label),
            is_point,
        )
    )
