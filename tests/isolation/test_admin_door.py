"""The audit of the admin door: exactly one record for each use."""

import pytest

from derwin_db.errors import ScopeError
from tests.isolation.admin_door import admin_scripts, door_records


class TestRecord:
    @pytest.mark.parametrize("script", list(admin_scripts()), ids=lambda script: script.name)
    async def test(self, arena, script):
        await script.run(arena)

    async def test_door_that_is_never_entered_leaves_none(self, arena):
        with door_records() as records:
            arena.shared.wide.admin(reason="never entered")

        assert records == []

    @pytest.mark.parametrize("reason", [None, "", "   ", 0, "x" * 501, "a\0b", b"bytes"])
    async def test_door_without_a_reason_stays_shut(self, arena, reason):
        with door_records() as records, pytest.raises(ScopeError, match="reason"):
            arena.shared.wide.admin(reason=reason)

        assert records == []
