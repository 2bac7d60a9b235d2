"""The key of the scope is rotated under a service that runs: nothing fails, and in the end the former key opens nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.deploy import rotation, targets
from derwin_db.doctor import examine
from derwin_db.errors import ConfigurationError, Conflict, DatabaseUnavailable, InvalidStatement, ScopeError
from derwin_db.isolation import keys
from derwin_db.isolation.seal import Seal
from derwin_db.settings import ConnectionInfo, Settings
from derwin_db.testing import TestDatabase
from derwin_db.testing.factories import create_ticket
from derwin_db.testing.filling import Filled
from tests.isolation.arena import Ground
from tests.isolation.keys_of_old import opened_by

KEY = Seal(b"inner", b"outer")


@pytest.fixture
async def own_database(filled_database: TestDatabase) -> TestDatabase:
    return filled_database


@pytest.fixture
async def filled(ground: Ground) -> Filled:
    """A project with rows in every table."""
    return ground.a


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service looks for a newer key all the time, as a busy one does within a minute."""
    monkeypatch.setattr(keys, "LOOK_SECONDS", 0.0)


class Traffic:
    """Reads that run alone, units that write, and one unit that stays open, without a pause. Errors are kept."""

    def __init__(self, database: Database, project: Any) -> None:
        self._database = database
        self._project = project
        self._is_over = False
        self.turns = 0
        self.errors: list[BaseException] = []

    async def _read(self) -> None:
        async with self._database.project(self._project, read_only=True) as session:
            await repos.qa_tickets.list(session, limit=1)

    async def _write(self) -> None:
        async with self._database.project(self._project) as session:
            row = await create_ticket(session)
            await repos.qa_tickets.get(session, row.id)
            await session.sql.execute(sa.text("SELECT count(*) FROM public.qa_tickets"))

    async def _go(self, work: Any) -> None:
        while not self._is_over:
            try:
                await work()
            except Exception as error:
                self.errors.append(error)
            self.turns += 1
            await asyncio.sleep(0)

    @contextlib.asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._go(work)) for work in (self._read, self._read, self._write, self._write)]
        try:
            yield
        finally:
            self._is_over = True
            await asyncio.gather(*tasks)

    async def on(self, turns: int = 20) -> None:
        """Wait until it went on for so many turns."""
        until = self.turns + turns
        async with asyncio.timeout(30):
            while self.turns < until:
                await asyncio.sleep(0.001)


