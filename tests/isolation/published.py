"""What docs/isolation.md publishes: the outcome of every method in every state, and how many attacks there are of each family.

`python -m tests.isolation --write` writes it, out of what the long run saw; a test fails where it is no longer so.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.isolation.families import FAMILIES
from tests.isolation.states import STATES, Case, Verdict

PAGE = Path(__file__).parents[2] / "docs" / "isolation.md"

OWN, NOTHING = "own", "nothing"

Outcomes = Mapping[tuple[str, str], Counter[str]]
"""By method and state: which outcomes there were, and how often."""


def outcome_of(verdict: Verdict) -> str:
    """Return the outcome in one word: the error's name, or whether rows of the caller's own project came back, or nothing."""
    got = verdict.outcome
    if not verdict.holds:
        return "NOT HELD"
    if isinstance(got, BaseException):
        return type(got).__name__
    if isinstance(got, tuple):  # with what a callback saw
        got = got[0]
    if isinstance(got, dict):
        got = any(got.values())
    return OWN if getattr(got, "items", got) else NOTHING


def table(outcomes: Outcomes) -> str:
    """Return the table in Markdown: states whose columns are alike share one."""
    methods = sorted({method for method, _ in outcomes})
    columns: dict[tuple[str, ...], list[str]] = {}
    for state in STATES:
        columns.setdefault(tuple(_cell(outcomes[method, state]) for method in methods), []).append(state)
    heads = ["method", *(", ".join(states) for states in columns.values())]
    rows = zip((f"`{method}`" for method in methods), *columns, strict=True)
    return "\n".join(_row(row) for row in [heads, ["---"] * len(heads), *rows])


def numbers(counts: Mapping[int, int], more: Mapping[str, int]) -> str:
    """Return the table of families in Markdown, and the other runs below."""
    families = [(f"{number}. {FAMILIES[number]}", str(counts[number])) for number in sorted(FAMILIES)]
    rows = [("attack", "cases"), ("---", "---:"), *families, *((name, str(count)) for name, count in more.items())]
    return "\n".join(_row(row) for row in rows)


def counts_of(attacks: Sequence[Any], *, checks: int, damage: int) -> Counter[int]:
    """Return how many attacks there are of each family. Each call by SQL or API is an attack on the logs (10) too."""
    counts = Counter(attack.family for attack in attacks)
    counts[10] += sum(isinstance(attack, Case) for attack in attacks)
    counts[23] += checks
    counts[24] += damage
    return counts


def block(name: str) -> str:
    """Return what stands between the two comments of this name."""
    found = re.search(_between(name), PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return found[2].strip("\n") if found else ""


def write(name: str, text: str) -> None:
    """Put the text between the two comments of this name."""
    page = PAGE.read_text(encoding="utf-8")
    made = re.sub(_between(name), lambda found: f"{found[1]}\n\n{text}\n\n{found[3]}", page, flags=re.DOTALL)
    PAGE.write_text(made, encoding="utf-8")


def read_table() -> Outcomes:
    """Return the published table as outcomes."""
    head, _, *rows = (re.split(r" ?\| ?", line)[1:-1] for line in block("outcomes").splitlines())
    found: dict[tuple[str, str], Counter[str]] = {}
    for method, *cells in rows:
        for states, cell in zip(head[1:], cells, strict=True):
            for state in states.split(", "):
                found[method.strip("`"), state] = Counter({word: int(n) for word, n in re.findall(r"`?(\w+)`? (\d+)", cell)})
    return found


def _between(name: str) -> str:
    return rf"(<!-- {name}: [^>]*-->)(.*?)(<!-- end of {name} -->)"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(outcomes: Counter[str]) -> str:
    words = sorted(outcomes.items(), key=lambda item: (item[0] in (OWN, NOTHING), item[0]))
    return ", ".join(f"{word if word in (OWN, NOTHING) else f'`{word}`'} {count}" for word, count in words)
