"""`make docs` ends here: links lead somewhere, all verbs and public names are described, nothing comes from another host."""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

from derwin_db import repos
from tests.contract.verbs import public_verbs
from tests.docs.blocks import ROOT

SITE = ROOT / "site"
_LOADS = {"script": "src", "img": "src", "iframe": "src", "link": "href"}
_SHOWN_ONLY = {"canonical", "alternate", "prev", "next"}
_PUBLIC = ("embedded", "fastapi", "filters", "migrations", "models", "otel", "settings", "tables", "testing", "workers")


class _Links(HTMLParser):
    """What a page links to and loads, and the anchors that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors.update(filter(None, (values.get("id"), values.get("name"))))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        elif tag in _LOADS and values.get("rel") not in _SHOWN_ONLY and values.get(_LOADS[tag]):
            self.loads.append(values[_LOADS[tag]])


def _read(page: Path) -> _Links:
    links = _Links()
    links.feed(page.read_text())
    return links


def dead_ends(site: Path) -> Iterator[str]:
    """Yield what is wrong: a link within the site that leads nowhere, and what is loaded from elsewhere."""
    pages = {page: _read(page) for page in sorted(site.rglob("*.html")) if page.name != "404.html"}
    for page, found in pages.items():
        name = page.relative_to(site)
        yield from (f"{name} loads {url}" for url in found.loads if urlsplit(url).netloc)
        for url in (*found.links, *found.loads):
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            is_lost = target in pages and parts.fragment and unquote(parts.fragment) not in pages[target].anchors
            if not target.exists() or is_lost:
                yield f"{name} leads to {url}"


def undescribed(site: Path) -> Iterator[str]:
    """Yield the verbs of repositories that their page does not describe."""
    for name in repos.__all__:
        kind = type(getattr(repos, name))
        anchors = _read(site / "reference" / "repositories" / name / "index.html").anchors
        verbs = {verb.partition(".")[2] for verb in public_verbs() if verb.startswith(f"{name}.")}
        yield from (
            f"{name} does not describe {verb}"
            for verb in sorted(verbs)
            if f"{kind.__module__}.{kind.__name__}.{verb}" not in anchors
        )


def left_out(site: Path) -> Iterator[str]:
    """Yield the names that a module exports and no page of the reference describes."""
    anchors = {anchor for page in (site / "reference").rglob("*.html") for anchor in _read(page).anchors}
    described = {anchor.rpartition(".")[2] for anchor in anchors if anchor.startswith("derwin_db.")}
    for module in _PUBLIC:
        names = import_module(f"derwin_db.{module}").__all__
        yield from (f"no page describes derwin_db.{module}.{name}" for name in names if name not in described)


if __name__ == "__main__":
    wrong = [*dead_ends(SITE), *undescribed(SITE), *left_out(SITE)]
    print("\n".join(wrong) or f"{len(list(SITE.rglob('*.html')))} pages, no dead link, nothing from another host")
    sys.exit(bool(wrong))