class TestRotation:
    @pytest.mark.parametrize("looks", ["a service that looks", "a service that waits to be refused"])
    async def test_no_unit_of_a_running_service_fails(
        self, own_db: Database, own_database: TestDatabase, owner: asyncpg.Connection, filled: Filled, looks: str, request: Any
    ) -> None:
        if looks == "a service that looks":
            request.getfixturevalue("soon")
        former = await rotation.read_key(owner)
        async with Database(**own_database.urls) as other:
            services = [Traffic(own_db, filled.project_id), Traffic(other, filled.slug)]
            async with services[0].flowing(), services[1].flowing():
                async with own_db.project(filled.project_id) as session:
                    await create_ticket(session)  # opened with the former key, and open while the rotation starts
                    newest = await rotation.start_rotation(owner)
                    await asyncio.gather(*(service.on() for service in services))
                    await create_ticket(session)
                assert await opened_by(former, own_database, filled.project_id)
                await rotation.finish_rotation(owner)
                await asyncio.gather(*(service.on() for service in services))
                assert not await opened_by(former, own_database, filled.project_id)
                assert await opened_by(newest, own_database, filled.project_id)
        assert [service.errors for service in services] == [[], []]
        assert former != newest

    async def test_waits_for_what_the_former_key_opened(
        self, own_db: Database, owner: asyncpg.Connection, filled: Filled
    ) -> None:
        async with own_db.project(filled.project_id) as session:
            await create_ticket(session)
            await rotation.start_rotation(owner)
            with pytest.raises(DatabaseUnavailable, match="are open after 0 s"):
                await rotation.finish_rotation(owner, wait_seconds=0)
            finishing = asyncio.create_task(rotation.finish_rotation(owner, wait_seconds=30))
            async with own_db.project(filled.project_id) as later:  # what opens meanwhile is not waited for
                await create_ticket(session)
                await create_ticket(later)
        async with asyncio.timeout(30):
            await finishing
        assert not await rotation.is_rotating(owner)

    async def test_at_once_ends_what_is_open(self, own_db: Database, owner: asyncpg.Connection, filled: Filled) -> None:
        former = await rotation.read_key(owner)

        async def writing() -> None:
            async with own_db.project(filled.project_id) as session:
                await create_ticket(session)
                assert await rotation.rotate_key(owner) != former
                await create_ticket(session)

        with pytest.raises(ScopeError):
            await writing()
        async with own_db.project(filled.project_id) as session:  # and the next one takes the new key up
            assert (await repos.qa_tickets.list(session)).items

    async def test_two_at_a_time_are_refused(self, owner: asyncpg.Connection, own_db: Database) -> None:
        with pytest.raises(ConfigurationError, match="No rotation of the scope key is under way"):
            await rotation.finish_rotation(owner)
        newest = await rotation.start_rotation(owner)
        with pytest.raises(Conflict, match="--finish"):
            await rotation.start_rotation(owner)
        assert await rotation.read_key(owner) == newest

    async def test_a_key_in_a_file_is_read_again(
        self, own_db: Database, own_database: TestDatabase, owner: asyncpg.Connection, filled: Filled, tmp_path: Path
    ) -> None:
        file = tmp_path / "key"
        file.write_text((await rotation.read_key(owner)).to_text() + "\n")
        url = own_database.urls["url"]
        async with Database(url, settings=Settings(scope_key_file=file)) as service:

            async def read() -> None:
                async with service.project(filled.project_id) as session:
                    assert (await repos.qa_tickets.list(session)).items

            await read()
            newest = await rotation.rotate_key(owner)
            with pytest.raises(ConfigurationError, match="scope key was rotated") as caught:
                await read()
            assert "see that DERWIN_SCOPE_KEY_FILE, ADMIN_URL or DIRECT_URL are of this database" in str(caught.value)
            file.write_text(newest.to_text())
            await read()

    async def test_a_key_file_that_is_none(self, own_database: TestDatabase, tmp_path: Path) -> None:
        url, file = own_database.urls["url"], tmp_path / "key"
        with pytest.raises(DatabaseUnavailable, match="DERWIN_SCOPE_KEY_FILE can't be used: No such file"):
            await Database(url, settings=Settings(scope_key_file=file)).start()
        file.write_text("none")
        with pytest.raises(ConfigurationError, match="not a key"):
            await Database(url, settings=Settings(scope_key_file=file)).start()

    async def test_an_operator_who_is_away_holds_nobody_up(
        self, own_db: Database, filled: Filled, soon: None, monkeypatch: pytest.MonkeyPatch, caplog: Any
    ) -> None:
        async def away() -> list[Seal]:
            raise DatabaseUnavailable("nobody answers")

        assert own_db._keys is not None
        monkeypatch.setattr(own_db._keys, "_read", away)
        for _ in range(2):
            async with own_db.project(filled.project_id) as session:
                assert (await repos.qa_tickets.list(session)).items
            await asyncio.sleep(0)
        assert "nobody answers" in caplog.text


class TestDoctor:
    async def test_finds_a_rotation_that_was_forgotten(
        self, own_db: Database, own_database: TestDatabase, owner: asyncpg.Connection
    ) -> None:
        async def said() -> tuple[bool, str]:
            report = await examine(own_database.service, owner=own_database.owner)
            return next((check.ok, check.detail) for check in report.checks if check.name == "scope-key")

        assert await said() == (True, "one key is taken")
        await rotation.start_rotation(owner)
        assert await said() == (True, "a rotation is under way: two keys are taken")
        await owner.execute("UPDATE derwin.scope_key SET rotated_at = now() - interval '2 days'")
        assert (await said())[0] is False


