"""Answers that come late by chance: a plugin of pytest (`-p tests.late`) that `make flaky` loads.

Of two tasks that wait for a server, the one that was asked first mostly has its answer first, on a busy machine too. A test
that takes this for granted fails once in hundreds of runs. Here one of three looks at a socket of asyncio waits for
some milliseconds, so any of them may be the first.
"""

import random
from asyncio import selector_events
from typing import Any

SHARE = 1 / 3
SECONDS = 0.004
"""How late on average; exponentially distributed, as gaps between arrivals are."""

_TRANSPORT: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
_read_ready = _TRANSPORT._read_ready
_chance = random.SystemRandom()


def _resume(transport: Any) -> None:
    if not transport.is_closing() and not transport._paused:  # who paused it resumes it
        transport._loop._add_reader(transport._sock_fd, transport._read_ready)


def _late(transport: Any) -> None:
    if _chance.random() >= SHARE or transport.is_closing():
        _read_ready(transport)
        return
    transport._loop._remove_reader(transport._sock_fd)
    transport._loop.call_later(_chance.expovariate(1 / SECONDS), _resume, transport)


_TRANSPORT._read_ready = _late
