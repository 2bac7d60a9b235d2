"""docs/isolation.md says what happens: its tables are those of this code."""

import random
import re
from collections import Counter, defaultdict

import pytest

from derwin_db.doctor import examine
from derwin_db.testing import TestDatabase
from tests.isolation import published
from tests.isolation.damage import all_damage
from tests.isolation.matrix import run
from tests.isolation.states import STATES

WIDELY_SAMPLED = ("fresh", "read only")
"""States whose attacks are in the default run by a large sample; of the others it is a small one of all together."""


@pytest.fixture(scope="module")
def shown():
    return published.read_table()


class TestOutcomes:
    def test_every_method_is_there_in_every_state(self, calls, shown):
        assert set(shown) == {(case.method, case.state) for case in calls if case.method}
        assert {state for _, state in shown} == set(STATES)

    def test_every_attack_is_counted(self, calls, shown):
        counts = Counter((case.method, case.state) for case in calls if case.method)

        assert {cell: sum(outcomes.values()) for cell, outcomes in shown.items()} == counts

    @pytest.mark.parametrize("state", WIDELY_SAMPLED)
    async def test_sample_is_what_is_shown(self, arena, calls, shown, state):
        cells = sorted(cell for cell in shown if cell[1] == state)
        chosen = set(random.Random(state).sample(cells, len(cells) // 4))

        result = await run(arena, [case for case in calls if (case.method, case.state) in chosen])

        assert len(chosen) > 20
        assert result.outcomes == {cell: shown[cell] for cell in chosen}

    async def test_sample_of_other_states_is_what_is_shown(self, arena, calls, shown):
        by_cell = defaultdict(list)
        for case in calls:
            if case.method and case.state not in WIDELY_SAMPLED:
                by_cell[case.method, case.state].append(case)
        cells = random.Random(8).sample(sorted(by_cell), 12)

        result = await run(arena, [case for cell in cells for case in by_cell[cell]])

        assert result.outcomes == {cell: shown[cell] for cell in cells}

    @pytest.mark.long
    async def test_all_of_it_is_what_is_shown(self, arena, calls):
        result = await run(arena, [case for case in calls if case.method])

        assert published.table(result.outcomes) == published.block("outcomes")


class TestAttacks:
    async def test_numbers_are_those_of_the_attacks(self, attacks, own_database: TestDatabase):
        checks = len((await examine(own_database.service, owner=own_database.owner)).checks)
        damage = len(list(all_damage(170000)))
        counts = published.counts_of(attacks, checks=checks, damage=damage)

        shown = {
            int(number): int(count) for number, count in re.findall(r"^\| (\d+)\. .* \| (\d+) \|$", _block(), re.MULTILINE)
        }
        assert shown == counts

    def test_fences_alone_and_mutations_are_shown(self):
        rows = dict(re.findall(r"^\| (with \w+ alone|mutations, each noticed by name) \| (\d+) \|$", _block(), re.MULTILINE))

        assert len(rows) == 4
        assert min(int(count) for count in rows.values()) > 0


def _block() -> str:
    return published.block("attacks")


class TestBlocks:
    def test_are_replaced_as_a_whole(self, tmp_path, monkeypatch):
        page = tmp_path / "page.md"
        page.write_text("before\n<!-- one: how -->\nold\n<!-- end of one -->\nafter\n")
        monkeypatch.setattr(published, "PAGE", page)

        for text in ("new\n\nlines", "| a \\1 |"):
            published.write("one", text)

            assert published.block("one") == text
            assert page.read_text() == f"before\n<!-- one: how -->\n\n{text}\n\n<!-- end of one -->\nafter\n"
        assert published.block("two") == ""