class TestWhoIsAsked:
    """For the key, where no setting holds it."""

    LOGINS = [ConnectionInfo.parse(f"postgresql://{name}@db.example/qa") for name in ("service", "operator", "owner")]

    @pytest.mark.parametrize(
        ("knowing", "asked"),
        [("owner", ["owner"]), ("operator", ["owner", "operator"]), ("service", ["owner", "operator", "service"])],
    )
    async def test_is_the_owner_then_the_operator_then_the_service(
        self, monkeypatch: pytest.MonkeyPatch, knowing: str, asked: list[str]
    ) -> None:
        seen = self.answering(monkeypatch, knowing)
        service, operator, owner = self.LOGINS
        ring = await targets.find_keys(targets.Urls(service, operator, owner, None), Settings(_env_file=None))
        assert (ring.keys, seen) == ((KEY,), asked)

    async def test_is_each_login_once_and_nobody_who_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = self.answering(monkeypatch, "nobody")
        service = self.LOGINS[0]
        with pytest.raises(ConfigurationError, match="no login here may read its key"):
            await targets.find_keys(targets.Urls(service, None, service, None), Settings(_env_file=None))
        assert seen == ["service"]

    @staticmethod
    def answering(monkeypatch: pytest.MonkeyPatch, knowing: str) -> list[str]:
        """Have one login know the key; returns who is asked for it."""
        seen: list[str] = []

        async def read(connection: ConnectionInfo, _: Settings) -> list[Seal]:
            seen.append(connection.user)
            return [KEY] * (connection.user == knowing)

        monkeypatch.setattr(targets, "read_scope_keys", read)
        return seen

    async def test_has_the_newest_of_two(self) -> None:
        row = {"inner_pad": b"new", "outer_pad": b"new", "former_inner_pad": b"old", "former_outer_pad": b"old"}

        class Holding:
            def __init__(self, row: dict[str, bytes | None] | None) -> None:
                self.row = row

            async def fetchrow(self, _: str) -> dict[str, bytes | None] | None:
                return self.row

        for held, rotates in ((row, True), ({**row, "former_inner_pad": None}, False)):
            holding: Any = Holding(held)
            assert await rotation.read_key(holding) == Seal(b"new", b"new")
            assert await rotation.is_rotating(holding) is rotates
        none: Any = Holding(None)
        with pytest.raises(ConfigurationError, match="holds no key of the project scope"):
            await rotation.read_key(none)


class TestKeys:
    async def test_are_not_rotated_by_who_may_not(self, owner: asyncpg.Connection) -> None:
        await owner.execute("SET ROLE derwin_app")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await rotation.start_rotation(owner)

    async def test_a_former_one_that_stays_is_no_end(self, owner: asyncpg.Connection) -> None:
        await rotation.start_rotation(owner)
        await owner.execute("DROP FUNCTION derwin.finish_key_rotation()")
        await owner.execute("CREATE FUNCTION derwin.finish_key_rotation() RETURNS void LANGUAGE sql AS ''")
        with pytest.raises(ConfigurationError, match="The former key is there still"):
            await rotation.finish_rotation(owner)

    async def test_a_login_that_may_read_them_no_more_is_named(self, own_database: TestDatabase) -> None:
        with pytest.raises(ConfigurationError, match="may not read the key of the project scope any more"):
            await targets._keys_again(own_database.service, Settings())

    async def test_of_a_database_without_them(self, own_database: TestDatabase, owner: asyncpg.Connection) -> None:
        await owner.execute("TRUNCATE derwin.scope_key")
        assert await targets.read_scope_keys(own_database.owner, Settings()) == ()
        with pytest.raises(ConfigurationError, match="holds no key"):
            await rotation.read_key(owner)
        await owner.execute("DROP TABLE derwin.scope_key CASCADE")
        with pytest.raises(InvalidStatement):
            await targets.read_scope_keys(own_database.owner, Settings())
