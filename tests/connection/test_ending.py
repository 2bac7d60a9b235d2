"""What ends processes that nobody waits for any more: when it gives up, and when a key is refused."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from derwin_db.connection import ending
from derwin_db.connection.driver import ServerProcess
from derwin_db.connection.ending import Ender
from derwin_db.isolation.keys import KeyRing
from derwin_db.isolation.seal import Seal
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase

OLD, NEW = Seal(b"o" * 64, b"o" * 64), Seal(b"n" * 64, b"n" * 64)


async def test_a_server_that_can_not_be_asked_is_given_up_and_said_so(
    migrated: TestDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refused(*_: Any, **__: Any) -> Any:
        raise ConnectionRefusedError

    monkeypatch.setattr(ending, "connect_steadily", refused)
    monkeypatch.setattr(ending, "_ENDING_SECONDS", 0.03)
    monkeypatch.setattr(ending, "_ENDING_PAUSE", 0.01)
    ender = Ender(migrated.service, Settings(_env_file=None), None, "derwin_app")
    ender.end(ServerProcess(1, datetime.now(UTC)))
    await ender.close()
    assert "1 statements that were given up may run on: the server could not be asked" in caplog.text
    assert not ender._given_up


async def test_a_key_that_the_server_does_not_take_is_followed_by_a_newer_one(migrated: TestDatabase) -> None:
    """It was rotated meanwhile: the keys are read again, and the next one has its turn."""
    ring = KeyRing([OLD], lambda: asyncio.sleep(0, [NEW]))
    ender = Ender(migrated.service, Settings(_env_file=None), ring, "derwin_app")
    used = []

    async def end(opened: Any) -> str:
        used.append(ring.keys[ender._turn % len(ring.keys)])
        if used[-1] == OLD:
            raise asyncpg.InsufficientPrivilegeError
        return str(await opened.fetchval("SELECT 'ended'"))

    assert await ender._beside(end) == "ended"
    assert used == [OLD, NEW]


async def test_a_refusal_without_a_key_is_final(migrated: TestDatabase) -> None:
    ender = Ender(migrated.service, Settings(_env_file=None), None, "derwin_app")
    asked = []

    async def refused(opened: Any) -> None:
        asked.append(opened)
        raise asyncpg.InsufficientPrivilegeError

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ender._beside(refused)
    assert len(asked) == 1
