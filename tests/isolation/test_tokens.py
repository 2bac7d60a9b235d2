"""Tokens and scopes of the seal: each is good for one thing, in one place, for seconds."""

from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.deploy import rotation
from derwin_db.errors import DerwinError
from derwin_db.isolation.preamble import LONGEST_PAD
from derwin_db.isolation.seal import Kind, Seal
from derwin_db.testing import TestDatabase
from derwin_db.testing.filling import Filled
from tests.isolation.arena import Ground
from tests.isolation.keys_of_old import server_time

SECOND = 1_000_000


@pytest.fixture
async def seal(own_db: Database, owner: asyncpg.Connection) -> Seal:
    return await rotation.read_key(owner)


@pytest.fixture
async def own_database(filled_database: TestDatabase) -> TestDatabase:
    return filled_database


@pytest.fixture
async def filled(ground: Ground) -> Filled:
    """A project with rows in every table."""
    return ground.a


@pytest.fixture
async def raw(own_database: Any) -> Any:
    """A connection of the service's login, in the role of units of work, beside the pools."""
    connection = await asyncpg.connect(**own_database.service.connect_arguments())
    await connection.execute("SET ROLE derwin_app")
    yield connection
    await connection.close()


async def state_of(raw: Any, value: str, way: str) -> str | None:
    """Return the SQLSTATE with which the value is refused as a token or as a scope, None where it opens the project."""
    setting = {
        "token": "SELECT public.derwin_open($1)",
        "scope": "SELECT set_config('derwin.project_id', $1, true)",
    }[way]
    transaction = raw.transaction()
    await transaction.start()
    try:
        await raw.fetch(setting, value)
        assert await raw.fetchval("SELECT count(*) FROM public.qa_tickets") > 0
    except asyncpg.PostgresError as error:
        return error.sqlstate
    finally:
        await transaction.rollback()
    return None


# those that ask over all projects: tests/isolation/queueing.py
GOOD = {Kind.OPENS: "token", Kind.OPENS_ANYWHERE: "token", Kind.SCOPES: "scope", Kind.SCOPES_ANYWHERE: "scope"}


def made(seal: Seal, kind: Kind, project: Any, at: int, raw: Any) -> str:
    is_bound = kind in (Kind.OPENS, Kind.SCOPES)
    return seal.token(kind, project, at, raw.get_server_pid() if is_bound else None)


@pytest.mark.parametrize("kind", GOOD)
class TestToken:
    async def test_opens_where_it_belongs_and_nowhere_else(self, seal: Seal, filled: Filled, raw: Any, kind: Kind) -> None:
        token = made(seal, kind, filled.project_id, await server_time(raw), raw)
        outcomes = {way: await state_of(raw, token, way) for way in ("token", "scope")}
        other = "scope" if GOOD[kind] == "token" else "token"
        assert outcomes == {GOOD[kind]: None, other: "42501" if other == "scope" else "DW004"}

    async def test_ends_after_seconds(self, seal: Seal, filled: Filled, raw: Any, kind: Kind) -> None:
        now = await server_time(raw)
        ages = {age: await state_of(raw, made(seal, kind, filled.project_id, now - age * SECOND, raw), GOOD[kind])
                for age in (0, 3, 6, 3600, -5)}  # fmt: skip
        assert ages == {0: None, 3: None, 6: "DW011", 3600: "DW011", -5: "DW011"}

    async def test_is_good_for_a_clock_that_is_a_second_ahead(self, seal: Seal, filled: Filled, raw: Any, kind: Kind) -> None:
        async with raw.transaction():
            now = await raw.fetchval("SELECT (extract(epoch FROM now()) * 1000000)::bigint")
            ahead = {by: await state_of(raw, made(seal, kind, filled.project_id, now + by, raw), GOOD[kind])
                     for by in (SECOND, SECOND + 1)}  # fmt: skip
        assert ahead == {SECOND: None, SECOND + 1: "DW011"}

    async def test_is_good_for_its_backend_or_for_any(self, seal: Seal, filled: Filled, raw: Any, kind: Kind) -> None:
        bound = kind in (Kind.OPENS, Kind.SCOPES)
        pid = raw.get_server_pid() + 1 if bound else None
        token = seal.token(kind, filled.project_id, await server_time(raw), pid)
        assert await state_of(raw, token, GOOD[kind]) == ("DW004" if bound else None)

    async def test_can_t_be_changed(self, seal: Seal, filled: Filled, raw: Any, kind: Kind) -> None:
        now = await server_time(raw)
        token = made(seal, kind, filled.project_id, now - 60 * SECOND, raw)
        later = f"{token[:38]}{now:015x}{token[53:]}"
        other = Kind.SCOPES_ANYWHERE if GOOD[kind] == "scope" else Kind.OPENS_ANYWHERE
        another = made(seal, kind, filled.project_id, now, raw).replace(f".{kind.value}", f".{other.value}", 1)
        assert await state_of(raw, later, GOOD[kind]) == "DW004"
        if kind is not other:
            assert await state_of(raw, another, GOOD[kind]) == "DW004"


