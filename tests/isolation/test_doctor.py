"""`doctor`: each thing that can be wrong, planted in a database of its own and found by name; nothing else is said."""

import asyncio
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import asyncpg
import pytest

from derwin_db import doctor, sql
from derwin_db.connection.facts import read_facts
from derwin_db.connection.schema import schema_of
from derwin_db.deploy import embedded
from derwin_db.deploy.embedded import Logins
from derwin_db.deploy.migrations import MigrationSettings, downgrade, upgrade
from derwin_db.doctor import Check, Report, examine, fences
from derwin_db.doctor.fences import check_fences
from derwin_db.doctor.server import check_server
from derwin_db.errors import ConfigurationError
from derwin_db.isolation.preamble import LONGEST_PAD
from derwin_db.settings import ConnectionInfo, Settings
from tests.isolation.fences import make_plain
from tests.isolation.pooler import pooled

PLANTS = {
    "rls-enabled": ("ALTER TABLE public.qa_tickets DISABLE ROW LEVEL SECURITY",),
    "rls-forced": ("ALTER TABLE public.spend_ledger NO FORCE ROW LEVEL SECURITY",),
    "policies": ("ALTER POLICY derwin_scope ON public.rag_corpus USING (true)",),
    "foreign-policies": ("CREATE POLICY reports ON public.qa_runs FOR SELECT USING (true)",),
    "unfenced-tables": ("CREATE TABLE public.comments (project_id uuid, id uuid, text text)",),
    "own-tables": (
        "CREATE TABLE public.hooks (project_id uuid, id uuid, PRIMARY KEY (project_id, id))",
        "ALTER TABLE public.hooks ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        (
            "CREATE POLICY derwin_scope ON public.hooks AS RESTRICTIVE TO derwin_app"
            " USING (project_id = (SELECT public.derwin_scope())) WITH CHECK (project_id = (SELECT public.derwin_scope()))"
        ),
        "CREATE POLICY derwin_admin_reads ON public.hooks FOR SELECT TO derwin_admin USING (true)",
    ),
    "views": ("CREATE VIEW public.all_tickets AS SELECT * FROM public.qa_tickets",),
    "definer-functions": (
        "CREATE FUNCTION public.all_of_it() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM projects'",
    ),
    "functions": ("ALTER FUNCTION public.derwin_scope() RESET search_path",),
    "grants": ("GRANT TRUNCATE ON public.qa_tickets TO derwin_app",),
    "grants-missing": ("REVOKE DELETE ON public.qa_tickets FROM derwin_app",),
    "outer-grants": ('GRANT TEMPORARY ON DATABASE "{database}" TO PUBLIC',),
    "seal-grants": ("GRANT EXECUTE ON FUNCTION public.derwin_open(text) TO PUBLIC",),
    "keys": ("CREATE UNIQUE INDEX by_hash ON public.ingested_docs (content_hash)",),
    "foreign-keys": (
        "CREATE UNIQUE INDEX by_id ON public.qa_runs (project_id, id)",
        "ALTER TABLE public.raw_signals DROP CONSTRAINT fk_raw_signals_run_id",
    ),
    "statistics": ("ALTER TABLE public.qa_tickets ALTER COLUMN title SET STATISTICS 100",),
    "shared-stores": ("SELECT lo_create(0)",),
    "shared-signals": ("GRANT EXECUTE ON FUNCTION pg_catalog.pg_terminate_backend(int, bigint) TO PUBLIC",),
    "drop-owned": ("ALTER EVENT TRIGGER derwin_keep_fences DISABLE",),
    "triggers": ("ALTER TABLE public.spend_ledger DISABLE TRIGGER derwin_append_only_row",),
    "indexes": (
        "UPDATE pg_catalog.pg_index SET indisvalid = false WHERE indexrelid = 'public.ix_rag_corpus_bits'::regclass",
    ),
    "login-superuser": ("ALTER ROLE {login} SUPERUSER",),
    "login-bypassrls": ("ALTER ROLE {login} BYPASSRLS",),
    "login-owner": ("ALTER TABLE public.qa_tickets OWNER TO {login}",),
    "login-member": ("GRANT pg_read_all_data TO {login}",),
    "login-admin": ("GRANT derwin_admin TO {login}",),
    "login-password": ("ALTER ROLE {login} PASSWORD 'chosen'",),
    "login-attributes": ("ALTER ROLE {login} CREATEROLE",),
    "login-settings": ("ALTER ROLE {login} SET synchronous_commit = off",),
    "login-role": ("REVOKE derwin_app FROM {login}",),
    "roles": ('ALTER DATABASE "{database}" OWNER TO derwin_admin',),
    "schema": ("UPDATE public.derwin_alembic_version SET version_num = 'a1f0c3d95b27'",),
    "pgvector": ("DROP EXTENSION vector CASCADE",),
}  # fmt: skip
"""What is planted for each check; the server's own ones, and the seal's, have tests of their own below."""

