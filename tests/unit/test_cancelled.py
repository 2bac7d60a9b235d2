"""A statement by hand that is cancelled, or takes too long, when it has run already: nothing of its unit is stored."""

import asyncio
from typing import Any

import pytest
from asyncpg.cursor import CursorIterator

from derwin_db import Database, repos
from derwin_db.connection.driver import PooledConnection
from derwin_db.errors import DatabaseUnavailable, ScopeError
from derwin_db.models import Project, QATicketUpdate
from derwin_db.unit import backend
from tests.repos.rows import a_ticket
from tests.unit.test_lent import driver_of


class TestCancelled:
    """The statement has run, and its answer comes too late: the server knows of no error."""

    @pytest.fixture(params=[asyncio.CancelledError, TimeoutError])
    def too_late(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[BaseException]:
        """What the driver's statements with this comment raise once they have run."""
        for name in ("fetch", "execute"):
            ordinary = getattr(PooledConnection, name)

            async def answered(
                connection: PooledConnection, query: str, *args: Any, _ordinary: Any = ordinary, **named: Any
            ) -> Any:
                answer = await _ordinary(connection, query, *args, **named)
                if "/* late */" in query:
                    raise request.param
                return answer

            monkeypatch.setattr(PooledConnection, name, answered)
        error: type[BaseException] = request.param
        return error

    WRITE = "UPDATE qa_tickets SET title = 'x' /* late */"

    @pytest.mark.parametrize("way", ["fetch", "execute"])
    async def test_it_is_not_stored_with_what_comes_next(
        self, db: Database, project: Project, too_late: type[BaseException], way: str
    ) -> None:
        async with db.project(project.id) as session:
            ticket = await repos.qa_tickets.create(session, a_ticket())
        with pytest.raises(ScopeError, match="An earlier statement"):
            async with db.project(project.id) as session:
                with pytest.raises(too_late):
                    await getattr(await driver_of(session), way)(self.WRITE)
                with pytest.raises(ScopeError, match="An earlier statement"):
                    await repos.qa_tickets.get(session, ticket.id)
        async with db.project(project.id) as session:
            assert await repos.qa_tickets.get(session, ticket.id) == ticket
        assert db.connections_in_use() == 0

    @pytest.mark.parametrize("error", [asyncio.CancelledError, TimeoutError])
    async def test_so_it_is_with_the_rows_of_a_cursor(
        self, db: Database, project: Project, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
    ) -> None:
        ordinary = CursorIterator.__anext__

        async def answered(rows: Any) -> Any:
            await ordinary(rows)
            raise error

        async with db.project(project.id) as session:
            ticket = await repos.qa_tickets.create(session, a_ticket())
        monkeypatch.setattr(CursorIterator, "__anext__", answered)
        with pytest.raises(ScopeError, match="An earlier statement"):
            async with db.project(project.id) as session:
                raw = await driver_of(session)
                with pytest.raises(error):
                    async for _ in raw.cursor("UPDATE qa_tickets SET title = 'x' RETURNING id"):
                        pass
                with pytest.raises(ScopeError, match="An earlier statement"):
                    await repos.qa_tickets.get(session, ticket.id)
        async with db.project(project.id) as session:
            assert await repos.qa_tickets.get(session, ticket.id) == ticket

    async def test_a_savepoint_undoes_it_alone(self, db: Database, project: Project, too_late: type[BaseException]) -> None:
        async with db.project(project.id) as session:
            ticket = await repos.qa_tickets.create(session, a_ticket())
            raw = await driver_of(session)
            with pytest.raises((too_late, DatabaseUnavailable)):  # as the unit says it
                async with session.savepoint():
                    await raw.fetch(self.WRITE)
            await raw.execute("SAVEPOINT by_hand")
            with pytest.raises(too_late):
                await raw.fetch(self.WRITE)
            await raw.execute("ROLLBACK TO by_hand")
            changed = await repos.qa_tickets.update(session, ticket.id, QATicketUpdate(actual="went on"))
        async with db.project(project.id) as session:
            assert await repos.qa_tickets.get(session, ticket.id) == changed
        assert changed.title == ticket.title

    @pytest.mark.parametrize("answer", ["SELECT 1", "SELECT pg_sleep(60)"], ids=["no error", "no answer in time"])
    async def test_where_the_server_does_not_refuse_the_rest_the_connection_is_given_up(
        self, db: Database, project: Project, too_late: type[BaseException], monkeypatch: pytest.MonkeyPatch, answer: str
    ) -> None:
        monkeypatch.setattr(backend, "_FAILS", answer)
        monkeypatch.setattr(db.backend, "cleanup_timeout", 0.5)
        with pytest.raises(ScopeError, match="An earlier statement"):
            async with db.project(project.id) as session:
                raw = await driver_of(session)
                connection = session._connection
                with pytest.raises(too_late):
                    await raw.fetch(self.WRITE)
        assert connection is not None
        assert connection.is_closed()
