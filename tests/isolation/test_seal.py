"""The sealed scope: forged, stolen, replayed, rotated; and what start-up says of it."""

import asyncio
import base64
import logging
import os
import statistics
import time
from dataclasses import replace

import asyncpg
import pytest

from derwin_db import Database, repos
from derwin_db.deploy import logins, rotation
from derwin_db.errors import ConfigurationError, InvalidInput
from derwin_db.isolation.seal import Kind, Seal
from derwin_db.settings import Settings
from derwin_db.testing.server import url_of
from tests.isolation.fences import make_plain
from tests.isolation.keys_of_old import server_time
from tests.isolation.sealing import sealing_scripts

SCRIPTS = [script for script in sealing_scripts() if script.family == 14]


class TestTheft:
    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
    async def test_is_worth_nothing(self, arena, script):
        await script.run(arena)

    async def test_key_is_closed_to_everybody_in_a_session(self, arena):
        for login in (arena.shared.database.service,):
            connection = await asyncpg.connect(**login.connect_arguments())
            try:
                for role in ("NONE", "derwin_app"):
                    await connection.execute(f"SET ROLE {role}")
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await connection.fetch("SELECT * FROM derwin.scope_key")
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await connection.execute("SELECT derwin.rotate_scope_key()")
            finally:
                await connection.close()

    async def test_seal_shows_no_bytes(self, arena):
        seal = await rotation.read_key(arena.shared.owner)

        assert repr(seal) == "Seal()"
        assert Seal.from_text(seal.to_text()) == seal

    async def test_operator_reads_the_key_and_opens_nothing(self, arena):
        connection = await asyncpg.connect(**arena.shared.database.operator.connect_arguments())
        try:
            await connection.execute("SET ROLE derwin_admin")
            row = await connection.fetchrow("SELECT inner_pad, outer_pad FROM derwin.scope_key")
            token = Seal(*row).token(Kind.OPENS, arena.b.project_id, await server_time(connection), connection.get_server_pid())
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="derwin_open"):
                await connection.execute("SELECT public.derwin_open($1)", token)
        finally:
            await connection.close()


class TestKey:
    async def test_key_as_a_setting(self, arena):
        key = (await rotation.read_key(arena.shared.owner)).to_text()
        url = arena.shared.database.urls["url"]

        async with Database(url, settings=Settings(scope_key=key)) as database, database.project(arena.a.slug) as session:
            assert (await repos.qa_tickets.list(session)).items

    async def test_service_without_a_key_says_what_it_needs(self, own_database):
        with pytest.raises(ConfigurationError, match="DERWIN_SCOPE_KEY"):
            await Database(own_database.urls["url"]).start()

    @pytest.mark.parametrize("key", ["", "x", "AAAA", base64.b64encode(b"x" * 127).decode()])
    async def test_key_that_is_none(self, own_database, key):
        if key:
            with pytest.raises(ConfigurationError, match="DERWIN_SCOPE_KEY is not a key"):
                await Database(own_database.urls["url"], settings=Settings(scope_key=key)).start()
        with pytest.raises(ConfigurationError):
            Seal.from_text(key)

    async def test_wrong_key_opens_nothing(self, arena):
        wrong = Seal(os.urandom(64), os.urandom(64)).to_text()

        async with Database(arena.shared.database.urls["url"], settings=Settings(scope_key=wrong)) as database:
            with pytest.raises(ConfigurationError, match="scope key"):
                async with database.project(arena.a.project_id) as session:
                    await repos.qa_tickets.list(session)


