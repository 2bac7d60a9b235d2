"""The long run on a cluster: `python -m tests.isolation` with DERWIN_TEST_CITUS_URL.

For each place where B can be, seen from A: all fences, then the policies, keys and filters alone. What cannot hold there, or
asks no server at all, is left out with its reason, and counted.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

import asyncpg

from derwin_db.errors import InvalidStatement
from derwin_db.isolation.catalog.tables import TABLES
from derwin_db.testing import TestDatabase, TestServer
from derwin_db.testing.unfiltered import without_filters
from tests.isolation.arena import Ground, open_arena, prepare
from tests.isolation.distributed import Place
from tests.isolation.fences import started_anyway
from tests.isolation.keys import key_scripts
from tests.isolation.matrix import Attack, Result, all_attacks, run
from tests.isolation.pushed import pushed_scripts
from tests.isolation.states import Case

NO_SERVER = "asks no server, so it is the same on any"
NO_QUEUE = "the queue over all projects is not on a cluster"

NO_STAMPS = "the triggers that stamp evidence and check logs and ledger are not on a cluster"

REFUSED = "without its filter it asks all shards, and Citus refuses it"
NOT_SUPPORTED = "0A000"

LEFT_OUT: tuple[tuple[str, Callable[[Attack], bool]], ...] = (
    (NO_SERVER, lambda one: one.family in {1, 2, 33, 34, 35} or (one.family == 4 and isinstance(one, Case) and not one.method)),
    (NO_SERVER, lambda one: one.title.startswith(("32. a patch", "32. a reason"))),
    (NO_QUEUE, lambda one: one.family == 36),
    (NO_STAMPS, lambda one: one.family == 28 and not one.name.startswith(("money", "the past"))),
)
"""Reasons for which an attack is not run, each with what it is the reason for."""


def reason_to_leave_out(attack: Attack) -> str | None:
    return next((reason for reason, applies in LEFT_OUT if applies(attack)), None)


def divided(attacks: Iterable[Attack]) -> tuple[list[Attack], Counter[str]]:
    """Return the attacks that are run, and how many are left out by reason."""
    chosen, left_out = [], Counter[str]()
    for attack in attacks:
        reason = reason_to_leave_out(attack)
        if reason is None:
            chosen.append(attack)
        else:
            left_out[reason] += 1
    return chosen, left_out


class Telling(Protocol):
    """What hears of the runs."""

    left_out: Counter[str]

    def add(self, title: str, result: Result) -> None:
        """Take what a run found."""


Choose = Callable[[Iterable[Attack]], list[Attack]]


async def attack_cluster(server: TestServer, report: Telling, choose: Choose) -> None:
    """Run what can be run, at each place where B can be."""
    for place in Place:
        await attack_at(place, await prepare(server, place), report, choose)


async def attack_at(place: Place, ground: Ground, report: Telling, choose: Choose) -> None:
    """Run all fences together, then the policies, the keys and the filters alone."""
    async with open_arena(ground) as arena:
        every, left_out = divided([*await all_attacks(arena), *pushed_scripts()])
        report.left_out += left_out
        by_the_owner = {one.title for one in key_scripts()}
        calls = [one for one in every if isinstance(one, Case) and one.method and one.state == "fresh"]
        report.add(f"{place}: all fences", await run(arena, choose(one for one in every if one.title not in by_the_owner)))
        with without_filters():
            forgiven = [forgiving(one, report.left_out) for one in choose(calls)]
            report.add(f"{place}: policies alone", await run(arena, forgiven))
        report.add(f"{place}: keys alone", await run(arena, choose(key_scripts())))
    for database in (ground.alone, ground.shared):
        await _switch_policies_off(database)
    with started_anyway():
        async with open_arena(ground) as arena:
            report.add(f"{place}: filters alone", await run(arena, choose(calls)))


def forgiving(attack: Attack, left_out: Counter[str]) -> Attack:
    """Let Citus refuse a statement that asks all shards, since its filter is gone, and count how often it does."""
    assert isinstance(attack, Case)
    promised = attack.expects

    def expects(got: object) -> bool:
        if isinstance(got, InvalidStatement) and got.sqlstate == NOT_SUPPORTED:
            left_out[REFUSED] += 1
            return True
        return promised(got)

    return replace(attack, expects=expects)


async def _switch_policies_off(database: TestDatabase) -> None:
    owner = await asyncpg.connect(**database.owner.connect_arguments())
    try:
        for table in TABLES:
            await owner.execute(f"ALTER TABLE public.{table} DISABLE ROW LEVEL SECURITY")
    finally:
        await owner.close()
