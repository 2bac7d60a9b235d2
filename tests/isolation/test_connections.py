"""What one unit leaves on its connection, for the next one on it: nothing."""

import asyncpg
import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from tests.isolation.arena import one_connection
from tests.isolation.sealing import LEFTOVERS, sealing_scripts

SCRIPTS = [script for script in sealing_scripts() if script.family == 15]


class TestReturn:
    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
    async def test_next_unit_finds_nothing(self, arena, script):
        await script.run(arena)

    @pytest.mark.parametrize(("name", "probe"), [(name, probe) for name, (_, probe) in LEFTOVERS.items() if probe])
    async def test_what_is_looked_for_would_be_seen(self, arena, name, probe):
        connection = await asyncpg.connect(**arena.shared.database.owner.connect_arguments())
        try:
            await connection.execute(LEFTOVERS[name][0])
            assert await connection.fetchval(probe)
        finally:
            await connection.close()


class TestWhereTemporaryTablesAreAllowed:
    """REVOKE TEMPORARY is the database's; where somebody gives it back, a table still steps in front of nothing of ours."""

    @pytest.fixture
    async def own_database(self, filled_database):
        return filled_database

    @pytest.fixture
    async def narrow(self, own_database, owner):
        await owner.execute(f'GRANT TEMPORARY ON DATABASE "{own_database.owner.database}" TO PUBLIC')
        async with Database(**one_connection(own_database)) as database:
            yield database

    async def test_table_of_the_same_name_is_not_read_by_repositories(self, narrow, ground):
        a = ground.a
        async with narrow.project(a.project_id) as session:
            await session.sql.execute(sa.text("CREATE TEMP TABLE qa_tickets (LIKE public.qa_tickets)"))
            assert len((await repos.qa_tickets.list(session)).items) == len(a.rows["qa_tickets"])

    async def test_table_is_gone_in_the_next_unit(self, narrow, ground):
        a, b = ground.a, ground.b
        async with narrow.project(a.project_id) as session:
            await session.sql.execute(sa.text("CREATE TEMP TABLE qa_tickets AS SELECT * FROM public.qa_tickets"))
        async with narrow.project(b.project_id) as session:
            rows = (await session.sql.execute(sa.text("SELECT project_id FROM qa_tickets"))).scalars().all()

        assert set(rows) == {b.project_id}

    async def test_type_of_its_own_does_not_run_as_the_owner(self, narrow, ground):
        """Without pg_temp at the end of its search_path, derwin_scope() would cast to this domain, and run its CHECK."""
        a = ground.a
        async with narrow.project(a.project_id) as session:
            for statement in (
                "CREATE FUNCTION pg_temp.spy(v text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE '%', current_user; END $$",
                "CREATE DOMAIN pg_temp.uuid AS pg_catalog.text CHECK (pg_temp.spy(VALUE))",
                "CREATE DOMAIN pg_temp.bytea AS pg_catalog.bytea CHECK (pg_temp.spy('bytes'))",
            ):
                await session.sql.execute(sa.text(statement))
            # a function is compiled at its first call in a session: these are compiled anew
            await session.sql.execute(sa.text("DISCARD PLANS"))
            rows = (await session.sql.execute(sa.text("SELECT id FROM public.qa_tickets"))).all()
            opened = await session.sql.execute(sa.text("SELECT public.derwin_scope()"))

            assert len(rows) == len(a.rows["qa_tickets"])
            assert opened.scalar() == a.project_id