ALSO_SAID = {
    "login-superuser": {"outer-grants"},
    "login-owner": set(),
    "login-role": set(),
    "roles": {"outer-grants"},
    "rls-enabled": set(),
}
"""What the same plant makes true besides."""


@pytest.fixture
async def login(server, own_database, owner):
    """A login of one's own: the shared one is used by other tests."""
    from derwin_db.deploy import logins

    name = f"service_{own_database.owner.database}"
    await logins.create_logins(owner, service=name, operator=own_database.operator.user, service_password="secret")
    yield replace(own_database.owner, user=name, password="secret")
    await owner.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}; DROP ROLE {name}")


def bad(report: Report) -> set[str]:
    return {check.name for check in report.checks if not check.ok}


class TestHealthy:
    async def test_database_has_no_finding(self, own_database):
        for owner in (None, own_database.owner):
            report = await examine(own_database.service, owner=owner)

            assert report.ok, [check for check in report.checks if not check.ok]

    async def test_owner_sees_no_less_than_the_service(self, own_database):
        names = [
            [check.name for check in (await examine(own_database.service, owner=owner)).checks]
            for owner in (None, own_database.owner)
        ]

        assert names[0] == names[1]

    async def test_report_is_plain_data(self, own_database):
        report = await examine(own_database.service)

        assert asdict(report)["ok"] is True
        assert {frozenset(check) for check in asdict(report)["checks"]} == {frozenset({"name", "ok", "detail", "fix"})}
        assert len({check.name for check in report.checks}) == len(report.checks)

    async def test_every_check_is_planted_somewhere(self, own_database):
        report = await examine(own_database.service)

        own_tests = {
            "server", "server-version", "pooler", "scope-sealed", "scope-key", "activity-size", "login-inherits", "own-tables",
        }  # fmt: skip
        assert {check.name for check in report.checks} == set(PLANTS) | own_tests

    async def test_statistics_are_said_to_be_visible(self, own_database):
        report = await examine(own_database.service)

        note = next(check for check in report.checks if check.name == "statistics")
        assert note.ok
        assert "counts of rows" in note.detail


class TestPlanted:
    @pytest.mark.parametrize("name", PLANTS)
    async def test_is_found_by_name(self, own_database, owner, login, name):
        for statement in PLANTS[name]:
            await owner.execute(statement.format(login=login.user, database=own_database.owner.database))
        try:
            through_service = await examine(login) if name not in ("login-role", "login-password") else None
            report = await examine(login, owner=own_database.owner)
        finally:
            await owner.execute(f"ALTER ROLE {login.user} NOSUPERUSER NOBYPASSRLS NOCREATEROLE")
            if name == "roles":
                await owner.execute(f'ALTER DATABASE "{own_database.owner.database}" OWNER TO CURRENT_USER')

        assert not report.ok
        assert name in bad(report)
        assert bad(report) <= {name} | ALSO_SAID.get(name, set()) | ({"keys", "triggers"} if name == "pgvector" else set())
        found = next(check for check in report.checks if check.name == name)
        assert found.fix
        assert found.detail
        if through_service is not None:
            assert name in bad(through_service)

    @pytest.mark.parametrize("attribute", ["CREATEROLE", "CREATEDB", "REPLICATION"])
    async def test_login_that_has_an_attribute_is_told_which(self, own_database, owner, login, attribute):
        await owner.execute(f"ALTER ROLE {login.user} {attribute}")
        try:
            report = await examine(login, owner=own_database.owner)
        finally:
            await owner.execute(f"ALTER ROLE {login.user} NO{attribute}")
        check = found(report, "login-attributes")
        assert (check.ok, check.detail) == (False, f"it has {attribute}")

    async def test_login_that_inherits(self, own_database, owner, login):
        await owner.execute(f"ALTER ROLE {login.user} INHERIT")
        version = await owner.fetchval("SELECT current_setting('server_version_num')::int")
        await owner.execute(f"GRANT derwin_app TO {login.user}" + " WITH INHERIT TRUE" * (version >= 160000))

        assert bad(await examine(login)) == {"login-inherits"}

    async def test_unsealed_scope(self, own_database, owner):
        await make_plain(owner)

        assert bad(await examine(own_database.service)) == {"scope-sealed"}

    async def test_partition_and_table_in_another_schema(self, own_database, owner):
        await owner.execute(
            "CREATE SCHEMA more; CREATE TABLE more.notes (project_id uuid, id uuid) PARTITION BY HASH (project_id);"
            "CREATE TABLE more.notes_0 PARTITION OF more.notes FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
        )

        report = await examine(own_database.service)

        detail = next(check.detail for check in report.checks if check.name == "unfenced-tables")
        assert detail == "more.notes; more.notes_0"

    async def test_table_that_is_fenced_is_no_finding(self, own_database, owner):
        from derwin_db import sql

        await owner.execute("CREATE TABLE public.comments (project_id uuid, id uuid, PRIMARY KEY (project_id, id))")
        for statement in sql.read("table_policies_sealed.v1", table="comments"):
            await owner.execute(statement)

        assert (await examine(own_database.service)).ok

    async def test_views_are_named_by_their_kind(self, own_database, owner):
        await owner.execute("CREATE VIEW public.shown AS SELECT * FROM public.qa_tickets")
        await owner.execute("CREATE MATERIALIZED VIEW public.copied AS SELECT * FROM public.qa_tickets")

        views = found(await examine(own_database.service), "views")
        assert views.detail == "the materialized view public.copied; the view public.shown"

    async def test_view_that_asks_as_the_caller_is_no_finding(self, own_database, owner):
        await owner.execute("CREATE VIEW public.mine WITH (security_invoker = true) AS SELECT * FROM public.qa_tickets")

        assert (await examine(own_database.service)).ok


