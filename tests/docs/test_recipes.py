"""CONTRIBUTING.md says how a table, a filter, a column, an error, a command and a policy are added: each way is gone here."""

from pathlib import Path

import pytest

from derwin_db.testing import TestServer
from derwin_db.testing.server import url_of
from tests.docs.recipes import changed, copy_checkout, follow, recipes

RECIPES = recipes()


@pytest.fixture
def environment(server: TestServer) -> dict[str, str]:
    """A database at the head of this checkout, and the server for the tests that a recipe runs."""
    database = server.migrated()
    return {
        "DATABASE_URL": url_of(database.service),
        "ADMIN_URL": url_of(database.operator),
        "DIRECT_URL": url_of(database.owner),
        "DERWIN_TEST_DATABASE_URL": url_of(server.owner),
        "DERWIN_TEST_POOLER": "",
    }


class TestRecipes:
    def test_are_six(self) -> None:
        assert list(RECIPES) == ["a table", "a filter", "a column", "an error", "a command", "a policy"]

    @pytest.mark.parametrize("name", RECIPES)
    def test_end_with_tests_that_pass(self, name: str) -> None:
        last = RECIPES[name][-1]
        assert last.language == "console"
        assert ".venv/bin/pytest" in last.text

    @pytest.mark.parametrize("name", RECIPES)
    def test_fit_the_files_of_today(self, name: str, tmp_path: Path) -> None:
        """Every place that a recipe changes is there, and what it leaves is Python. The long run follows its commands too."""
        copy_checkout(tmp_path)
        steps = [step for step in RECIPES[name] if step.language != "console" and "*" not in step.path]  # a command makes it
        for step in steps:
            follow(step, tmp_path, {})
        changed_files = {path for step in steps for path in tmp_path.glob(step.path)}
        assert changed_files
        for path in changed_files:
            if path.suffix == ".py":
                compile(path.read_text(), path, "exec")

    @pytest.mark.long
    @pytest.mark.timeout(1200)
    @pytest.mark.parametrize("name", RECIPES)
    def test_work_step_by_step(self, name: str, environment: dict[str, str], tmp_path: Path) -> None:
        copy_checkout(tmp_path)
        for step in RECIPES[name]:
            follow(step, tmp_path, environment)


class TestChanged:
    TEXT = "one\ntwo\nthree\n"

    def test_adds_behind_the_line_above(self) -> None:
        assert changed(self.TEXT, " one\n+and\n@@\n three\n+four\n") == "one\nand\ntwo\nthree\nfour\n"

    def test_adds_in_front_of_the_first_line_of_a_place(self) -> None:
        assert changed(self.TEXT, "+zero\n one\n@@\n+and\n three\n") == "zero\none\ntwo\nand\nthree\n"

    def test_takes_away(self) -> None:
        assert changed(self.TEXT, "-two\n+zwei\n") == "one\nzwei\nthree\n"

    @pytest.mark.parametrize("diff", [" four\n", "-four\n", " two\n one\n", "+four\n"])
    def test_does_not_guess_where_a_line_is(self, diff: str) -> None:
        with pytest.raises(AssertionError, match=r"no such line|by no line"):
            changed(self.TEXT, diff)
