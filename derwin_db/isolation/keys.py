"""Which keys of the seal a process knows, and which of them each server takes: a rotation has two for a while.

A service goes on with the key that it has until it learns of a newer one: when it looks again, once in a while, or when a
server refuses what the old one made. Then nothing has run yet, and the unit of work opens again with another key.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from derwin_db.isolation.seal import Kind, Seal

logger: logging.Logger = logging.getLogger("derwin_db")

LOOK_SECONDS = 60.0
"""How long a service that is busy does without looking whether there is a newer key."""


class KeyRing:
    """The keys that this process knows, the newest first, and the way to look again."""

    def __init__(self, keys: Sequence[Seal], read: Callable[[], Awaitable[Sequence[Seal]]] | None = None) -> None:
        self.keys: tuple[Seal, ...] = tuple(keys)
        self._read = read
        self._looked_at = time.monotonic()
        self._looking: asyncio.Task[None] | None = None

    def look_now_and_then(self) -> None:
        """Look again, in a task of its own, where the last time is long ago."""
        if self._read is not None and time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._start_looking(self._read)

    async def look_again(self) -> None:
        """Look again. What can't be read leaves the keys as they are."""
        known = self.keys
        if self._looking is not None:  # it may have begun too early to see what this caller is after
            await asyncio.shield(self._looking)
        if self._read is not None and self.keys is known:
            await asyncio.shield(self._start_looking(self._read))

    def _start_looking(self, read: Callable[[], Awaitable[Sequence[Seal]]]) -> "asyncio.Task[None]":
        """Return the one look that is under way."""
        if self._looking is None:
            self._looked_at = time.monotonic()
            self._looking = asyncio.get_running_loop().create_task(self._look(read))
        return self._looking

    async def _look(self, read: Callable[[], Awaitable[Sequence[Seal]]]) -> None:
        try:
            keys = tuple(await read())
            if keys != self.keys:
                logger.info("the keys of the project scope have changed: %d of them are valid now", len(keys))
                self.keys = keys
        except Exception as error:
            logger.warning("whether the key of the project scope is still the newest could not be seen: %s", error)
        finally:
            self._looking = None

    async def close(self) -> None:
        """End a look that is under way."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.wait({looking})


class ServerSeal:
    """The key that one server takes: the newest that is known, or the one that it did not refuse."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._known = ring.keys
        self._current = self._former = ring.keys[0]

    @property
    def current(self) -> Seal:
        """The key that tokens are made with now."""
        if self._ring.keys is not self._known:
            self._known = self._ring.keys
            self._former, self._current = self._current, self._known[0]
        return self._current

    def token(self, kind: Kind, project_id: UUID, made_at: int, backend_pid: int | None = None) -> str:
        """Return a token of the current key: see `Seal.token`."""
        self._ring.look_now_and_then()
        return self.current.token(kind, project_id, made_at, backend_pid)

    async def look_again(self) -> None:
        """See whether there is a newer key."""
        await self._ring.look_again()

    async def changed_after(self, refused: Any) -> bool:
        """Tell whether there is another key to try, once the server refused this one; it is the current one then.

        A replica that is behind takes the former key for a while, also where the primary takes it no more.
        """
        if self.current != refused:
            return True
        await self._ring.look_again()
        if self.current != refused:
            return True
        others = [key for key in (*self._known, self._former) if key != refused]
        if not others:
            return False
        self._current = others[0]
        return True
