"""Fence 1 tried directly."""

import pytest

from tests.isolation.guarding import guard_scripts


class TestCheckScope:
    @pytest.mark.parametrize("script", list(guard_scripts()), ids=lambda script: script.name)
    async def test(self, script):
        await script.run(None)
