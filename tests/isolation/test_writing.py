"""What is written by hand: stamps are the database's, and whatever is stored can be read back."""

import asyncpg
import pytest

from derwin_db import repos, sql
from derwin_db.errors import APPEND_ONLY_TABLES
from derwin_db.models import ProjectCreate, SpendLedgerCreate
from derwin_db.testing.examples import example
from tests.isolation.estimating import estimate_scripts
from tests.isolation.fences import changed_arena, started_anyway
from tests.isolation.mutations import first_failure
from tests.isolation.writing import writing_scripts


class TestWriting:
    @pytest.mark.parametrize("script", list(writing_scripts()), ids=lambda script: script.title)
    async def test(self, arena, script):
        await script.run(arena)


def as_before(function: str) -> str:
    """Return what makes a check of the first version again."""
    (made,) = (one for one in sql.read("stamps.v1") if f"FUNCTION public.{function}() RETURNS" in one)
    return made.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)


MUTATIONS = {
    "evidence is kept": "DROP TRIGGER derwin_stamp_evidence ON public.audit_artifacts",
    "a log is written now": "DROP TRIGGER derwin_stamp_log ON public.project_mode_logs",
    "a log is written now and": "DROP TRIGGER derwin_check_mode_log ON public.project_mode_logs",
    "a log is written": "DROP TRIGGER derwin_check_profile_log ON public.profile_evolution_logs",
    "a mode that changes": "DROP TRIGGER derwin_check_mode ON public.projects",
    "an entry of a change": as_before("derwin_check_mode_log"),
    "a mode to and fro": as_before("derwin_check_mode"),
    "an entry under another name": "DROP TRIGGER derwin_check_ledger ON public.spend_ledger",
    "money that would be rounded": "ALTER TABLE public.spend_ledger ALTER amount_usd TYPE numeric(14, 6)",
    "the past of a project": "GRANT USAGE ON SCHEMA derwin TO derwin_app; GRANT ALL ON derwin.restoring TO derwin_app",
    "qa_tickets.created_at beyond": "ALTER TABLE public.qa_tickets DROP CONSTRAINT ck_qa_tickets_created_at",
    "raw_signals.payload beyond": "ALTER TABLE public.raw_signals DROP CONSTRAINT ck_raw_signals_payload",
    "qa_tickets.description beyond": "ALTER TABLE public.qa_tickets DROP CONSTRAINT ck_qa_tickets_description",
    "what is expected of qa_tickets.id": "ALTER TABLE public.qa_tickets ALTER COLUMN id SET STATISTICS 100",
}
"""Guards that are taken down, by the beginning of the attack that notices."""


class TestGuardThatIsOut:
    @pytest.mark.parametrize("name", MUTATIONS)
    async def test_is_noticed(self, server, ground, name):
        script = next(each for each in (*writing_scripts(), *estimate_scripts()) if each.name.startswith(name))

        with started_anyway():
            async with changed_arena(server, ground, MUTATIONS[name]) as arena:
                assert await first_failure(arena, [script]) == script.title


SPY = """
CREATE TABLE spy (i int);
CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.{}; RETURN NEW; END';
CREATE TRIGGER spy BEFORE INSERT ON spy FOR EACH ROW EXECUTE FUNCTION spy()
"""
"""A trigger of the owner's that deletes, one level deep."""


class TestLedgerOfAGoneProject:
    @pytest.fixture
    async def gone(self, own_db):
        """The id of a project that is gone, with one entry on the books."""
        async with own_db.admin(reason="a test") as admin:
            project = await repos.projects.create(admin, example(ProjectCreate, marker="gone"))
        async with own_db.project(project.id) as session:
            await repos.spend_ledger.append(session, example(SpendLedgerCreate, marker="gone"))
        async with own_db.admin(reason="a test") as admin:
            await repos.projects.delete(admin, project.id)
        return project.id

    async def test_no_trigger_of_the_owner_removes_it(self, gone, owner):
        await owner.execute(SPY.format("spend_ledger"))

        with pytest.raises(Exception, match="never changed or removed"):
            await owner.execute("INSERT INTO spy VALUES (1)")

        assert await owner.fetchval("SELECT count(*) FROM public.spend_ledger WHERE project_id = $1", gone) == 1

    async def test_takes_no_other_entry(self, gone, owner):
        other = "jsonb_build_object('id', gen_random_uuid(), 'idempotency_key', 'late')"
        with pytest.raises(asyncpg.CheckViolationError, match="names its own project"):
            await owner.execute(
                f"INSERT INTO spend_ledger SELECT (jsonb_populate_record(e, {other})).* FROM spend_ledger e "
                "WHERE project_id = $1",
                gone,
            )


class TestOwner:
    """The policies hold an owner who is no superuser, too: where it finds no rows it is refused all the same."""

    @pytest.mark.parametrize("table", APPEND_ONLY_TABLES)
    @pytest.mark.parametrize("statement", ["UPDATE {} SET id = id WHERE false", "DELETE FROM {} WHERE false", "TRUNCATE {}"])
    async def test_is_told_that_rows_stay(self, own_database, owner, table, statement):
        with pytest.raises(asyncpg.PostgresError, match="never changed or removed"):
            await owner.execute(statement.format(table))

    async def test_truncates_no_evidence(self, owner):
        with pytest.raises(asyncpg.PostgresError, match="evidence is never truncated"):
            await owner.execute("TRUNCATE audit_artifacts")

    @pytest.mark.parametrize("table", [*APPEND_ONLY_TABLES, "audit_artifacts WHERE NOT legal_hold"])
    async def test_has_no_trigger_that_removes_them_while_their_project_is_there(self, filled_database, table):
        owner = await asyncpg.connect(**filled_database.owner.connect_arguments())
        await owner.execute(SPY.format(table))
        with pytest.raises(asyncpg.PostgresError, match=r"never changed or removed|kept until its retention ends"):
            await owner.execute("INSERT INTO spy VALUES (1)")
        await owner.close()
