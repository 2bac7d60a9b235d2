"""Row estimates tell nothing of the values of another project."""

import asyncio

import asyncpg
import pytest

from derwin_db import Database, repos
from derwin_db.deploy.migrations import MigrationSettings, downgrade, upgrade
from derwin_db.models import ProjectCreate, QATicketCreate
from derwin_db.testing.examples import example
from tests.isolation.estimating import estimate_scripts, expected_rows
from tests.isolation.statements import raw_connection


class TestEstimates:
    @pytest.mark.parametrize("script", list(estimate_scripts()), ids=lambda script: script.name)
    async def test(self, arena, script):
        await script.run(arena)

    @pytest.mark.parametrize("are_gathered", [False, True])
    async def test_tell_a_title_only_where_statistics_are_gathered(self, own_database, owner, are_gathered):
        """The attack works indeed: with statistics as PostgreSQL gathers them by itself it reads the other titles."""
        if are_gathered:
            await owner.execute("ALTER TABLE public.qa_tickets ALTER COLUMN title SET STATISTICS 100")
        async with Database(**own_database.urls) as database:
            slugs = []
            for marker in ("mine", "theirs"):
                async with database.admin(reason="a test") as admin:
                    slugs.append((await repos.projects.create(admin, example(ProjectCreate, marker=marker))).slug)
            async with database.project(slugs[1]) as session:
                tickets = [example(QATicketCreate, marker="t", title=f"secret {n:03}") for n in range(300)]
                await repos.qa_tickets.create_many(session, tickets)
            await owner.execute("ANALYZE public.qa_tickets")
            async with database.project(slugs[0], read_only=True) as session:
                raw = await raw_connection(session)
                seen = {await expected_rows(raw, "qa_tickets", f"t.title <= 'secret {n:03}'") for n in range(0, 300, 30)}

        assert (len(seen) > 5) is are_gathered

    async def test_what_was_gathered_before_goes_with_the_revision(self, server):
        database = await asyncio.to_thread(server.migrated)
        settings = MigrationSettings(database.owner)
        await asyncio.to_thread(downgrade, settings, "063c9eb5f2d8")
        owner = await asyncpg.connect(**database.owner.connect_arguments(), statement_cache_size=0)
        await owner.execute(
            "INSERT INTO public.projects (id, slug, name, type) "
            "SELECT gen_random_uuid(), 'secret-' || n, 'x', 'OTHER' FROM generate_series(1, 50) n; ANALYZE public.projects"
        )
        count = "SELECT count(*) FROM pg_statistic WHERE starelid = 'public.projects'::regclass"
        before = await owner.fetchval(count)

        await asyncio.to_thread(upgrade, settings)

        after = await owner.fetchval(count)
        await owner.execute("ANALYZE public.projects")
        assert before > 5
        assert await owner.fetchval(count) == after == 3  # type, mode and compliance mode: enumerations
        await owner.close()
