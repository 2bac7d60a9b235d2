"""The libraries that are compared. One that is not installed, or can't run here, is reported with the reason."""

from importlib import import_module
from typing import Any, NamedTuple

from benchmarks.peers.base import Peer

REFERENCE = "asyncpg"

_WHERE = {
    "asyncpg_autocommit": "driver.Wire",
    "asyncpg": "driver.Reference",
    "asyncpg_no_pool": "driver.Bare",
    "asyncpg_naive": "driver.Naive",
    "derwin": "derwin.Derwin",
    "sqlalchemy_core_unscoped": "sqlalchemy.Core",
    "sqlmodel_unscoped": "sqlalchemy.Unscoped",
    "sqlmodel_scoped": "sqlalchemy.Scoped",
    "advanced_alchemy_unscoped": "sqlalchemy.AdvancedAlchemy",
    "piccolo_unscoped": "piccolo.Piccolo",
    "tortoise_unscoped": "tortoise.TortoiseOrm",
}

NAMES = tuple(_WHERE)


class Chosen(NamedTuple):
    """Peers that run, and the reasons of those that don't."""

    peers: list[Peer]
    missing: dict[str, str]


async def open_peers(names: list[str], database: Any, workload: Any) -> Chosen:
    """Open the peers of these names; the reference is always among them."""
    chosen = Chosen([], {})
    for name in NAMES:
        if name not in names and name != REFERENCE:
            continue
        module, _, kind = _WHERE[name].partition(".")
        try:
            peer: Peer = getattr(import_module(f"benchmarks.peers.{module}"), kind)()
            await peer.open(database, workload)
        except Exception as error:
            if name in (REFERENCE, "derwin"):
                raise
            chosen.missing[name] = f"{type(error).__name__}: {error}"[:200]
        else:
            chosen.peers.append(peer)
    return chosen
