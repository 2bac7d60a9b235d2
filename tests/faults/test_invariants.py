"""The fifteen invariants hold under concurrency; and each scenario finds the bug that is planted for it."""

import pytest

from derwin_db import Database
from tests.faults import invariants, plants
from tests.faults.invariants import INVARIANTS, World
from tests.faults.victim import Victim

PLANTED = [
    (invariants.reads_stay_in_their_project, plants.an_ambient_project),
    (invariants.writes_stay_in_their_project, plants.an_ambient_project),
    (invariants.the_ledger_adds_up, plants.a_sum_of_floats),
    (invariants.a_key_is_written_once, plants.a_key_that_is_not_compared),
    (invariants.the_budget_holds, plants.a_cap_without_a_lock),
    (invariants.logs_only_grow, plants.a_grant_too_many),
    (invariants.a_run_has_one_owner, plants.a_claim_without_a_lock),
    (invariants.only_legal_edges, plants.an_edge_too_few),
    (invariants.only_legal_edges, plants.an_edge_too_many),
    (invariants.one_of_n_wins, plants.a_version_that_is_not_compared),
    (invariants.trust_follows_the_evidence, plants.a_score_without_a_lock),
    (invariants.the_mode_follows_its_log, plants.a_mode_without_a_lock),
    (invariants.what_is_undone_leaves_no_trace, plants.a_clean_up_that_commits),
    (invariants.what_is_undone_leaves_no_trace, plants.a_commit_that_is_cancelled),
    (invariants.evidence_is_kept, plants.a_hold_that_is_forgotten),
    (invariants.a_project_goes_as_a_whole, plants.a_table_without_its_key),
    (invariants.nothing_is_checked_out, plants.a_connection_that_is_kept),
]


@pytest.fixture
async def world(db: Database, victim: Victim) -> World:
    """Two projects."""
    return await World.make(db, victim)


def test_there_are_fifteen_and_each_has_a_planted_bug():
    assert len(INVARIANTS) == 15
    assert {scenario for scenario, _ in PLANTED} == set(INVARIANTS)


@pytest.mark.parametrize("scenario", INVARIANTS, ids=lambda scenario: scenario.__name__)
async def test_it_holds(scenario, world: World):
    await scenario(world)


@pytest.mark.parametrize(("scenario", "plant"), PLANTED, ids=lambda one: one.__name__)
async def test_a_planted_bug_is_found(scenario, plant, world: World, monkeypatch):
    world.patience = 2.5  # a clean-up has 2 s
    async with plant(world, monkeypatch):
        with pytest.raises(AssertionError) as caught:
            await scenario(world)
    assert str(caught.value)
