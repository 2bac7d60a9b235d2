"""`doctor --fix`: what is mended safely is mended and the doctor is well again; everything else is left alone."""

import asyncio
import json
from dataclasses import replace

import asyncpg
import pytest

from derwin_db.connection.facts import read_facts
from derwin_db.deploy import logins, mending
from derwin_db.doctor import MENDERS, examine, mend
from derwin_db.doctor import mending as mending_of_findings
from derwin_db.doctor.mending import Mender
from derwin_db.errors import Conflict, DatabaseUnavailable
from tests.cli.test_commands import environment_of
from tests.cli.test_commands import run as run_command
from tests.isolation.test_doctor import PLANTS, bad, end_session

INHERITS = "ALTER ROLE {login} INHERIT; GRANT derwin_app TO {login} WITH INHERIT TRUE"
MENDABLE = {**{name: PLANTS[name] for name in MENDERS if name in PLANTS}, "login-inherits": (INHERITS,)}
MADE_INVALID = "UPDATE pg_catalog.pg_index SET indisvalid = false WHERE indexrelid = 'public.{}'::regclass"


@pytest.fixture
async def login(own_database, owner):
    name = f"service_{own_database.owner.database}"
    await logins.create_logins(owner, service=name, operator=own_database.operator.user, service_password="secret")
    yield replace(own_database.owner, user=name, password="secret")
    await owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def plant(owner, login, name: str) -> None:
    for statement in MENDABLE.get(name, PLANTS.get(name, ())):
        await owner.execute(statement.format(login=login.user, database=login.database))


class TestMended:
    async def test_everything_that_can_be_is_mended_at_once(self, own_database, owner, login):
        assert set(MENDABLE) == set(MENDERS)
        for name in MENDABLE:
            await plant(owner, login, name)
        before = await examine(login, owner=own_database.owner)
        assert bad(before) >= set(MENDERS)

        mended = await mend(before, login, owner=own_database.owner)

        assert {one.name: one.problem for one in mended} == dict.fromkeys(MENDERS)
        assert [one.name for one in mended if not one.done] == []
        after = await examine(login, owner=own_database.owner)
        assert after.ok, [check for check in after.checks if not check.ok]
        assert await mend(after, login, owner=own_database.owner) == []

    async def test_what_is_somebody_s_decision_is_left_alone(self, own_database, owner, login):
        for name in ("foreign-policies", "grants", "views", "shared-stores", "functions", "foreign-keys", "login-member"):
            await plant(owner, login, name)
        before = await examine(login, owner=own_database.owner)

        assert await mend(before, login, owner=own_database.owner) == []
        assert bad(await examine(login, owner=own_database.owner)) == bad(before)
        await owner.execute(f"REVOKE pg_read_all_data FROM {login.user}")

    async def test_policies_that_were_dropped_with_their_role_s_rights(self, own_database, owner, login):
        await owner.execute("ALTER EVENT TRIGGER derwin_keep_fences DISABLE; DROP OWNED BY derwin_app")
        await mend(await examine(login, owner=own_database.owner), login, owner=own_database.owner)
        assert (await examine(login, owner=own_database.owner)).ok


class TestIndexes:
    async def test_what_an_interrupted_rebuild_left_is_removed(self, own_database, owner):
        await owner.execute("CREATE INDEX ix_rag_corpus_bits_ccnew ON public.rag_corpus (project_id)")
        await owner.execute(MADE_INVALID.format("ix_rag_corpus_bits_ccnew"))
        (one,) = await self.mended(own_database)
        assert one.done == ("public.ix_rag_corpus_bits_ccnew removed",)

    async def test_one_that_is_being_built_is_waited_for(self, own_database, owner):
        await owner.execute(MADE_INVALID.format("ix_rag_corpus_bits"))
        report = await examine(own_database.service, owner=own_database.owner)
        building = await asyncpg.connect(**own_database.owner.connect_arguments())
        try:
            async with owner.transaction():
                await owner.execute("LOCK TABLE public.qa_runs IN SHARE UPDATE EXCLUSIVE MODE")
                other = await asyncpg.connect(**own_database.owner.connect_arguments())
                writing = other.transaction()
                await writing.start()
                await other.execute(
                    "INSERT INTO public.projects (id, slug, name, type) VALUES (gen_random_uuid(), 'x', 'x', 'ERP')"
                )
                build = asyncio.create_task(building.execute("CREATE INDEX CONCURRENTLY slow ON public.projects (id, slug)"))
                while not await owner.fetchval("SELECT count(*) FROM pg_stat_progress_create_index"):
                    await owner.execute("SELECT pg_stat_clear_snapshot()")  # a transaction goes on seeing what it saw first
                    await asyncio.sleep(0.01)
                (one,) = await mend(report, own_database.service, owner=own_database.owner)
                await writing.rollback()
                await other.close()
            await build
        finally:
            await building.close()
        assert one.problem == "An index is being built now. Look again when that is done."

    async def test_one_whose_rows_are_there_twice_is_told(self, own_database, owner):
        await owner.execute("CREATE TABLE public.twice (n int); INSERT INTO public.twice VALUES (1), (1)")
        with pytest.raises(asyncpg.UniqueViolationError):
            await owner.execute("CREATE UNIQUE INDEX CONCURRENTLY uq_twice ON public.twice (n)")
        with pytest.raises(Conflict, match="rows are there twice"):
            await mending._rebuild(owner, "public.uq_twice")
        assert await owner.fetchval("SELECT to_regclass('public.uq_twice_ccnew')") is None

    async def test_no_lock_is_waited_for_longer_after_one_that_failed(self, owner, monkeypatch):
        """Indexes are waited for; what is mended after them is not, also where one of them could not be built."""
        waited = []

        async def refuse(connection, _name):
            waited.append(await connection.fetchval("SHOW lock_timeout"))
            raise Conflict("rows are there twice")

        monkeypatch.setattr(mending, "_rebuild", refuse)
        await owner.execute(MADE_INVALID.format("ix_rag_corpus_bits"))
        with pytest.raises(Conflict):
            await mending.mend_indexes(owner, "")
        assert [*waited, await owner.fetchval("SHOW lock_timeout")] == ["10min", "2s"]

    @staticmethod
    async def mended(database):
        report = await examine(database.service, owner=database.owner)
        assert bad(report) == {"indexes"}
        found = await mend(report, database.service, owner=database.owner)
        assert (await examine(database.service, owner=database.owner)).ok
        return found


