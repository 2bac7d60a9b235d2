"""DROP OWNED: no role of a session takes its own fences down; where it could, start-up says so and one command mends it."""

import asyncio

import asyncpg
import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.deploy.fences import remake_fences
from derwin_db.doctor import examine
from derwin_db.errors import IsolationNotEnforced, ScopeError
from derwin_db.models import ProjectCreate
from derwin_db.testing.examples import example
from derwin_db.testing.factories import create_ticket, past_fix
from tests.isolation.fences import make_plain

DROPS = ("DROP OWNED BY CURRENT_USER", "DROP OWNED BY derwin_app CASCADE", "DROP OWNED BY SESSION_USER, CURRENT_USER")


async def policies(owner) -> int:
    return await owner.fetchval("SELECT count(*) FROM pg_policy")


class TestDropOwned:
    @pytest.mark.parametrize("before", ["SELECT 1", "RESET ROLE", "SET ROLE NONE"])
    @pytest.mark.parametrize("drop", DROPS)
    async def test_is_refused_in_a_session(self, own_database, owner, before, drop):
        held = await policies(owner)
        async with Database(**own_database.urls) as database:
            async with database.admin(reason="a test") as admin:
                project = await repos.projects.create(admin, example(ProjectCreate, marker="dropping"))
            with pytest.raises(ScopeError):
                async with database.project(project.id) as session:
                    await session.sql.execute(sa.text(before))
                    await session.sql.execute(sa.text(drop))
            with pytest.raises(ScopeError):
                async with database.admin(reason="a test") as admin:
                    await admin.sql.execute(sa.text("DROP OWNED BY CURRENT_USER"))

        assert await policies(owner) == held
        assert (await examine(own_database.service, owner=own_database.owner)).ok

    async def test_by_an_administrator_is_named_and_mended(self, own_database, owner):
        await owner.execute("DROP OWNED BY derwin_app; DROP OWNED BY derwin_admin")

        with pytest.raises(IsolationNotEnforced, match="derwin_app has lost all that it was granted, its policies too"):
            await Database(**own_database.urls).start()
        report = await examine(own_database.service, owner=own_database.owner)
        bad = {check.name: check.fix for check in report.checks if not check.ok}
        assert {"policies", "grants-missing"} <= set(bad)
        assert "roles create" in bad["policies"]

        connection = await asyncpg.connect(**own_database.owner.connect_arguments(), statement_cache_size=0)
        assert await remake_fences(connection) != []
        assert await remake_fences(connection) == []
        await connection.close()

        report = await examine(own_database.service, owner=own_database.owner)
        assert [check for check in report.checks if not check.ok] == []
        async with Database(**own_database.urls) as database:
            async with database.admin(reason="a test") as admin:
                project = await repos.projects.create(admin, example(ProjectCreate, marker="mended"))
            async with database.project(project.id) as session:  # what search compares is derived by functions
                await create_ticket(session)
                await repos.rag_corpus.add(session, past_fix())

    async def test_is_mended_where_the_scope_is_plain(self, own_database, owner):
        await make_plain(owner)
        await owner.execute("DROP OWNED BY derwin_app; DROP OWNED BY derwin_admin")

        assert await remake_fences(owner) != []

        assert await remake_fences(owner) == []
        assert [check.name for check in (await examine(own_database.service)).checks if not check.ok] == ["scope-sealed"]

    async def test_is_noticed_where_nothing_refuses_it(self, own_database, owner):
        """As on a server whose owner is no superuser."""
        await owner.execute("DROP EVENT TRIGGER derwin_keep_fences")
        await owner.execute(f"ALTER SCHEMA derwin OWNER TO {own_database.operator.user}")

        report = await examine(own_database.service, owner=own_database.owner)

        check = next(check for check in report.checks if check.name == "drop-owned")
        assert check.ok
        assert "not refused" in check.detail

    async def test_a_database_that_is_behind_is_migrated_and_not_mended(self, server):
        from derwin_db.deploy.migrations import MigrationSettings, downgrade

        database = await asyncio.to_thread(server.migrated)
        await asyncio.to_thread(downgrade, MigrationSettings(database.owner), "-1")
        connection = await asyncpg.connect(**database.owner.connect_arguments(), statement_cache_size=0)
        assert await remake_fences(connection) == []
        await connection.close()