class TestStart:
    async def test_says_sealed(self, own_database, caplog):
        with caplog.at_level(logging.INFO, logger="derwin_db"):
            async with Database(**own_database.urls):
                pass

        assert [record for record in caplog.messages if record.endswith("project scope sealed")]

    async def test_says_plain(self, filled_database, ground, caplog):
        a, b = ground.a, ground.b
        owner = await asyncpg.connect(**filled_database.owner.connect_arguments())
        await make_plain(owner)
        await owner.close()

        with caplog.at_level(logging.INFO, logger="derwin_db"):
            async with Database(**filled_database.urls) as database, database.project(a.project_id) as session:
                assert len((await repos.qa_tickets.list(session)).items) == len(a.rows["qa_tickets"])
                assert await repos.qa_tickets.find(session, b.ids("qa_tickets")[0]) is None

        assert [record for record in caplog.messages if "PLAIN: SQL in a session can set another project" in record]

    async def test_warns_of_a_privileged_login(self, own_database, caplog):
        with caplog.at_level(logging.WARNING, logger="derwin_db"):
            async with Database(own_database.urls["direct_url"]):
                pass

        assert [record for record in caplog.messages if "is privileged" in record]

    async def test_warns_of_a_login_with_both_roles(self, server, own_database, owner, caplog):
        login = f"both_{own_database.owner.database}"
        await owner.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'both'; GRANT derwin_app, derwin_admin TO {login}")
        try:
            with caplog.at_level(logging.WARNING, logger="derwin_db"):
                url = url_of(replace(own_database.owner, user=login, password="both"))
                async with Database(url, direct_url=own_database.urls["direct_url"]):
                    pass
            assert [record for record in caplog.messages if "may become derwin_admin too" in record]
        finally:
            await owner.execute(f"DROP ROLE {login}")


class TestLogins:
    async def test_privileged_login_is_not_brought_into_shape(self, own_database, owner):
        login = f"big_{own_database.owner.database}"
        await owner.execute(f"CREATE ROLE {login} LOGIN BYPASSRLS")
        try:
            with pytest.raises(ConfigurationError, match="is privileged"):
                await logins.create_logins(owner, service=login, operator="never_made")
        finally:
            await owner.execute(f"DROP ROLE {login}")

    async def test_login_that_was_more_is_less_afterwards(self, own_database, owner):
        login = f"more_{own_database.owner.database}"
        await owner.execute(
            f"CREATE ROLE {login} LOGIN CREATEROLE CREATEDB; GRANT derwin_app, derwin_admin TO {login} WITH ADMIN OPTION"
        )
        try:
            await logins.create_logins(owner, service=login, operator=own_database.operator.user)
            row = await owner.fetchrow("SELECT rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = $1", login)
            held = await owner.fetch(
                "SELECT r.rolname, m.admin_option FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid "
                "JOIN pg_roles me ON me.oid = m.member WHERE me.rolname = $1",
                login,
            )
            assert tuple(row) == (False, False)
            assert [tuple(each) for each in held] == [("derwin_app", False)]
        finally:
            await owner.execute(f"DROP ROLE {login}")

    @pytest.mark.parametrize("name", ["", "a b", 'a"b', "Upper", "1st", "x" * 64, "a;drop"])
    async def test_name_that_is_no_name(self, owner, name):
        with pytest.raises(InvalidInput):
            await logins.create_logins(owner, service=name)


class TestTime:
    @pytest.mark.long  # a machine that is busy with other tests has medians of its own
    async def test_absent_and_foreign_take_the_same_time(self, arena):
        """Medians of alternating calls: what is left of a difference is noise."""
        from derwin_db.fields.scalars import new_id

        spent: dict[str, list[float]] = {"foreign": [], "absent": []}
        async with arena.shared.wide.project(arena.a.project_id) as session:
            for turn in range(600):
                name = ("foreign", "absent")[turn % 2]
                row_id = arena.b.ids("qa_tickets")[turn % 10] if name == "foreign" else new_id()
                started = time.perf_counter()
                assert await repos.qa_tickets.find(session, row_id) is None
                spent[name].append(time.perf_counter() - started)
                if turn % 100 == 0:
                    await asyncio.sleep(0)

        foreign, absent = (statistics.median(spent[name]) for name in ("foreign", "absent"))
        assert 0.8 < foreign / absent < 1.25