class TestRefused:
    async def test_to_who_is_not_the_owner(self, own_database, owner, login):
        await plant(owner, login, "rls-forced")
        report = await examine(login, owner=own_database.owner)
        (one,) = await mend(report, login)
        assert (one.name, one.done, "DIRECT_URL" in one.problem) == ("rls-forced", (), True)

    async def test_a_privileged_login_keeps_what_it_has(self, own_database, owner, login):
        await plant(owner, login, "login-settings")
        await owner.execute(f"ALTER ROLE {login.user} BYPASSRLS")
        (one,) = await mend(await examine(login, owner=own_database.owner), login, owner=own_database.owner)
        assert (one.name, "is privileged" in one.problem) == ("login-settings", True)


class TestCommand:
    async def test_mends_and_looks_again(self, own_database, owner):
        environment = environment_of(own_database)
        for name in ("rls-forced", "foreign-policies"):
            for statement in PLANTS[name]:
                await owner.execute(statement)
        looked = await asyncio.to_thread(run_command, "doctor", environment=environment)
        assert (looked.returncode, "`derwin-db doctor --fix`, or by hand: ALTER TABLE" in looked.stdout) == (1, True)
        fixed = await asyncio.to_thread(run_command, "doctor", "--fix", environment=environment)
        assert fixed.stdout.splitlines()[0] == "mended  rls-forced: spend_ledger: FORCE ROW LEVEL SECURITY"
        assert (fixed.returncode, "FAIL  foreign-policies" in fixed.stdout) == (1, True)
        await owner.execute("DROP POLICY reports ON public.qa_runs")
        well = await asyncio.to_thread(run_command, "doctor", "--fix", "--json", environment=environment)
        assert (well.returncode, json.loads(well.stdout)["mended"]) == (0, [])


class TestPieces:
    async def test_an_index_that_is_gone_is_no_conflict(self, owner: asyncpg.Connection) -> None:
        with pytest.raises(asyncpg.UndefinedTableError):
            await mending._rebuild(owner, "public.ix_that_is_gone")

    async def test_statistics_before_18_end_with_the_next_analyze(
        self, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def before(connection: asyncpg.Connection) -> object:
            return replace(await read_facts(connection), version=160000)

        monkeypatch.setattr(mending, "read_facts", before)
        await owner.execute("ALTER TABLE qa_runs ALTER COLUMN claimed_by SET STATISTICS 100")
        assert await mending.mend_statistics(owner, "") == ["qa_runs.claimed_by"]
        target = "SELECT attstattarget FROM pg_attribute WHERE attrelid = 'public.qa_runs'::regclass AND attname = 'claimed_by'"
        assert await owner.fetchval(target) == 0


class TestNotMended:
    async def test_nothing_is_by_itself_on_a_distributed_server(self, own_database, owner, monkeypatch):
        async def distributed(connection):
            return replace(await read_facts(connection), is_distributed=True)

        report = await self.broken(own_database, owner)
        monkeypatch.setattr("derwin_db.doctor.mending.read_facts", distributed)

        (one,) = await mend(report, own_database.service, owner=own_database.owner)

        assert (one.done, "on a distributed server nothing is mended by itself" in one.problem) == ((), True)
        assert bad(await examine(own_database.service)) == {"rls-forced"}

    async def test_a_lock_that_is_not_to_be_had_is_told_with_its_finding(self, own_database, owner, monkeypatch):
        report = await self.broken(own_database, owner)
        monkeypatch.setattr(mending, "LOCK_TIMEOUT", "SET lock_timeout = '20ms'; SET search_path = pg_catalog")
        other = await asyncpg.connect(**own_database.owner.connect_arguments())
        try:
            async with other.transaction():
                await other.execute("LOCK TABLE spend_ledger IN ACCESS SHARE MODE")
                (one,) = await mend(report, own_database.service, owner=own_database.owner)
        finally:
            await other.close()

        assert (one.name, one.done) == ("rls-forced", ())
        assert one.problem.startswith("A lock that it needs was not to be had in time")

    async def test_a_server_that_goes_away_is_an_error_of_ours(self, own_database, owner, monkeypatch):
        report = await self.broken(own_database, owner)
        monkeypatch.setattr("derwin_db.doctor.mending.read_facts", end_session)

        with pytest.raises(DatabaseUnavailable):
            await mend(report, own_database.service, owner=own_database.owner)

    @pytest.mark.parametrize(("known", "problem"), [(True, "A sentence."), (False, "The server refused it.")])
    async def test_what_the_server_refuses_otherwise_is_a_sentence(self, monkeypatch, known, problem):
        async def refused(*_):
            raise asyncpg.DivisionByZeroError("canary")

        monkeypatch.setattr("derwin_db.doctor.mending.translate", lambda _: Conflict("A sentence.") if known else None)
        assert await mending_of_findings._mended(None, Mender(refused, "why"), "login") == ((), problem)

    @staticmethod
    async def broken(database, owner):
        for statement in PLANTS["rls-forced"]:
            await owner.execute(statement)
        return await examine(database.service)
