"""What a service is told at its start of a database, a login or a moment that it can't serve with."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from derwin_db import Database, repos
from derwin_db import database as module
from derwin_db.connection import facts
from derwin_db.connection.ending import Ender
from derwin_db.connection.pool import DataSource
from derwin_db.connection.replica import Replica
from derwin_db.errors import ConfigurationError, DatabaseTimeout, DatabaseUnavailable, ExtensionMissing, SchemaOutOfDate
from derwin_db.isolation.catalog import logins, standing
from derwin_db.isolation.keys import KeyRing
from derwin_db.isolation.preamble import ADMIN_ROLE, ScopeForm
from derwin_db.isolation.seal import Seal
from derwin_db.models import Project
from derwin_db.settings import ConnectionInfo, Settings
from derwin_db.testing import TestDatabase
from derwin_db.testing.server import url_of
from derwin_db.translation.debug import _Switch


class TestDatabaseThatCanNotBeServed:
    async def test_without_pgvector(self, own_database: TestDatabase, owner: asyncpg.Connection) -> None:
        await owner.execute("DROP EXTENSION vector CASCADE")
        with pytest.raises(ExtensionMissing):
            await Database(**own_database.urls).start()

    async def test_of_before_its_revision_had_a_table_of_its_own(
        self, own_database: TestDatabase, owner: asyncpg.Connection
    ) -> None:
        await owner.execute(
            "ALTER TABLE public.derwin_alembic_version RENAME TO alembic_version;"
            "UPDATE public.alembic_version SET version_num = 'a1f0c3d95b27'"
        )
        with pytest.raises(SchemaOutOfDate, match="a1f0c3d95b27"):
            await Database(**own_database.urls).start()

    async def test_without_the_role_of_units(self, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(standing, "APP_ROLE", "no_such_role")
        async with owner.transaction():
            await owner.execute("SET LOCAL search_path = pg_catalog")
            assert await standing.missing_fences(owner, ScopeForm.SEALED) == ["there is no role no_such_role"]


class TestPasswords:
    async def test_of_a_login_that_was_made_by_hand_nobody_knows_whose_it_is(self, owner: asyncpg.Connection) -> None:
        login = f"by_hand_{await owner.fetchval('SELECT current_database()')}"
        assert await logins.has_own_password(owner, login) is None, "there is none"
        await owner.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'x'")
        try:
            assert await logins.has_own_password(owner, login) is None, "none was noted"
        finally:
            await owner.execute(f"DROP ROLE {login}")


class TestLoginOfTheAdminDoor:
    async def test_that_is_refused_closes_the_door_and_nothing_else(self, own_database: TestDatabase) -> None:
        urls = {**own_database.urls, "admin_url": url_of(replace(own_database.operator, user="no_such_login"))}
        async with Database(**urls) as db:
            with pytest.raises(ConfigurationError, match="The admin door can't be opened: "):
                async with db.admin(reason="a test") as admin:
                    await repos.projects.list(admin)
            async with db.probe() as session:
                await session._connected()

    async def test_that_is_refused_is_told_to_each_as_to_the_first(self, own_database: TestDatabase) -> None:
        """Were it one error that is raised again and again, it would keep all that those who met it held."""
        async with Database(**{**own_database.urls, "admin_url": own_database.urls["url"]}) as db:
            depths = []
            for _ in range(3):
                with pytest.raises(ConfigurationError, match="may not become derwin_admin") as refused:
                    await db.admin_pool()
                depths.append(len(refused.traceback))
        assert len(set(depths)) == 1

    async def test_whose_connection_ends_while_it_is_asked_for_its_role_is_no_refusal(self, own_database: TestDatabase) -> None:
        opened = await facts.connect_once(own_database.service, Settings(_env_file=None))
        opened.terminate()
        with pytest.raises(asyncpg.InterfaceError):
            await facts._may_become(opened, "derwin_app")


class Looks:
    """Looks at servers that begin and then wait until they may go on."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_go_on = asyncio.Event()

    async def look(self, *arguments: Any) -> Any:
        self.begun += 1
        await self.may_go_on.wait()
        return await facts.probe_server(*arguments)

    async def until_begun(self, number: int) -> None:
        async with asyncio.timeout(10):
            while self.begun < number:
                await asyncio.sleep(0)


