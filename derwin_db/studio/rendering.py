"""Templates and how values read in them. Whatever is stored is text here: all is escaped, and no page has a script."""

import json
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, cast
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import HTMLResponse

_ANY: TypeAdapter[Any] = TypeAdapter(Any)
_STEP = 1024


class Renderer:
    """The templates of one app: it knows the path that all its pages lie under."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._templates = Environment(
            loader=PackageLoader("derwin_db.studio"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            when=when, day=day, money=money, size=size, number=number, as_json=as_json, is_web=is_web, plain=plain
        )
        self._templates.globals["url"] = self.url

    def url(self, path: str = "", **query: object) -> str:
        """Return the address of a page; what is None or empty is left out of the query."""
        given = {name: str(value) for name, value in query.items() if value not in (None, "")}
        return f"{self._base}/{path}" + (f"?{urlencode(given)}" if given else "")

    def render(self, template: str, **values: object) -> str:
        """Return the filled template."""
        return self._templates.get_template(template).render(values)


def render(request: Request, template: str, *, status_code: int = 200, **values: object) -> HTMLResponse:
    """Return a page."""
    renderer = cast("Renderer", request.app.state.renderer)
    return HTMLResponse(renderer.render(template, **{"project": None, "section": "", **values}), status_code)


def url(request: Request, path: str) -> str:
    """Return the address of a page."""
    return cast("Renderer", request.app.state.renderer).url(path)


def when(value: datetime | None) -> Markup:
    """Return a moment to the minute in UTC; the element has it to the microsecond."""
    if value is None:
        return Markup("")
    return Markup('<time datetime="{}">{}</time>').format(value.isoformat(), value.strftime("%Y-%m-%d %H:%M"))


def day(value: date) -> str:
    """Return a day as on an axis."""
    return f"{value.day} {value.strftime('%b')}"


def money(value: Decimal, digits: int | None = None) -> str:
    """Return US dollars, exactly, with two digits behind the point or as many as it takes; `digits` rounds."""
    text = f"{abs(value):,.{6 if digits is None else digits}f}"
    if digits is None:
        whole, _, cents = text.partition(".")
        text = f"{whole}.{cents.rstrip('0').ljust(2, '0')}"
    return f"{'-' if value < 0 else ''}${text}"


def number(value: float) -> str:
    """Return a number with its thousands apart, and no zeros behind the point."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}".rstrip("0").rstrip(".")


def size(value: int) -> str:
    """Return a length in bytes, in the unit that reads best."""
    amount, unit = float(value), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < _STEP:
            break
        amount, unit = amount / _STEP, larger
    return f"{number(round(amount, 1))} {unit}"


def as_json(value: Any) -> str:
    """Return a value of a JSON column as indented text."""
    return json.dumps(_ANY.dump_python(value, mode="json", by_alias=True), indent=2, ensure_ascii=False)


def is_web(value: object) -> bool:
    """Tell whether a text may be a link: what else is stored as an address is shown, and leads nowhere."""
    return isinstance(value, str) and value.startswith(("https://", "http://"))


def plain(value: Any) -> str | Markup:
    """Return what a cell of a table shows."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return when(value)
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return money(value)
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, list) and all(isinstance(item, Enum) for item in value):
        return ", ".join(item.value for item in value)
    return value if isinstance(value, str) else escape(str(value))
