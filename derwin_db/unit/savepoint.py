"""Savepoints: what may fail, without the rest of its unit of work."""

import asyncio
import contextlib
from types import TracebackType

from derwin_db.errors import (
    ScopeError,
)
from derwin_db.translation.driver_errors import is_of_the_driver, raise_translated
from derwin_db.unit.transaction import Transaction


class Savepoint:
    """`async with session.savepoint():` undoes its own statements when the block raises, and the unit goes on."""

    def __init__(self, unit: Transaction) -> None:
        self._unit = unit
        self._name = ""
        self._settings: set[str] = set()

    async def __aenter__(self) -> None:
        unit = self._unit
        if self._name:
            raise ScopeError("A savepoint is used once: ask the session for another one.")
        unit._check_usable()
        if unit._sql is not None:
            await unit._flush(unit._sql)
        await unit._connected()
        unit._savepoints += 1
        self._name = f"derwin_{unit._savepoints}"
        await unit._driver("execute", f"SAVEPOINT {self._name}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self._release()
        elif isinstance(error, asyncio.CancelledError):
            with contextlib.suppress(Exception):  # a timeout around the block: the unit may go on without it
                async with asyncio.timeout(self._unit._backend.cleanup_timeout):
                    await self._undo()
        elif isinstance(error, Exception):
            await self._undo()
            if is_of_the_driver(error):
                raise_translated(error)

    async def _release(self) -> None:
        """Keep what was done, unless something of it failed unseen: then undo it and say so."""
        unit = self._unit
        try:
            unit._check_usable()
            if unit._sql is not None:
                await unit._flush(unit._sql)
            await unit._driver("execute", f"RELEASE SAVEPOINT {self._name}")
        except Exception:
            await self._undo()
            raise

    async def _undo(self) -> None:
        unit = self._unit
        if unit._is_closed or unit._connection is None or unit._connection.is_closed():
            return
        if unit._sql is not None:
            await unit._sql.run_sync(lambda session: session.undone())  # type: ignore[attr-defined]  # UnitSession
        await unit._driver("execute", f"ROLLBACK TO SAVEPOINT {self._name}; RELEASE SAVEPOINT {self._name}")
        unit._has_failed = unit._is_lost
