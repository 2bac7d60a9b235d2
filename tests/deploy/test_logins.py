"""Logins: passwords are never part of a statement, and what is stored for a login does not rule its sessions."""

import io
from dataclasses import replace
from uuid import uuid4

import asyncpg
import pytest
import sqlalchemy as sa
import zstandard

from derwin_db import Database, repos
from derwin_db.deploy import citus, fences, logins
from derwin_db.deploy.scram import verifier_of
from derwin_db.doctor import examine
from derwin_db.errors import ConfigurationError, InvalidInput
from derwin_db.models import ProjectCreate
from derwin_db.settings import ConnectionInfo
from derwin_db.testing.examples import example
from derwin_db.testing.factories import create_ticket
from derwin_db.testing.server import url_of
from derwin_db.transfer import export_project
from tests.isolation.pooler import pooled

HOSTILE = {
    "synchronous_commit": "local",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "row_security": "off",
    "search_path": "nowhere",
    "local_preload_libraries": "nothing",
    "TimeZone": "Asia/Kolkata",
    "standard_conforming_strings": "off",
    "enable_indexscan": "off",
    "statement_timeout": "1",
    "exit_on_error": "on",
    "extra_float_digits": "-15",
    "gin_fuzzy_search_limit": "1",
}


@pytest.fixture
async def login(own_database, owner) -> ConnectionInfo:
    """A service's login of one's own, since what is stored for it lasts."""
    name = f"stored_{own_database.owner.database}"
    await logins.create_logins(owner, service=name, operator=own_database.operator.user)
    yield replace(own_database.owner, user=name)
    await owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


class Sent:
    """A connection that keeps what is sent."""

    def __init__(self, connection):
        self._connection = connection
        self.statements = []

    def __getattr__(self, name):
        method = getattr(self._connection, name)

        def call(*arguments):
            self.statements.append(repr(arguments))
            return method(*arguments)

        return call


class TestNames:
    @pytest.mark.parametrize(
        ("names", "words"),
        [
            ({"service": "derwin_app"}, "no login itself"),
            ({"operator": "derwin_admin"}, "no login itself"),
            ({"service": "derwin_one", "operator": "derwin_one"}, "are two"),
            ({"service": "a b"}, "1 to 63"),
            ({"service": ""}, "1 to 63"),
            ({"operator": "1a"}, "1 to 63"),
            ({"operator": "Ada"}, "1 to 63"),
            ({"operator": "a" * 64}, "1 to 63"),
        ],
    )
    async def test_that_are_no_two_logins_are_refused_before_anything_is_done(self, owner, names, words):
        with pytest.raises(InvalidInput, match=words):
            await logins.create_logins(owner, **names, service_password="p", operator_password="p")
        can_log_in = (
            "SELECT count(*) FROM pg_roles WHERE rolcanlogin AND rolname IN ('derwin_app', 'derwin_admin', 'derwin_one')"
        )
        assert await owner.fetchval(can_log_in) == 0

    @pytest.mark.parametrize("name", ["_", "a1", "a" * 63])
    async def test_that_a_login_may_have_are_those_of_none_here(self, owner, name):
        with pytest.raises(ConfigurationError, match=f"{name} is no login of derwin-db"):
            await logins.drop_login(owner, name)

    async def test_no_login_of_a_service_becomes_one_that_reads_everything(self, own_database, owner):
        for login in (own_database.service.user, own_database.operator.user):
            with pytest.raises(ConfigurationError, match="may not read everything"):
                await logins.create_backup_login(owner, login=login)
        for role in ("derwin_app", "derwin_admin"):
            with pytest.raises(InvalidInput, match="no login itself"):
                await logins.create_backup_login(owner, login=role)
        past = "SELECT count(*) FROM pg_roles WHERE rolbypassrls AND rolname = ANY($1)"
        assert (
            await owner.fetchval(past, [own_database.service.user, own_database.operator.user, "derwin_app", "derwin_admin"])
            == 0
        )


