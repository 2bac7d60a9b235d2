"""The pages of reference say all that there is: a page for each error and each repository, every verb, every command."""

import re

import pytest

from derwin_db import repos
from derwin_db.cli import COMMANDS
from derwin_db.errors import DerwinError
from derwin_db.fastapi.problem import status_of
from tests.contract.verbs import public_verbs
from tests.docs.__main__ import PAGES, REFERENCE, error_kinds
from tests.docs.blocks import texts

KINDS = [kind for kind, _ in error_kinds()]


class TestGenerated:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REFERENCE)))
    def test_is_current(self, page) -> None:
        assert PAGES[page](page.read_text()) == page.read_text(), "make pages"


class TestErrors:
    def test_have_a_page_each(self) -> None:
        pages = {page.stem for page in (REFERENCE / "errors").glob("*.md")}
        assert pages == {"index", *(kind.code for kind in KINDS)}
        assert len({kind.code for kind in KINDS}) == len(KINDS)

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
    def test_say_what_they_are_and_what_to_do(self, kind: type[DerwinError]) -> None:
        text = (REFERENCE / "errors" / f"{kind.code}.md").read_text()
        assert text.startswith(f"# {kind.code}\n\n`{kind.__name__}`")
        assert f"HTTP status {status_of(kind())}." in text
        assert kind is DerwinError or f"[`{kind.__mro__[1].__name__}`]" in text
        assert "\n\n**What to do.** " in text

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
    def test_lead_to_their_page(self, kind: type[DerwinError]) -> None:
        assert kind().__notes__ == [f"`derwin-db explain {kind.code}` says what to do."]


class TestCommands:
    def test_are_all_in_the_table(self) -> None:
        rows = re.findall(r"^\| (`[^|]+) \|", (REFERENCE / "commands.md").read_text(), re.MULTILINE)
        named = {word.split()[0] for row in rows for word in re.findall(r"`([^`]+)`", row)}
        assert named == set(COMMANDS)


class TestRepositories:
    @pytest.mark.parametrize("name", repos.__all__)
    def test_have_a_page_with_an_example_of_each_verb(self, name: str) -> None:
        page = REFERENCE / "repositories" / f"{name}.md"
        assert f"::: derwin_db.repos.{name}.{type(getattr(repos, name)).__name__}" in page.read_text()
        examples = "\n".join(texts(page, "python"))
        verbs = {verb for verb in public_verbs() if verb.startswith(f"{name}.")}
        shown = {f"{name}.{verb}" for verb in re.findall(rf"repos\.{name}\.(\w+)\(", examples)}
        shared = {f"{name}.{verb}" for verb in ("get", "find", "get_many", "exists", "list", "stream", "count")}
        assert verbs - shared <= shown
        assert shown <= verbs
