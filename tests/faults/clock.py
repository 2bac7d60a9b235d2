"""Clocks that are wrong: of this process, and of a server that runs under libfaketime."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

LIBRARY = next(map(str, Path("/usr/lib").glob("**/faketime/libfaketime.so.1")), None)


@contextmanager
def client_clock(offset: timedelta) -> Iterator[None]:
    """Let this process make its ids, the one thing that it takes from its clock, at another time."""

    def new_id() -> UUID:
        milliseconds = int((datetime.now(UTC) + offset).timestamp() * 1000)
        return UUID(int=milliseconds << 80 | 7 << 76 | random.getrandbits(12) << 64 | 2 << 62 | random.getrandbits(62))

    makers = [module for name, module in sys.modules.items() if name.startswith("derwin_db.") and hasattr(module, "new_id")]
    with pytest.MonkeyPatch.context() as patch:
        for module in makers:
            patch.setattr(module, "new_id", new_id)
        yield


class ServerClock:
    """The clock of a server that is started with `environment`; `set` changes it while the server runs."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set("+0")

    @property
    def environment(self) -> dict[str, str]:
        """What the server is started with."""
        assert LIBRARY is not None
        return {
            "LD_PRELOAD": LIBRARY,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        """Set how far it is off, as `-1d` or `+3600`."""
        self._file.write_text(offset + "\n")
        self._file.chmod(0o644)
