"""The attack matrix, a sample of each family. All of it: `python -m tests.isolation`."""

import random
from typing import Any
from uuid import UUID

import pytest

from derwin_db import ProjectSession, repos
from derwin_db.repos.qa_tickets import QATickets
from derwin_db.testing.filling import models_by_table
from tests.isolation.families import FAMILIES
from tests.isolation.matrix import run
from tests.isolation.methods import attack_with, attacks_on, own_call, public_methods
from tests.isolation.states import STATES, Case, judge
from tests.isolation.units import Script

NOT_ATTACKS = {10, 23, 24}
"""Logs are watched in every attack; the catalog and damage to it are in test_mutations."""

SIZE = 17
"""Attacks of each family: over 500 in all."""


class TestMatrix:
    @pytest.mark.parametrize("family", sorted(set(FAMILIES) - NOT_ATTACKS), ids=lambda number: f"{number}-{FAMILIES[number]}")
    async def test_family_gets_nothing_of_another_project(self, arena, attacks, family):
        members = [attack for attack in attacks if attack.family == family]
        assert members, "the family has no attack"
        fast = [attack for attack in members if not (isinstance(attack, Script) and family in {18, 20, 21, 25})]
        slow = random.Random(family).sample(members, 3) if not fast else []
        chosen = slow or random.Random(family).sample(fast, min(SIZE, len(fast)))

        result = await run(arena, chosen)

        assert result.holds, "\n".join(result.failures)
        assert result.cases == len(chosen)

    async def test_scripts_of_each_kind_hold(self, arena, attacks):
        kinds = {
            attack.name.partition(":")[0]: attack
            for attack in attacks
            if isinstance(attack, Script) and attack.family in {18, 20, 21}
        }

        result = await run(arena, list(kinds.values()))

        assert result.holds, "\n".join(result.failures)

    async def test_all_families_have_attacks(self, attacks):
        assert {attack.family for attack in attacks} | NOT_ATTACKS == set(FAMILIES)
        assert len(attacks) >= 10_000

    async def test_every_public_method_is_attacked(self, attacks):
        titles = "\n".join(attack.name for attack in attacks)
        for method in public_methods():
            assert f"{method.title} with " in titles

    async def test_every_table_is_attacked_in_every_state(self, attacks):
        for table in models_by_table():
            about = [attack for attack in attacks if table in attack.name]
            assert {attack.family for attack in about} >= {3, 7, 9, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 22, 25}
            assert {attack.state for attack in about if isinstance(attack, Case)} == set(STATES)

    async def test_both_projects_are_alike(self, arena):
        for table, rows in arena.a.rows.items():
            assert len(rows) == len(arena.b.rows[table]) >= 1
            states = [[getattr(row, "status", None) for row in project.rows[table]] for project in (arena.a, arena.b)]
            assert states[0] == states[1]


class TestWhatIsAddedLater:
    async def test_method_that_leaks_is_caught(self, arena, monkeypatch):
        async def peek(self: Any, session: ProjectSession, id: UUID) -> Any:
            rows = await arena.shared.owner.fetch("SELECT title FROM public.qa_tickets WHERE id = $1", id)
            return [row["title"] for row in rows] or (await repos.qa_tickets.get(session, id)).title

        monkeypatch.setattr(QATickets, "peek", peek, raising=False)
        method = next(one for one in public_methods() if one.name == "peek")
        own, _ = await own_call(arena, method)
        family, name, call = next(iter(attacks_on(method, own)))

        verdict = await judge(arena, Case(family, name, attack_with(method, call)))

        assert verdict.leaked == [arena.b.marker]

    async def test_method_that_changes_another_project_is_caught(self, arena, monkeypatch):
        async def close_all(self: Any, session: ProjectSession) -> int:
            raw = await session._connected()
            await raw.execute("RESET ROLE")
            return 1

        monkeypatch.setattr(QATickets, "close_all", close_all, raising=False)
        transaction = arena.shared.owner.transaction()
        method = next(one for one in public_methods() if one.name == "close_all")
        own, _ = await own_call(arena, method)
        await transaction.start()
        try:
            await arena.shared.owner.execute(
                "UPDATE public.qa_runs SET error = 'changed' WHERE project_id = $1", arena.b.project_id
            )
            assert await arena.shared.digest(arena.b.project_id) != arena.digest
        finally:
            await transaction.rollback()
        assert await arena.shared.digest(arena.b.project_id) == arena.digest
        assert own == {}

    async def test_parameter_that_nobody_knows_fails_the_matrix(self, arena, monkeypatch):
        class Gizmo:
            pass

        async def turn(self: Any, session: ProjectSession, gizmo: Gizmo) -> None: ...

        monkeypatch.setattr(QATickets, "turn", turn, raising=False)
        method = next(one for one in public_methods() if one.name == "turn")

        with pytest.raises(TypeError, match="gizmo"):
            await own_call(arena, method)

    async def test_method_that_never_succeeds_fails_the_matrix(self, arena, monkeypatch):
        async def find_nothing(self: Any, session: ProjectSession, id: UUID) -> UUID | None:
            return None

        monkeypatch.setattr(QATickets, "find_nothing", find_nothing, raising=False)
        method = next(one for one in public_methods() if one.name == "find_nothing")

        with pytest.raises(AssertionError, match="it brings nothing back"):
            await own_call(arena, method)
