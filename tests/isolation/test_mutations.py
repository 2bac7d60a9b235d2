"""That the suite bites: each fence taken down, one at a time, is noticed by name."""

from itertools import islice

import pytest

from derwin_db.doctor import examine
from derwin_db.testing.unfiltered import without_filters
from tests.isolation import damage
from tests.isolation.expressions import survivors
from tests.isolation.fences import changed_arena, started_anyway, without_policies
from tests.isolation.looking import noticed, unnoticed
from tests.isolation.mutations import MUTATIONS, caught, filtered_names, filters_caught, first_failure

STRIDE = 9
"""One in so many is done in this run; `python -m tests.isolation` does all."""

FORMS = ("permissive", "open to writes", "open by an OR")
MORE_FORMS = ("dropped", "open to reads", "for reads alone", "for another role")


class TestDamage:
    @pytest.mark.parametrize(
        "kind",
        ["policy_damage", "key_damage", "grant_damage", "trigger_damage", "code_damage", "quiet_damage", "login_damage"],
    )
    async def test_is_found_by_name(self, own_database, owner, kind):
        version = await owner.fetchval("SELECT current_setting('server_version_num')::int")
        options = {"grant_damage": {"has_maintain": version >= 170000}, "login_damage": {"has_options": version >= 160000}}
        stride = 1 if kind in ("login_damage", "quiet_damage") else STRIDE
        chosen = list(islice(getattr(damage, kind)(**options.get(kind, {})), 0, None, stride))

        assert len(chosen) >= 10
        assert await unnoticed(owner, own_database, chosen) == []

    async def test_healthy_database_has_none(self, own_database, owner):
        assert await noticed(owner, own_database, damage.Damage("none", (), "none")) == []

    async def test_nothing_is_left_of_it(self, own_database, owner):
        await unnoticed(owner, own_database, list(islice(damage.policy_damage(), 5)))

        assert (await examine(own_database.service, owner=own_database.owner)).ok

    @pytest.mark.parametrize("form", [*FORMS, *(pytest.param(form, marks=pytest.mark.long) for form in MORE_FORMS)])
    async def test_policy_that_is_open_lets_attacks_through(self, server, ground, attacks, form):
        """On a table that refers to no other: where one does, the keys stop writes as well."""
        one = next(each for each in damage.policy_damage() if each.name == f"the policy of ingested_docs is {form}")
        about = ("of ingested_docs by asyncpg", "in ingested_docs by asyncpg")
        tried = [attack for attack in attacks if attack.family in {11, 12} and any(part in attack.name for part in about)]

        with started_anyway(), without_filters():
            async with changed_arena(server, ground, *one.statements) as arena:
                assert await first_failure(arena, tried) is not None


class TestCode:
    @pytest.mark.parametrize("mutation", MUTATIONS[::STRIDE], ids=lambda mutation: mutation.name)
    async def test_guard_that_is_out_is_noticed(self, server, ground, attacks, mutation):
        assert await caught(server, ground, mutation, attacks) is not None


class TestFilters:
    async def test_guard_refuses_every_statement_without_one_of_its_conditions(self, calls):
        made, passed = survivors(STRIDE)

        assert made > 100
        assert passed == []

    async def test_matrix_notices_most_by_itself(self, server, ground, calls):
        async with without_policies(server, ground) as arena:
            attacked = {case.method for case in calls}  # other tests of this process have statements compiled too
            names = [name for name in filtered_names() if name in attacked]
            assert len(names) > 100
            found = await filters_caught(arena, calls, names)

        missed = [name for name, by in found.items() if by is None]
        assert len(missed) <= len(names) // 10, missed
