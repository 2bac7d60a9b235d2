"""The attacks of tests/isolation on a cluster, a sample of each family. All of it: `python -m tests.isolation`."""

import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator

import pytest

from derwin_db.testing import TestServer
from tests.isolation.arena import Arena, open_arena, prepare
from tests.isolation.clustered import divided
from tests.isolation.distributed import Place
from tests.isolation.matrix import Attack, all_attacks, run
from tests.isolation.pushed import pushed_scripts
from tests.isolation.units import Script

OF_EACH_FAMILY = 8
SLOW = {18, 20, 21, 25}
"""Families whose scripts take seconds: one of each is tried."""


@pytest.fixture(scope="module", params=list(Place))
async def arena(server: TestServer, request: pytest.FixtureRequest) -> AsyncIterator[Arena]:
    """Two databases, with B at each place, seen from A, and without it."""
    async with open_arena(await prepare(server, request.param)) as opened:
        yield opened


def sampled(attacks: list[Attack]) -> list[Attack]:
    """Return some of each family, of scripts no two alike before all are there."""
    families: dict[int, dict[str, list[Attack]]] = defaultdict(lambda: defaultdict(list))
    for attack in attacks:
        kind = attack.name.partition(":")[0] if isinstance(attack, Script) else attack.title
        families[attack.family][kind].append(attack)
    chosen = []
    for family, kinds in families.items():
        source = random.Random(family)
        names = source.sample(sorted(kinds), min(len(kinds), 1 if family in SLOW else OF_EACH_FAMILY))
        chosen += [source.choice(kinds[name]) for name in names]
    return chosen


class TestAttacks:
    async def test_no_family_gets_anything_of_another_project(self, arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
        attacks, left_out = divided(await all_attacks(arena))
        chosen = sampled(attacks)

        result = await run(arena, chosen)

        with capsys.disabled():
            print(f"\n{result.cases} attacks of {len(attacks)} ran on the cluster; left out: {dict(left_out)}")
        assert result.holds, "\n".join(result.failures)
        assert result.cases == len(chosen) > 150

    async def test_nothing_that_a_worker_is_told_to_call_tells_of_another_project(self, arena: Arena) -> None:
        result = await run(arena, list(pushed_scripts()))

        assert result.holds, "\n".join(result.failures)

    async def test_what_is_left_out_is_of_few_kinds(self, arena: Arena) -> None:
        attacks, left_out = divided(await all_attacks(arena))
        families = Counter(attack.family for attack in attacks)

        assert sum(left_out.values()) < len(attacks) / 5
        assert set(families) >= {*range(3, 10), *range(11, 23), *range(25, 33)} - {10, 23, 24}
