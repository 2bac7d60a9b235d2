"""Passwords that change while a service runs: of a function, of a file, read for each new connection, shown to nobody."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from derwin_db import Database, repos
from derwin_db.deploy import logins
from derwin_db.deploy.scram import verifier_of
from derwin_db.errors import ConfigurationError, Conflict, DatabaseUnavailable, DerwinError
from derwin_db.settings import ConnectionInfo, Settings
from derwin_db.testing import TestDatabase
from derwin_db.testing.server import url_of
from tests.faults.load import new_project
from tests.faults.victim import Victim, own

FIRST, SECOND = "the-first-secret", "the-second-secret"


@pytest.fixture
async def strict(victim: Victim, database: TestDatabase) -> AsyncIterator[TestDatabase]:
    """The service's login needs a password; the others go without, as before."""
    file = victim.data / "pg_hba.conf"
    before = file.read_text()
    file.write_text(f"local all {database.service.user} scram-sha-256\n{before}")
    own(file)
    await change(victim, database, FIRST)
    yield database
    file.write_text(before)
    await victim.fetch("SELECT pg_reload_conf()")


async def change(victim: Victim, database: TestDatabase, password: str) -> None:
    await victim.fetch(f"ALTER ROLE {database.service.user} PASSWORD '{verifier_of(password)}'")
    await victim.fetch("SELECT pg_reload_conf()")


def opened(database: TestDatabase, query: str = "", **options: Any) -> Database:
    """A `Database` whose URL has no password."""
    service = database.service
    url = f"postgresql://{service.user}@/{service.database}?host={service.host}&port={service.port}{query}"
    return Database(url, admin_url=url_of(database.operator), direct_url=url_of(database.owner), **options)


async def reads(db: Database, project: Any) -> None:
    async with db.project(project) as session:
        await repos.qa_tickets.count(session)


