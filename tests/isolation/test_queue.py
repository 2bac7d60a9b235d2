"""The queue over all projects: what SQL in a session gets of it, and what a worker is told."""

import pytest

from tests.isolation import damage
from tests.isolation.fences import changed_arena
from tests.isolation.mutations import first_failure
from tests.isolation.queueing import queue_scripts

SCRIPTS = list(queue_scripts())


class TestQueue:
    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
    async def test(self, arena, script):
        await script.run(arena)

    async def test_a_check_that_lets_everybody_ask_is_noticed(self, server, ground):
        """The doctor names it, and SQL in a session gets through."""
        one = next(each for each in damage.code_damage() if each.name == "derwin_check_asker() lets everybody ask")
        tried = [script for script in SCRIPTS if script.name.startswith("asking")]
        async with changed_arena(server, ground, *one.statements) as arena:
            assert await first_failure(arena, tried) is not None
