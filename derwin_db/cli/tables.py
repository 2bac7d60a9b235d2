"""Rows as a table that a person reads, also through a pipe: no frames, no colours, each row of a pipe on one line."""

import io
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from derwin_db.observe.text import one_line

_WIDEST = 100_000
"""Columns of a pipe: nothing is folded there."""


def table(rows: Sequence[Mapping[str, Any]], *, empty: str) -> str:
    """Return the rows below the names of their columns. Numbers and amounts stand to the right.

    `empty` is the sentence for no rows. Whatever a value holds, it stays in its cell.
    """
    if not rows:
        return empty
    grid = Table(box=None, pad_edge=False, header_style="")
    for name, value in rows[0].items():
        is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
        grid.add_column(name.replace("_", " ").upper(), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(_cell(value)) for value in row.values()))
    return _rendered(grid)


def pairs(values: Iterable[tuple[str, Any]]) -> str:
    """Return names and values, one pair a line."""
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column()
    grid.add_column(overflow="fold")
    for name, value in values:
        grid.add_row(name, Text(_cell(value)))
    return _rendered(grid)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Decimal):
        return f"{value:,f}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}Z"
    return one_line(str(value))


def _rendered(grid: Table) -> str:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDEST
    text = io.StringIO()
    Console(file=text, width=width, color_system=None).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