@pytest.mark.parametrize("open_pool", [Database.admin_pool, Database._owner_pool], ids=["admin", "owner"])
class TestPoolThatIsOpenedLate:
    """The operator's, whose server did not answer at the start, and the owner's, which the first import opens."""

    @pytest.fixture
    async def db(self, migrated: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
        async def operators_is_away(info: ConnectionInfo, settings: Settings, role: str) -> Any:
            if role == ADMIN_ROLE:
                raise DatabaseUnavailable("away")
            return await facts.probe_server(info, settings, role)

        with monkeypatch.context() as patched:
            patched.setattr(module, "probe_server", operators_is_away)
            db = Database(**migrated.urls)
            await db.start()
        yield db
        await db.close()

    @pytest.fixture
    def looks(self, db: Database, monkeypatch: pytest.MonkeyPatch) -> Looks:
        looks = Looks()
        monkeypatch.setattr(module, "probe_server", looks.look)
        return looks

    async def test_is_one_for_all_who_ask_at_once(self, db: Database, looks: Looks, open_pool: Any) -> None:
        asking = [asyncio.create_task(open_pool(db)) for _ in range(2)]
        await looks.until_begun(2)
        looks.may_go_on.set()
        one, other = await asyncio.gather(*asking)
        assert one is other
        assert [pool for pool in db.pools() if pool is one.pool] == [one.pool]

    async def test_is_there_for_the_next_where_the_first_gave_up(self, db: Database, looks: Looks, open_pool: Any) -> None:
        first = asyncio.create_task(open_pool(db))
        await looks.until_begun(1)
        first.cancel()
        await asyncio.wait([first])
        looks.may_go_on.set()
        assert (await open_pool(db)).pool in db.pools()

    async def test_is_not_left_to_a_database_that_was_closed_meanwhile(
        self, db: Database, looks: Looks, open_pool: Any
    ) -> None:
        asking = asyncio.create_task(open_pool(db))
        await looks.until_begun(1)
        await db.close()
        looks.may_go_on.set()
        with pytest.raises(DatabaseUnavailable, match="The Database was closed"):
            await asking
        assert db.pools() == []


class TestStart:
    async def test_that_a_close_cuts_short_says_so(self, migrated: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
        probing = asyncio.Event()

        async def for_ever(*_: Any) -> Any:
            probing.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(module, "probe_server", for_ever)
        db = Database(**migrated.urls, settings=Settings(_env_file=None, cleanup_timeout=0.1))
        starting = asyncio.create_task(db.start())
        await probing.wait()
        await db.close()
        with pytest.raises(DatabaseUnavailable, match="The Database was closed"):
            await starting

    @pytest.mark.parametrize(
        ("looked", "kind"), [(0, DatabaseTimeout), (ConnectionRefusedError(), DatabaseUnavailable)], ids=["none", "refused"]
    )
    async def test_behind_a_lock_that_no_stray_holds_says_what_it_met(
        self, migrated: TestDatabase, monkeypatch: pytest.MonkeyPatch, looked: Any, kind: type[Exception]
    ) -> None:
        async def locked(*_: Any) -> Any:
            raise DatabaseTimeout("a lock")

        async def look(_: Ender) -> int:
            if isinstance(looked, Exception):
                raise looked
            return int(looked)

        monkeypatch.setattr(module, "probe_server", locked)
        monkeypatch.setattr(Ender, "look", look)
        with pytest.raises(kind):
            await Database(**migrated.urls).start()

    async def test_that_is_closed_before_its_unit_has_a_connection_says_so(
        self, migrated: TestDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        db = Database(**migrated.urls)

        async def closed_meanwhile() -> None:
            return

        monkeypatch.setattr(db, "start", closed_meanwhile)
        with pytest.raises(DatabaseUnavailable, match="The Database was closed"):
            async with db.project("acme") as session:
                await repos.qa_tickets.count(session)

    async def test_that_is_closed_while_its_replica_is_looked_at_says_so(
        self, migrated: TestDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        db = Database(**{**migrated.urls, "read_url": migrated.urls["url"]})
        await db.start()
        of_replica = await db.app_pool(read_only=True)

        async def closed_meanwhile(_: Replica) -> DataSource:
            await db.close()
            return of_replica

        monkeypatch.setattr(Replica, "choose", closed_meanwhile)
        with pytest.raises(DatabaseUnavailable, match="The Database was closed"):
            await db.app_pool(read_only=True)

    async def test_comes_with_the_first_units_where_nobody_has_started_it(
        self, migrated: TestDatabase, project: Project
    ) -> None:
        """Several at once wait for one start, whichever door they go through; and once more after it was closed."""
        db = Database(**migrated.urls)

        async def as_project() -> bool:
            async with db.project(project.id) as session:
                return await repos.qa_tickets.count(session) == 0

        async def as_admin() -> bool:
            async with db.admin(reason="a test") as admin:
                return await repos.projects.exists(admin, project.id)

        for _ in range(2):
            try:
                assert await asyncio.gather(as_project(), as_admin(), as_project(), as_admin()) == [True] * 4
            finally:
                await db.close()

    async def test_with_the_setting_debug_shows_causes(self, migrated: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_Switch, "is_on", False)
        async with Database(**migrated.urls, settings=Settings(_env_file=None, debug=True)) as db:
            with pytest.raises(ConfigurationError) as refused:
                raise_of_the_server()
        assert db.settings.debug
        assert isinstance(refused.value.__cause__, asyncpg.PostgresError)


def raise_of_the_server() -> None:
    from derwin_db.translation.driver_errors import raise_translated

    raise_translated(asyncpg.InvalidPasswordError("canary"))


class TestKeyRing:
    async def test_that_is_closed_ends_a_look_that_is_under_way(self) -> None:
        began, ended = asyncio.Event(), asyncio.Event()

        async def read() -> list[Seal]:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return []

        ring = KeyRing([Seal(b"k" * 64, b"l" * 64)], read)
        looking = asyncio.create_task(ring.look_again())
        await began.wait()
        await ring.close()
        assert ended.is_set()
        with pytest.raises(asyncio.CancelledError):
            await looking
