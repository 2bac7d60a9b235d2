"""Which of several hosts a connection goes to: the first that answers and is what `target_session_attrs` wants, as in libpq.

The one that was right last time is tried first, so that a host which is down costs its timeout once. Each connection is checked
again: after a fail-over the next one finds the new primary.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import asyncpg

from derwin_db.settings import ConnectionInfo
from derwin_db.settings.url import TargetServer
from derwin_db.translation.driver_errors import is_connection_lost, sqlstate_of

C = TypeVar("C")

COMES_BACK = frozenset({"53300", "57P03"})
"""SQLSTATEs of a server that takes no connection now, but soon may: it is full, or it is starting."""

_right: dict[tuple[tuple[tuple[str, int], ...], TargetServer | None], tuple[str, int]] = {}
"""The host that was right last time, by the hosts and what was wanted of them."""


class NoHostFits(Exception):
    """Servers answer, and none of them is what is wanted: as a rule, for the moment of a fail-over."""


async def connect_to_one(info: ConnectionInfo, make: Callable[[ConnectionInfo], Awaitable[C]]) -> C:
    """Make a connection to the first host that fits. `make` takes the login at one host, and what is wanted of it.

    Errors:
        NoHostFits; else what the last host that did not answer failed with, or the first one that refused the login.
    """
    targets: tuple[TargetServer | None, ...] = (info.target_session_attrs,)
    if info.target_session_attrs == "prefer-standby":
        targets = ("standby", "any")
    failure: Exception | None = None
    does_one_answer = False
    for target in targets:
        for host, port in _ordered(info, target):
            try:
                made = await make(_wanting(info, host, port, target))
            except asyncpg.TargetServerAttributeNotMatched:
                does_one_answer = True
            except Exception as error:
                if not _is_for_the_next(error):
                    raise
                failure = error
            else:
                _right[info.places, target] = (host, port)
                return made
    if failure is None or does_one_answer:
        raise NoHostFits from None
    raise failure


def _wanting(info: ConnectionInfo, host: str, port: int, target: TargetServer | None) -> ConnectionInfo:
    return replace(info.at(host, port), target_session_attrs=target)


def _ordered(info: ConnectionInfo, target: TargetServer | None) -> list[tuple[str, int]]:
    right = _right.get((info.places, target))
    return sorted(info.places, key=lambda place: place != right)


def _is_for_the_next(error: Exception) -> bool:
    """Tell whether another host may do better: this one is away, starting or full. A refused login is refused everywhere."""
    return isinstance(error, OSError) or sqlstate_of(error) in COMES_BACK or is_connection_lost(error)