class TestEnding:
    """A number of a process is given anew: the function looks when the one that has it now began, and whose it is."""

    @pytest.mark.parametrize("since", ["backend_start", "xact_start"])
    async def test_takes_the_process_that_is_meant_and_no_other(
        self, seal: Seal, own_database: TestDatabase, owner: asyncpg.Connection, raw: Any, since: str
    ) -> None:
        async def is_ended(pid: int, at: datetime) -> bool:
            return await raw.fetchval("SELECT public.derwin_end_process($1, $2, $3)", pid, at, seal.end_of_process(pid, at))

        own = await asyncpg.connect(**own_database.service.connect_arguments())
        began = {}
        for connection in (own, owner):
            await connection.execute("BEGIN")
            began[connection] = await connection.fetchval(f"SELECT {since} FROM pg_stat_activity WHERE pid = pg_backend_pid()")
        assert not await is_ended(owner.get_server_pid(), began[owner])
        assert not await is_ended(own.get_server_pid(), began[own] + timedelta(microseconds=1))
        assert await own.fetchval("SELECT 1") == await owner.fetchval("SELECT 1") == 1
        assert await is_ended(own.get_server_pid(), began[own])
        own.terminate()
        await owner.execute("ROLLBACK")


class TestTransaction:
    async def test_that_has_a_scope_takes_no_token(self, seal: Seal, filled: Filled, ground: Ground, own_db: Database) -> None:
        for kind in (Kind.OPENS, Kind.OPENS_ANYWHERE):
            with pytest.raises(DerwinError) as caught:
                async with own_db.project(ground.b.project_id) as session:
                    connection = await session._connected()
                    token = made(seal, kind, filled.project_id, await server_time(connection), connection)
                    await session.sql.execute(sa.text("SELECT public.derwin_open(:token)"), {"token": token})
            assert caught.value.sqlstate == "42501"

    async def test_without_a_scope_is_an_error_and_never_empty(self, raw: Any) -> None:
        for setup in ("SELECT 1", "SET derwin.project_id = ''", "RESET derwin.project_id"):
            await raw.execute(setup)
            with pytest.raises(asyncpg.PostgresError) as caught:
                await raw.fetch("SELECT id FROM public.qa_tickets")
            assert caught.value.sqlstate == "DW010"

    async def test_its_scope_is_no_token_and_no_scope_elsewhere(self, filled: Filled, own_db: Database, raw: Any) -> None:
        async with own_db.project(filled.project_id) as session:
            scope = (await session.sql.execute(sa.text("SELECT current_setting('derwin.project_id')"))).scalar_one()
        assert await state_of(raw, scope, "token") == "DW004"
        assert await state_of(raw, scope, "scope") == "42501"


class TestCodeOfBefore:
    """Services that were started before the revision open with tokens that have no end."""

    @staticmethod
    def token(seal: Seal, project: Any, pid: int) -> str:
        import hashlib

        inner = hashlib.sha256(seal.inner + str(project).encode() + pid.to_bytes(4, "big")).digest()
        return f"{project}.{hashlib.sha256(seal.outer + inner).hexdigest()}"

    async def test_is_refused_unless_the_revision_left_it_time(
        self, seal: Seal, filled: Filled, raw: Any, owner: asyncpg.Connection
    ) -> None:
        token = self.token(seal, filled.project_id, raw.get_server_pid())
        assert await state_of(raw, token, "token") == "DW004"
        await owner.execute("UPDATE derwin.scope_key SET open_v1_until = now() + interval '1 hour'")
        assert await state_of(raw, token, "token") is None
        await owner.execute("UPDATE derwin.scope_key SET open_v1_until = now() - interval '1 second'")
        assert await state_of(raw, token, "token") == "DW004"

    async def test_a_new_key_ends_it_at_once(self, seal: Seal, filled: Filled, raw: Any, owner: asyncpg.Connection) -> None:
        await owner.execute("UPDATE derwin.scope_key SET open_v1_until = now() + interval '1 hour'")
        token = self.token(await rotation.rotate_key(owner), filled.project_id, raw.get_server_pid())
        assert await state_of(raw, token, "token") == "DW004"


class TestConnection:
    async def test_hides_its_token_by_what_its_own_server_shows(self, filled: Filled, own_db: Database) -> None:
        """A restart may change how much is shown; it ends the connections, and new ones look again."""
        async with own_db.project(filled.project_id) as session:
            connection = await session._connected()
            shown = await connection.fetchval("SELECT setting::int FROM pg_settings WHERE name = 'track_activity_query_size'")
            assert connection.activity_query_size == shown
        sent: list[str] = []
        connection.add_query_logger(lambda record: sent.append(record.query))
        for size in (shown, 4096, LONGEST_PAD):
            sent.clear()
            connection.activity_query_size = size
            async with own_db.project(filled.project_id) as session:
                assert await session._connected() is connection
            opening = next(query for query in sent if "derwin_open" in query)
            assert opening.index(str(filled.project_id)) > size
        sent.clear()
        connection.activity_query_size = LONGEST_PAD + 1  # then the token travels as an argument
        async with own_db.project(filled.project_id) as session:
            assert await session._connected() is connection
            assert await repos.qa_tickets.count(session) > 0
        assert not [query for query in sent if str(filled.project_id) in query]

    async def test_whose_clock_is_wrong_is_replaced(self, filled: Filled, own_db: Database) -> None:
        async with own_db.project(filled.project_id) as session:
            connection = await session._connected()
        for wrong in (-3600, 3600):
            connection.server_clock += wrong
            async with own_db.project(filled.project_id) as session:
                assert await repos.qa_tickets.count(session) > 0
                assert await session._connected() is not connection
                connection = await session._connected()