class TestServer:
    async def test_nobody_listens(self, own_database):
        nowhere = ConnectionInfo(host="127.0.0.1", port=1, user="nobody", database="nothing", password="hidden")

        report = await examine(nowhere, Settings(connect_timeout=1))

        assert report.checks == (Check("server", False, report.checks[0].detail, report.checks[0].fix),)
        assert "hidden" not in repr(report)

    async def test_owner_that_cannot_be_reached(self, own_database):
        nowhere = ConnectionInfo(host="127.0.0.1", port=1, user="nobody", database="nothing")

        report = await examine(own_database.service, Settings(connect_timeout=1), owner=nowhere)

        assert bad(report) == {"server"}

    async def test_database_that_is_not_there(self, own_database):
        report = await examine(replace(own_database.owner, database="never_made"))

        assert bad(report) == {"server"}
        assert "does not exist" in report.checks[0].detail

    async def test_empty_database(self, server):
        database = await asyncio.to_thread(server.empty)

        report = await examine(database.service, owner=database.owner)

        assert bad(report) == {"schema", "pgvector"}
        assert "derwin-db migrate" in next(check.fix for check in report.checks if check.name == "schema")

    async def test_database_before_the_fences(self, server):
        database = await asyncio.to_thread(server.empty)
        await asyncio.to_thread(upgrade, MigrationSettings(database.owner))
        await asyncio.to_thread(downgrade, MigrationSettings(database.owner), "a1f0c3d95b27")

        report = await examine(database.service, owner=database.owner)

        assert "schema" in bad(report)

    async def test_transaction_pooler_that_is_not_declared(self, own_database):
        async with pooled(own_database.service) as (_, info):
            declared = await examine(info)
            silent = await examine(replace(info, is_pooled=False))

        assert declared.ok
        assert bad(silent) == {"pooler"}

    async def test_urls_of_the_environment(self, own_database, monkeypatch):
        for name, url in zip(("DATABASE_URL", "ADMIN_URL", "DIRECT_URL"), own_database.urls.values(), strict=True):
            monkeypatch.setenv(name, url)

        assert (await examine()).ok

    async def test_url_that_is_none(self, monkeypatch):
        monkeypatch.setenv("DATABASE_URL", "nonsense")

        with pytest.raises(ConfigurationError):
            await examine()


class TestSettingsOfTheServer:
    async def test_activity_size_above_what_the_preamble_covers(self):
        """A server of its own: the setting needs a restart."""
        with tempfile.TemporaryDirectory(prefix="derwin-size-") as folder:
            data = Path(folder) / "data"
            logins = await asyncio.to_thread(embedded.start, data)
            try:
                connection = await asyncpg.connect(**logins.owner.connect_arguments())
                await connection.execute("ALTER SYSTEM SET track_activity_query_size = 16384")
                await connection.execute("ALTER SYSTEM SET fsync = off")
                await connection.close()
                await asyncio.to_thread(embedded.stop, data)
                logins = await asyncio.to_thread(embedded.start, data)
                await asyncio.to_thread(upgrade, MigrationSettings(logins.owner))

                report = await examine(logins.service, owner=logins.owner)
            finally:
                await asyncio.to_thread(embedded.stop, data)

        assert bad(report) == {"activity-size"}


async def end_session(connection, *_):
    """Stand for a server that goes away meanwhile."""
    await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def found(report_or_checks, name):
    return next(check for check in getattr(report_or_checks, "checks", report_or_checks) if check.name == name)