class TestFunction:
    @pytest.mark.parametrize("kind", ["a function", "a coroutine function"])
    async def test_is_called_for_each_new_connection(self, strict: TestDatabase, victim: Victim, kind: str) -> None:
        asked: list[ConnectionInfo] = []
        now = [FIRST]

        def password(login: ConnectionInfo) -> str:
            asked.append(login)
            return now[0]

        async def later(login: ConnectionInfo) -> str:
            return password(login)

        async with opened(strict, password=later if kind.startswith("a coroutine") else password) as db:
            project = (await new_project(db)).id
            await reads(db, project)
            await db.pools()[0]._ender._looking  # on a connection of its own, beside the first unit
            of_service = [login for login in asked if login.user == strict.service.user]
            await reads(db, project)  # on the connection that is there
            assert [login for login in asked if login.user == strict.service.user] == of_service
            await change(victim, strict, SECOND)
            now[0] = SECOND
            db.pools()[0].forget_idle()
            await reads(db, project)
            assert len([login for login in asked if login.user == strict.service.user]) == len(of_service) + 1
        assert all((login.database, login.host) == (strict.service.database, strict.service.host) for login in asked)

    @pytest.mark.parametrize(
        ("answer", "said"),
        [(RuntimeError(SECOND), "failed: RuntimeError"), ("", "gave none"), (None, "gave none"), (b"x", "gave none")],
    )
    async def test_that_fails_is_one_sentence_without_the_password(
        self, strict: TestDatabase, answer: Any, said: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        def password(_login: ConnectionInfo) -> str:
            if isinstance(answer, Exception):
                raise answer
            return answer

        with caplog.at_level(logging.DEBUG), pytest.raises(DatabaseUnavailable, match=said) as caught:
            await opened(strict, password=password).start()
        assert (
            SECOND not in f"{caught.value!r} {caught.value} {caught.value.__cause__} {caught.value.__context__} {caplog.text}"
        )

    async def test_that_takes_too_long(self, strict: TestDatabase) -> None:
        async def password(_login: ConnectionInfo) -> str:
            await asyncio.sleep(60)
            return FIRST

        settings = Settings(connect_timeout=0.1)
        with pytest.raises(DatabaseUnavailable, match=r"did not come within 0\.1 s"):
            await opened(strict, password=password, settings=settings).start()

    async def test_wrong_one_is_shown_nowhere(self, strict: TestDatabase, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.DEBUG), pytest.raises(DerwinError) as caught:
            await opened(strict, password=lambda _: SECOND).start()
        assert isinstance(caught.value, ConfigurationError)
        assert SECOND not in f"{caught.value} {caplog.text}"


class TestFile:
    async def test_is_read_at_each_connect_and_a_rotation_leaves_no_gap(
        self, strict: TestDatabase, victim: Victim, tmp_path: Path
    ) -> None:
        """The server has the new password first, the file a moment later: who connects meanwhile waits, and fails not."""
        (tmp_path / strict.service.user).write_text(f"{FIRST}\n")
        settings = Settings(password_file=tmp_path / "{user}", pool_timeout=20.0)
        operator = tmp_path / strict.operator.user
        operator.write_text("any")
        (tmp_path / strict.owner.user).write_text("any")
        async with opened(strict, settings=settings) as db:
            project = (await new_project(db)).id
            await change(victim, strict, SECOND)
            db.pools()[0].forget_idle()
            waiting = asyncio.create_task(reads(db, project))
            while not any(waiter.refusal for waiter in db.pools()[0]._waiters):
                await asyncio.sleep(0.01)
            (tmp_path / strict.service.user).write_text(SECOND)
            await waiting

    async def test_that_is_not_there(self, strict: TestDatabase, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="password_file that is not on this machine"):
            opened(strict, f"&password_file={tmp_path}/nothing")
        (tmp_path / "password").write_text(FIRST)
        db = opened(strict, f"&password_file={tmp_path}/password")
        (tmp_path / "password").unlink()
        with pytest.raises(DatabaseUnavailable, match="The file of password_file can't be used: No such file or directory"):
            await db.start()

    async def test_wrong_for_too_long_says_so_without_it(self, strict: TestDatabase, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_text(FIRST)
        async with opened(strict, f"&password_file={file}") as db:
            project = (await new_project(db)).id
        async with opened(strict, f"&password_file={file}", settings=Settings(pool_timeout=2)) as db:
            file.write_text(SECOND)
            db.pools()[0].forget_idle()
            with pytest.raises(DatabaseUnavailable, match="refused the password that was fetched") as caught:
                await reads(db, project)
        assert SECOND not in str(caught.value)


class TestTwoLogins:
    """A password that is part of the URL is rotated with a second login: both are good for a while."""

    async def test_take_turns_without_a_gap(self, database: TestDatabase, victim: Victim) -> None:
        owner = await asyncpg.connect(**database.owner.connect_arguments())
        former, newest = (replace(database.service, user=f"service_{letter}", password=letter * 20) for letter in "ab")
        for login in (former, newest):
            await logins.create_logins(owner, service=login.user, operator="operator_ab", service_password=login.password)
        admin = {"direct_url": url_of(database.owner)}
        try:
            async with Database(url_of(former), **admin) as old, Database(url_of(newest), **admin) as new:
                project = (await new_project(old)).id
                await reads(old, project)
                await reads(new, project)
                with pytest.raises(Conflict, match="is in use"):
                    await logins.drop_login(owner, former.user)
                await reads(old, project)
                await old.close()
                assert await victim.until_quiet(former.user) == 0
                await logins.drop_login(owner, former.user)
                new.pools()[0].forget_idle()
                await reads(new, project)
            for none_of_ours in (database.owner.user, former.user, "pg_monitor"):
                with pytest.raises(ConfigurationError, match="no login of derwin-db"):
                    await logins.drop_login(owner, none_of_ours)
        finally:
            await owner.close()
