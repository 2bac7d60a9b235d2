"""Each fence alone: what holds when the other two are taken out."""

import random

import pytest

from derwin_db import Database, repos
from derwin_db.errors import IsolationNotEnforced
from derwin_db.isolation.catalog.tables import TABLES
from derwin_db.testing.unfiltered import conditions_of, unfiltered, without_filters
from tests.isolation.fences import without_policies
from tests.isolation.keys import key_scripts, keys_caught, references
from tests.isolation.matrix import run


def some(cases, size):
    return random.Random(size).sample([case for case in cases if case.family in {3, 5, 6, 7, 8, 9}], size)


class TestPoliciesAlone:
    async def test_matrix_holds_without_the_filters(self, arena, calls):
        with without_filters():
            result = await run(arena, some(calls, 150))

        assert result.holds, "\n".join(result.failures)

    async def test_filters_are_gone_indeed(self):
        statement = repos.qa_tickets._find_statement

        assert len(conditions_of(statement)) == 1
        assert conditions_of(unfiltered(statement)) == []


class TestFiltersAlone:
    async def test_matrix_holds_without_the_policies(self, server, ground, calls):
        async with without_policies(server, ground) as arena:
            off = await arena.shared.owner.fetchval(
                "SELECT count(*) FROM pg_class WHERE NOT relrowsecurity AND relname = ANY ($1) AND relkind = 'r'", list(TABLES)
            )
            assert off == len(TABLES)
            result = await run(arena, some(calls, 150))

        assert result.holds, "\n".join(result.failures)

    async def test_without_both_the_matrix_finds_leaks(self, server, ground, calls):
        async with without_policies(server, ground) as arena:
            with without_filters():
                result = await run(arena, some([case for case in calls if case.state == "fresh"], 60))

        assert len(result.failures) > 20


class TestKeysAlone:
    @pytest.mark.parametrize("script", list(key_scripts()), ids=lambda script: script.name)
    async def test_no_row_refers_across_projects(self, arena, script):
        await script.run(arena)

    def test_every_reference_is_tried(self):
        assert len(list(key_scripts())) == 2 * len(list(references())) == 20

    async def test_key_that_is_gone_or_without_the_project_or_not_looked_at_is_noticed(self, arena):
        found = await keys_caught(arena)

        assert len(found) == 3 * len(list(references()))
        assert [name for name, by in found.items() if by is None] == []


class TestStart:
    async def test_database_without_policies_is_not_served(self, own_database, owner):
        await owner.execute("ALTER TABLE public.qa_tickets DISABLE ROW LEVEL SECURITY")

        with pytest.raises(IsolationNotEnforced, match="row level security of qa_tickets is off"):
            await Database(**own_database.urls).start()