async def schema_seen(owner):
    return schema_of(sql.HEAD_REVISION, (await read_facts(owner)).schema_note)


class TestExamined:
    async def test_without_a_url_is_the_embedded_server(self, own_database, monkeypatch):
        logins = Logins(own_database.owner, own_database.service, own_database.operator)
        monkeypatch.setattr(embedded, "start", lambda _: logins)
        for name in ("DATABASE_URL", "ADMIN_URL", "DIRECT_URL", "READ_URL"):
            monkeypatch.delenv(name, raising=False)

        report = await examine(settings=Settings())

        assert report.ok
        assert found(report, "urls").detail == "none is set: the embedded server"

    async def test_a_server_that_goes_away_is_a_finding(self, own_database, monkeypatch):
        monkeypatch.setattr(doctor, "check_server", end_session)

        report = await examine(own_database.owner)

        assert bad(report) == {"server"}
        assert "connection" in found(report, "server").detail

    @pytest.mark.parametrize(
        ("name", "facts", "detail"),
        [
            ("server-version", {"version": 159999}, "PostgreSQL 15 is too old"),
            ("server-version", {"version": 160000}, None),
            ("pgvector", {"vector_version": None}, "the extension vector is not there"),
        ],
    )
    async def test_a_server_that_is_too_old_or_lacks_something_is_a_finding(
        self, own_database, owner, monkeypatch, name, facts, detail
    ):
        seen = replace(await read_facts(owner), **facts)

        async def read(_):
            return seen

        monkeypatch.setattr("derwin_db.doctor.server.read_facts", read)
        check = found(await check_server(owner, own_database.service), name)
        assert (check.ok, None if check.ok else check.detail) == (detail is None, detail)

    @pytest.mark.parametrize(
        ("sealed", "size", "is_well"),
        [(True, LONGEST_PAD, True), (True, LONGEST_PAD + 1, False), (False, LONGEST_PAD + 1, True)],
    )
    async def test_a_statement_that_is_shown_whole_is_a_finding_where_it_holds_a_token(self, owner, sealed, size, is_well):
        checks = fences._check_seal(replace(await read_facts(owner), is_sealed=sealed, activity_query_size=size))
        assert [check.ok for check in checks] == [sealed, is_well]

    async def test_a_revision_that_nobody_may_read_is_said_so(self, own_database, owner):
        await owner.execute("REVOKE ALL ON derwin_alembic_version FROM PUBLIC, derwin_app")

        report = await examine(own_database.service)

        assert bad(report) == {"schema"}
        assert found(report, "schema").detail == "a revision that this login can't read"
        assert (await examine(own_database.service, owner=own_database.owner)).checks[3].ok

    async def test_revisions_that_do_not_end_where_the_code_says(self, own_database, monkeypatch):
        head = sql.HEAD_REVISION
        monkeypatch.setattr(sql, "HEAD_REVISION", "000000000000")

        check = found(await examine(own_database.service), "schema")

        assert (check.ok, check.fix) == (False, "the revisions in alembic/versions")
        assert check.detail == f"The newest revision is {head}, and this code expects 000000000000: set HEAD_REVISION"

    async def test_a_foreign_key_that_was_never_validated_is_a_finding(self, own_database, owner):
        await owner.execute("UPDATE pg_catalog.pg_constraint SET convalidated = false WHERE conname = 'fk_raw_signals_run_id'")

        check = found(await examine(own_database.service, owner=own_database.owner), "foreign-keys")

        assert (check.ok, "fk_raw_signals_run_id of raw_signals is not validated" in check.detail) == (False, True)


class TestMissing:
    """Roles are of the whole server: they are away in a transaction alone."""

    async def test_login_is_a_finding(self, owner):
        async with owner.transaction(readonly=True):
            await owner.execute("SET LOCAL search_path = pg_catalog")
            checks = await check_fences(owner, "nobody_has_this_name", await schema_seen(owner))

        assert found(checks, "login-role").detail == "the login is not in pg_roles"
        assert {check.name for check in checks if not check.ok} == {"login-role"}

    async def test_roles_are_a_finding(self, own_database, owner):
        transaction = owner.transaction()
        await transaction.start()
        try:
            for name in ("derwin_app", "derwin_admin"):
                await owner.execute(f"ALTER ROLE {name} RENAME TO {name}_of_old")
            await owner.execute("SET LOCAL search_path = pg_catalog")
            checks = await check_fences(owner, own_database.service.user, await schema_seen(owner))
        finally:
            await transaction.rollback()

        assert found(checks, "roles").detail == "derwin_app is missing; derwin_admin is missing"
