"""Templates and how values read in them. Whatever is stored is text here: all is escaped, and no page has a script."""

import json
import re
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, cast
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import HTMLResponse

from derwin_db.studio.diffs import diff_lines
from derwin_db.studio.views import View, Views, label_of

_ANY: TypeAdapter[Any] = TypeAdapter(Any, config={"ser_json_bytes": "hex"})
_STEP = 1024
_LONGEST = 160
"""Characters of a text in a cell: a row's own page has all of it."""

_KEPT = frozenset({"ERP", "CRM", "GDPR", "HIPAA", "SOC2", "SOX", "PCI_DSS", "PR", "API", "HAR", "E2E", "WCAG"})
"""Abbreviations, which are written in capitals."""

_MEMBER = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*", re.ASCII)


class Renderer:
    """The templates of one app: it knows the path that all its pages lie under."""

    def __init__(self, base: str, views: Views, *, takes_sql: bool = False) -> None:
        self._base = base
        self._templates = Environment(
            loader=PackageLoader("derwin_db.studio"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            when=when,
            money=money,
            size=size,
            number=number,
            aligned=aligned,
            counted=counted,
            as_json=as_json,
            is_json=is_json,
            fits=fits,
            is_web=is_web,
            is_member=lambda value: isinstance(value, Enum),
            is_members=lambda value: isinstance(value, list) and bool(value) and all(isinstance(one, Enum) for one in value),
            plain=plain,
            words=words,
            short=short,
            label=label_of,
            diff_lines=diff_lines,
        )
        self._templates.globals.update(
            url=self.url, takes_sql=takes_sql, all_views=views.all, view_of=views.of, digits_of=digits_of
        )

    def url(self, path: str = "", pairs: Iterable[tuple[str, str]] = (), **query: object) -> str:
        """Return the address of a page; what is None or empty is left out of the query."""
        given = [*pairs, *((name, str(value)) for name, value in query.items() if value not in (None, ""))]
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


def when(value: datetime) -> Markup:
    """Return a moment to the minute in UTC; the element has it to the microsecond."""
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


def number(value: float | Decimal) -> str:
    """Return a number with its thousands apart, and no zeros behind the point.

    Of a float three digits behind the point, or the first three of one that would read as 0; of any other number all.
    """
    if isinstance(value, float) and 0 < abs(value) < 0.0005:
        return f"{value:.3g}"
    text = f"{value:,f}" if isinstance(value, Decimal) else f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def size(value: int) -> str:
    """Return a length in bytes, in the unit that reads best."""
    amount, unit = float(value), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < _STEP:
            break
        amount, unit = amount / _STEP, larger
    return f"{number(round(amount, 1))} {unit}"


def jsonable(value: Any) -> Any:
    """Return what stands for a value in JSON; of bytes, their hexadecimal digits."""
    return _ANY.dump_python(value, mode="json", by_alias=True, fallback=str)


def as_json(value: Any, indent: int | None = 2) -> str:
    """Return a value as the text of its JSON."""
    return json.dumps(jsonable(value), indent=indent, ensure_ascii=False)


def is_json(value: object) -> bool:
    """Tell whether a value is of a JSON column, and no text, number or truth."""
    return isinstance(value, dict | list | BaseModel)


def fits(row: Any, name: str) -> bool:
    """Tell whether a JSON column has the shape of its model: what SQL by hand stored in another one is read as it is."""
    try:
        row.__table__.c[name].type.adapter.validate_python(getattr(row, name))
    except ValidationError:
        return False
    return True


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
    if isinstance(value, int | float | Decimal):
        return number(value)
    if isinstance(value, list) and all(isinstance(item, Enum) for item in value):
        return ", ".join(words(item.value) for item in value)
    if isinstance(value, bytes):
        return value.hex()
    return as_json(value, indent=None) if is_json(value) else str(value)


def words(value: str) -> str:
    """Return a member of an enumeration as one reads it: `FIX_PROPOSED` is "Fix proposed". Any other text stays as it is."""
    if not _MEMBER.fullmatch(value) or value in _KEPT:
        return value.replace("_", " ") if value in _KEPT else value
    text = " ".join(part if part in _KEPT else part.lower() for part in value.split("_"))
    return text[:1].upper() + text[1:]


def short(value: str | Markup, longest: int = _LONGEST) -> str | Markup:
    """Return a text, cut where it is too long for a cell."""
    if isinstance(value, Markup) or len(value) <= longest:
        return value
    return f"{value[: longest - 1].rstrip()}\u2026"


def counted(count: int, one: str) -> str:
    """Return a number and what it counts, in the plural where it is not one."""
    many = f"{one[:-1]}ies" if one.endswith("y") else f"{one}es" if one.endswith("x") else f"{one}s"
    return f"{number(count)} {one if count == 1 else many}"


def digits_of(view: View, columns: Iterable[str], rows: Iterable[Any]) -> dict[str, int]:
    """Return how many digits behind the point the numbers of a column take, so that points stand under each other."""
    found: dict[str, int] = {}
    for name in columns:
        values = [getattr(row, name) for row in rows]
        given = [value for value in values if isinstance(value, float | Decimal)]
        if view.is_numeric(name) and given:
            texts = map(money if view.is_money(name) else number, cast("Iterable[Any]", given))
            found[name] = max(len(text.partition(".")[2]) for text in texts)
    return found


def aligned(value: float | Decimal, digits: int) -> str:
    """Return a number with so many digits behind the point."""
    return f"{value:,.{digits}f}"
