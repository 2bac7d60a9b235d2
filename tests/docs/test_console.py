"""The console blocks of the documentation run too, but for those that say why they can't: `<!-- not run: why -->`."""

import re
import shlex
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT, Block, blocks
from tests.forking import derwin_db

CONSOLE = [block for page in PAGES for block in blocks(page, "console")]
RUN = [block for block in CONSOLE if block.reason is None]
NOT_RUN = [block for block in CONSOLE if block.reason is not None]


def _commands(block: Block) -> list[list[str]]:
    return [shlex.split(line[2:], comments=True) for line in block.text.splitlines() if line.startswith("$ ")]


class TestConsole:
    @pytest.mark.parametrize("block", RUN, ids=str)
    def test_runs_as_written(self, block: Block, environment: dict[str, str], tmp_path: Path) -> None:
        for program, *arguments in _commands(block):
            assert program == "derwin-db"
            result = derwin_db(*arguments, environment=environment, cwd=tmp_path)
            assert result.returncode == 0, result.stdout + result.stderr

    @pytest.mark.parametrize("block", NOT_RUN, ids=str)
    def test_says_why_it_is_not_run_and_what_runs_instead(self, block: Block) -> None:
        assert block.reason is not None
        named = re.findall(r"tests/[\w/]+\.py|Makefile|compose\.yaml", block.reason)
        assert named
        assert [name for name in named if not (ROOT / name).exists()] == []

    def test_runs_unless_this_machine_can_not_run_it(self) -> None:
        """Of those that are not run there are so many, and each new one is a decision."""
        assert {block.page.stem for block in RUN} == {"operate", "pager", "supabase", "transfer", "workers"}
        assert sum(len(_commands(block)) for block in RUN) >= 23
        assert len(NOT_RUN) <= 14
