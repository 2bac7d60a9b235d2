"""The table of what each verb costs, from the counts that tests prove. `python -m tests.contract.round_trips` writes it."""

from pathlib import Path

from tests.contract.verbs import ADMIN_CALLS, PROJECT_CALLS, Call

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
_BEGIN, _END = "<!-- round trips, generated -->\n", "<!-- end of round trips -->\n"
_SHARED = "| `get`, `find`, `get_many`, `exists`, `list`, `count` of every table | 1 | 1 | 4 |"


def _row(call: Call, *, is_admin: bool) -> str:
    verb = f"`{call.verb}`{', ' + call.case if call.case else ''}{' (admin)' if is_admin else ''}"
    direct = call.statements + (0 if call.reads and not is_admin else 2)
    return f"| {verb} | {call.statements} | {direct} | {2 * call.statements + 2} |"


def table() -> str:
    """Return the table: statements, round trips of a unit of this call alone, and the same behind a transaction pooler."""
    rows = [_row(call, is_admin=False) for call in PROJECT_CALLS] + [_row(call, is_admin=True) for call in ADMIN_CALLS]
    head = "| verb | statements | round trips | behind a pooler |\n| --- | --- | --- | --- |\n"
    return head + "\n".join([_SHARED, *dict.fromkeys(rows)]) + "\n"


def _parts(page: str) -> tuple[str, str, str]:
    before, begin, rest = page.partition(_BEGIN)
    inside, end, after = rest.partition(_END)
    assert begin, "the page has no place for the table"
    assert end, "the place for the table does not end"
    return before + begin, inside, end + after


def published(page: str) -> str:
    """Return the table of the page."""
    return _parts(page)[1]


def main() -> None:
    """Write the table into the page."""
    before, _, after = _parts(PAGE.read_text())
    PAGE.write_text(before + table() + after)


if __name__ == "__main__":
    main()
