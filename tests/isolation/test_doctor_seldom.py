"""What the doctor says where it can't look, or what it looks for is not there at all: a sentence that tells what to do."""

from dataclasses import replace

import asyncpg
import pytest

from derwin_db import doctor, sql
from derwin_db.connection.facts import read_facts
from derwin_db.connection.schema import schema_of
from derwin_db.deploy import embedded, mending
from derwin_db.deploy.embedded import Logins
from derwin_db.doctor import examine, mend
from derwin_db.doctor.fences import check_fences
from derwin_db.errors import DatabaseUnavailable
from derwin_db.settings import Settings
from tests.isolation.test_doctor import PLANTS, bad


async def end_session(connection, *_):
    """Stand for a server that goes away meanwhile."""
    await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def found(report_or_checks, name):
    return next(check for check in getattr(report_or_checks, "checks", report_or_checks) if check.name == name)


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


async def schema_seen(owner):
    return schema_of(sql.HEAD_REVISION, (await read_facts(owner)).schema_note)


class TestMended:
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

    @staticmethod
    async def broken(database, owner):
        for statement in PLANTS["rls-forced"]:
            await owner.execute(statement)
        return await examine(database.service)
