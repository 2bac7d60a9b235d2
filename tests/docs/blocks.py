"""The blocks of code in the README and the pages of docs/."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


class Block(NamedTuple):
    page: Path
    language: str
    text: str
    reason: str | None
    """Why it can't run here; None where it runs."""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text.splitlines()[0]}"


def blocks(page: Path, language: str) -> list[Block]:
    return [block for block in _all(page) if block.language == language]


def languages(page: Path) -> set[str]:
    return {block.language for block in _all(page)}


def _all(page: Path) -> list[Block]:
    return [Block(page, found["language"], found["text"], found["reason"]) for found in _BLOCK.finditer(page.read_text())]


def texts(page: Path, language: str) -> list[str]:
    return [block.text for block in blocks(page, language)]