class TestPasswords:
    async def test_no_statement_holds_one(self, server, own_database, owner):
        names = [f"{kind}_{own_database.owner.database}" for kind in ("s", "o", "b")]
        sent = Sent(owner)
        try:
            await logins.create_logins(
                sent, service=names[0], operator=names[1], service_password="hidden-1", operator_password="hidden-2"
            )
            await logins.create_logins(sent, service=names[0], operator=names[1], service_password="hidden-3")
            await logins.create_backup_login(sent, login=names[2], password="hidden-4")
        finally:
            for name in names:
                await owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")

        assert len(sent.statements) > 10
        assert "hidden" not in "".join(sent.statements)

    def test_a_verifier_is_what_the_server_takes_for_the_password(self, server):
        """Checked as a server does: the client's proof from the password fits the stored key."""
        import base64
        import hashlib
        import hmac
        import re

        form = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)", verifier_of("pencil"))
        salted = hashlib.pbkdf2_hmac("sha256", b"pencil", base64.b64decode(form[2]), int(form[1]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        assert base64.b64decode(form[3]) == hashlib.sha256(key).digest()
        assert base64.b64decode(form[4]) == hmac.digest(salted, b"Server Key", "sha256")
        assert verifier_of("pencil") != verifier_of("pencil")

    async def test_the_server_stores_it_as_it_is(self, own_database, owner):
        name = f"verified_{own_database.owner.database}"
        verifier = verifier_of("pencil")
        await owner.execute(f"CREATE ROLE {name} PASSWORD '{verifier}'")
        try:
            assert await owner.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = $1", name) == verifier
        finally:
            await owner.execute(f"DROP ROLE {name}")

    @pytest.mark.parametrize("password", ["", "pässword", "a\nb", "a'b\0"])
    def test_what_clients_normalise_is_refused(self, password):
        with pytest.raises(InvalidInput):
            verifier_of(password)


class TestStoredSettings:
    async def store(self, login, settings=HOSTILE):
        """As SQL in a session can, which has left the role."""
        connection = await asyncpg.connect(**login.connect_arguments())
        for name, value in settings.items():
            await connection.execute(f"ALTER ROLE {login.user} SET {name} = '{value}'")
            where = f'IN DATABASE "{login.database}"'
            await connection.execute(f"ALTER ROLE {login.user} {where} SET {name} = '{value}'")
        await connection.close()

    async def seen(self, database, slug):
        names = [name for name in HOSTILE if name not in {"default_transaction_read_only", "default_transaction_isolation"}]
        async with database.project(slug) as session:
            run = await repos.qa_runs.enqueue(session, example(repos.qa_runs.create_model, marker="stored"))
            assert await repos.qa_runs.exists(session, run.id)
            query = ", ".join(f"current_setting('{name}')" for name in (*names, "transaction_isolation"))
            return tuple((await session.sql.execute(sa.text(f"SELECT {query}"))).one())

    @pytest.mark.parametrize("way", ["direct", "pooled"])
    async def test_do_not_rule_the_sessions_of_a_service(self, own_database, login, owner, way):
        rest = {name: url for name, url in own_database.urls.items() if name != "url"}
        async with Database(url_of(login), **rest) as database:
            async with database.admin(reason="a test") as admin:
                project = await repos.projects.create(admin, example(ProjectCreate, marker="stored"))
            before = await self.seen(database, project.slug)
        at_the_start = {"local_preload_libraries", "statement_timeout", "exit_on_error"}  # of the pooler's own connections
        hostile = {name: value for name, value in HOSTILE.items() if way == "direct" or name not in at_the_start}
        await self.store(login, hostile)
        if way == "direct":
            async with Database(url_of(login), **rest) as database:
                after = await self.seen(database, project.slug)
        else:
            async with pooled(login) as (_, info), Database(url_of(info), **rest) as database:
                after = await self.seen(database, project.slug)
        assert after[0] in {before[0], "on"}
        zones = {"GMT", "Etc/UTC", await owner.fetchval("SHOW TimeZone")}  # the server's own, and the one of its file
        assert [value for value in after[1:] if value not in zones] == [value for value in before[1:] if value not in zones]

    async def test_those_of_a_running_service_neither(self, own_database, login, owner):
        rest = {name: url for name, url in own_database.urls.items() if name != "url"}
        async with Database(url_of(login), **rest) as database:
            async with database.admin(reason="a test") as admin:
                project = await repos.projects.create(admin, example(ProjectCreate, marker="running"))
            before = await self.seen(database, project.slug)
            await self.store(login)
            (await database.app_pool(read_only=False)).pool.forget_idle()
            after = await self.seen(database, project.slug)

        zones = {"GMT", "Etc/UTC", await owner.fetchval("SHOW TimeZone")}
        assert [value for value in after if value not in zones] == [value for value in before if value not in zones]

    async def test_do_not_round_what_is_exported(self, own_database, login):
        """Rows travel as text: digits that are left out there are lost, and nothing says so."""
        rest = {name: url for name, url in own_database.urls.items() if name != "url"}
        async with Database(url_of(login), **rest) as database:
            async with database.admin(reason="a test") as admin:
                project = await repos.projects.create(admin, example(ProjectCreate, marker="digits"))
            async with database.project(project.slug) as session:
                await create_ticket(session, confidence=0.123456789012345)
            await self.store(login, {"extra_float_digits": "-15"})
            (await database.app_pool(read_only=False)).pool.forget_idle()
            file = io.BytesIO()
            await export_project(database, project.slug, file)

        text = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(file.getvalue())).read().decode()
        assert "0.123456789012345" in text

    async def test_one_that_ends_sessions_on_errors_does_not_keep_a_service_from_starting(self, own_database, login):
        await self.store(login, {"exit_on_error": "on"})
        rest = {name: url for name, url in own_database.urls.items() if name != "url"}
        async with Database(url_of(login), **rest) as database:
            await database.start()

    async def test_a_backslash_ends_no_constant(self, own_database, login):
        """As it would where a login that turned standard_conforming_strings off were taken at its word."""
        await self.store(login, {"standard_conforming_strings": "off", "backslash_quote": "on", "escape_string_warning": "off"})
        plain = await asyncpg.connect(**login.connect_arguments())
        assert await plain.fetchval("SHOW standard_conforming_strings") == "off"
        await plain.close()
        rest = {name: url for name, url in own_database.urls.items() if name != "url"}
        async with Database(url_of(login), **rest) as database:
            async with database.admin(reason="a test") as admin:
                project = await repos.projects.create(admin, example(ProjectCreate, marker="escapes"))
            async with database.project(project.slug) as session:
                for text in ("\\' OR true --", "\\", "a\\'b\\\\''"):
                    constant = sa.literal(text, sa.Text(), literal_execute=True)
                    assert await session.sql.scalar(sa.select(constant)) == text
                    quoted = text.replace("'", "''")
                    assert (await session.sql.execute(sa.text(f"SELECT '{quoted}', 1"))).one() == (text, 1)

    async def test_are_seen_at_start_and_by_doctor_and_reset(self, own_database, owner, login, caplog):
        await self.store(login, {name: value for name, value in HOSTILE.items() if name != "statement_timeout"})
        rest = {name: url for name, url in own_database.urls.items() if name != "url"}
        async with Database(url_of(login), **rest):
            pass
        assert "Settings are stored for the login" in caplog.text
        assert "synchronous_commit" in caplog.text
        report = await examine(login, owner=own_database.owner)
        assert [check.name for check in report.checks if not check.ok] == ["login-settings"]

        await logins.create_logins(owner, service=login.user, operator=own_database.operator.user)

        assert (await examine(login, owner=own_database.owner)).ok
        assert await owner.fetchval("SELECT count(*) FROM pg_db_role_setting WHERE setrole = to_regrole($1)", login.user) == 0


class TestTidied:
    async def test_one_that_may_become_nothing_stays_so(self, owner: asyncpg.Connection) -> None:
        login = f"tidied_{uuid4().hex[:8]}"
        await owner.execute(f"CREATE ROLE {login} LOGIN INHERIT; ALTER ROLE {login} SET work_mem = '1MB'")
        try:
            await logins.tidy_login(owner, login)
            assert not await owner.fetchval("SELECT pg_has_role($1, 'derwin_app', 'MEMBER')", login)
            assert await owner.fetchval("SELECT NOT rolinherit FROM pg_roles WHERE rolname = $1", login)
        finally:
            await owner.execute(f"DROP ROLE {login}")

    async def test_what_takes_a_superuser_is_left_by_others(self, owner: asyncpg.Connection) -> None:
        await owner.execute("GRANT EXECUTE ON FUNCTION pg_catalog.lo_creat(integer) TO PUBLIC; SET ROLE derwin_app")
        assert await fences._close(owner, is_sealed=True) == []
        await citus._close_nodes(owner)
        assert await owner.fetchval("SELECT has_function_privilege('pg_catalog.lo_creat(integer)', 'EXECUTE')")
