"""What is written by hand: stamps are the database's, and whatever is stored can be read back."""

import pytest

from tests.isolation.writing import writing_scripts


class TestWriting:
    @pytest.mark.parametrize("script", list(writing_scripts()), ids=lambda script: script.title)
    async def test(self, arena, script):
        await script.run(arena)


class TestLedgerOfAGoneProject:
    async def test_no_trigger_of_the_owner_removes_it(self, own_database, owner):
        from derwin_db import Database, repos
        from derwin_db.models import ProjectCreate, SpendLedgerCreate
        from derwin_db.testing.examples import example

        async with Database(**own_database.urls) as database:
            async with database.admin(reason="a test") as admin:
                project = await repos.projects.create(admin, example(ProjectCreate, marker="gone"))
            async with database.project(project.id) as session:
                await repos.spend_ledger.append(session, example(SpendLedgerCreate, marker="gone"))
            async with database.admin(reason="a test") as admin:
                await repos.projects.delete(admin, project.id)
        await owner.execute(
            "CREATE TABLE spy (i int); CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN DELETE FROM public.spend_ledger; RETURN NEW; END';"
            "CREATE TRIGGER spy BEFORE INSERT ON spy FOR EACH ROW EXECUTE FUNCTION spy()"
        )

        with pytest.raises(Exception, match="never changed or removed"):
            await owner.execute("INSERT INTO spy VALUES (1)")

        assert await owner.fetchval("SELECT count(*) FROM public.spend_ledger WHERE project_id = $1", project.id) == 1
