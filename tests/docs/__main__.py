"""`make pages`: write what the pages of docs/ show of the code. `test_reference.py` fails where one of them is not current."""

import re
from collections.abc import Iterator

from derwin_db.deploy.erd import diagram
from derwin_db.errors import DerwinError
from derwin_db.fastapi.problem import status_of
from tests.docs.blocks import ROOT

REFERENCE = ROOT / "docs" / "reference"
ERD = REFERENCE / "erd.md"
ERRORS = REFERENCE / "errors" / "index.md"
_BEGIN = """%%{init: {"er": {"useMaxWidth": false}}}%%
erDiagram
    direction LR
"""
"""How the page begins the diagram: in its own size, which the page scrolls, since its letters would shrink with it."""


def error_kinds(kind: type[DerwinError] = DerwinError, depth: int = 0) -> Iterator[tuple[type[DerwinError], int]]:
    """Yield every error with its depth in the tree, each behind the one that it is a kind of."""
    yield kind, depth
    for child in kind.__subclasses__():
        yield from error_kinds(child, depth + 1)


def with_diagram(text: str) -> str:
    """Return the page of tables with the diagram that the models give."""
    shown = _BEGIN + diagram().removeprefix("erDiagram\n")
    return re.sub(r"```mermaid\n.*?```", lambda _: f"```mermaid\n{shown}```", text, flags=re.DOTALL)


def with_errors(text: str) -> str:
    """Return the page of errors with a row for each class."""
    rows = [
        f"| {'&emsp;' * depth}`{kind.__name__}` | [{kind.code}]({kind.code}.md) | {status_of(kind())} |"
        for kind, depth in error_kinds()
    ]
    table = "\n".join(["| class | code, and what to do | HTTP status |", "|---|---|---|", *rows])
    begin, end = "<!-- errors: make pages -->", "<!-- end of errors -->"
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n\n{table}\n\n{end}", text, flags=re.DOTALL)


PAGES = {ERD: with_diagram, ERRORS: with_errors}

if __name__ == "__main__":
    for page, current in PAGES.items():
        page.write_text(current(page.read_text()))
