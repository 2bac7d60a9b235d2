"""Kinds of arguments that several commands take: times, lengths of time, members of an enumeration."""

import re
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

import click

from derwin_db.cli.output import Option

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


_LONGEST_WAIT = 1_000_000


class Moment(click.ParamType[datetime]):
    """A time in ISO 8601 with its offset, or a day, which begins in UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time."""
        try:
            if re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
                return datetime.combine(date.fromisoformat(value), datetime.min.time(), UTC)
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fail("a day (2026-11-01) or a time with its offset (2026-11-01T08:00Z) is wanted.", param, ctx)
        return moment


class Length(click.ParamType[timedelta]):
    """A length of time: 90s, 15m, 2h, 1d."""

    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the length."""
        found = re.fullmatch(r"(\d{1,9})([smhd])", value, re.ASCII)
        if found is None:
            self.fail("a number with its unit is wanted: 90s, 15m, 2h or 1d.", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


class Patience(click.ParamType[float]):
    """How many seconds somebody waits: none, or up to a million."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = -1
        if not 0 <= seconds <= _LONGEST_WAIT:  # nor what is no number
            self.fail("a number of seconds is wanted, up to a million.", param, ctx)
        return seconds


def member_of(enum: type[StrEnum]) -> click.Choice[str]:
    """Return the kind of argument that takes the names of an enumeration, in any case."""
    return click.Choice([member.value for member in enum], case_sensitive=False)


MOMENT: Moment = Moment()
LENGTH: Length = Length()
PATIENCE: Patience = Patience()

limit_option: Option = click.option(
    "--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="Most rows of one page."
)
cursor_option: Option = click.option("--cursor", help="Go on where a page ended: the cursor that it printed.")
