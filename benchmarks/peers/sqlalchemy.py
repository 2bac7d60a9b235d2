"""SQLAlchemy: Core, SQLModel's AsyncSession, and advanced-alchemy's repository on it.

Unscoped: as the owner, no policies, the project is filtered by hand. Scoped: as the service, with the role and the sealed
scope set by an event when a transaction begins.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from benchmarks.data import Workload
from benchmarks.peers.base import LIST_LIMIT, POOL_SIZE, SEARCH_LIMIT, month_ago, new_ticket
from benchmarks.peers.driver import SEARCH_SETTINGS, scope_key, token
from benchmarks.peers.tables import ENTRIES, MappedSignal, MappedTicket, Signal, Spend, Ticket
from derwin_db.fields.scalars import new_id
from derwin_db.settings import ConnectionInfo
from derwin_db.testing import TestDatabase

_TICKETS, _SIGNALS, _LEDGER = (model.__table__ for model in (Ticket, Signal, Spend))  # type: ignore[attr-defined]
_WITHOUT_EMBEDDING = [column for column in ENTRIES.c if column.name != "embedding"]


class _SQLAlchemy:
    """An engine on a pool of 16, as the owner unless said otherwise."""

    async def open(self, database: TestDatabase, _workload: Workload) -> None:
        self.engine = self._engine(self._login(database))

    def _login(self, database: TestDatabase) -> ConnectionInfo:
        return database.owner

    def _engine(self, login: ConnectionInfo) -> AsyncEngine:
        async def connect() -> Any:
            return await asyncpg.connect(**login.connect_arguments(), command_timeout=30, server_settings={"jit": "off"})

        return create_async_engine("postgresql+asyncpg://", async_creator=connect, pool_size=POOL_SIZE, max_overflow=0)

    async def close(self) -> None:
        await self.engine.dispose()

    def signals(self, rows: Sequence[dict[str, Any]]) -> Any:
        return rows


def _spend(project_id: UUID) -> Any:
    return sa.select(sa.func.coalesce(sa.func.sum(_LEDGER.c.amount_usd), 0)).where(
        _LEDGER.c.project_id == project_id, _LEDGER.c.occurred_at >= month_ago()
    )


def _search(project_id: UUID, embedding: Sequence[float]) -> Any:
    distance = ENTRIES.c.embedding.cosine_distance(embedding)
    query = sa.select(*_WITHOUT_EMBEDDING, distance.label("distance")).where(ENTRIES.c.project_id == project_id)
    return query.where(ENTRIES.c.embedding.is_not(None)).order_by(distance).limit(SEARCH_LIMIT)


def _settings() -> list[Any]:
    return [sa.text(setting) for setting in SEARCH_SETTINGS.split("; ")]


class Core(_SQLAlchemy):
    """SQLAlchemy Core: rows as dicts."""

    name: ClassVar[str] = "sqlalchemy_core_unscoped"

    async def get(self, project_id: UUID, ticket_id: UUID) -> Any:
        query = sa.select(_TICKETS).where(_TICKETS.c.project_id == project_id, _TICKETS.c.id == ticket_id)
        async with self.engine.begin() as connection:
            return dict((await connection.execute(query)).mappings().one())

    async def list(self, project_id: UUID) -> Any:
        query = sa.select(_TICKETS).where(_TICKETS.c.project_id == project_id)
        query = query.order_by(_TICKETS.c.created_at.desc(), _TICKETS.c.id.desc()).limit(LIST_LIMIT)
        async with self.engine.begin() as connection:
            return [dict(row) for row in (await connection.execute(query)).mappings()]

    async def insert(self, project_id: UUID, number: int) -> Any:
        values = {"project_id": project_id, "id": new_id(), **new_ticket(number)}
        async with self.engine.begin() as connection:
            result = await connection.execute(sa.insert(_TICKETS).values(values).returning(_TICKETS))
            return dict(result.mappings().one())

    async def update(self, project_id: UUID, ticket_id: UUID, number: int) -> Any:
        query = sa.update(_TICKETS).where(_TICKETS.c.project_id == project_id, _TICKETS.c.id == ticket_id)
        query = query.values(title=f"Totals drift, again {number}", updated_at=sa.func.now(), version=_TICKETS.c.version + 1)
        async with self.engine.begin() as connection:
            return dict((await connection.execute(query.returning(_TICKETS))).mappings().one())

    async def spend(self, project_id: UUID) -> Decimal:
        async with self.engine.begin() as connection:
            total: Decimal = (await connection.execute(_spend(project_id))).scalar_one()
            return total

    async def search(self, project_id: UUID, embedding: Sequence[float]) -> Any:
        async with self.engine.begin() as connection:
            for setting in _settings():
                await connection.execute(setting)
            return [dict(row) for row in (await connection.execute(_search(project_id, embedding))).mappings()]

    async def bulk(self, project_id: UUID, run_id: UUID, signals: Any) -> Any:
        rows = [{"project_id": project_id, "id": new_id(), "run_id": run_id, **row} for row in signals]
        async with self.engine.begin() as connection:
            await connection.execute(sa.insert(_SIGNALS), rows)


class Unscoped(_SQLAlchemy):
    """SQLModel's AsyncSession: instances, unit of work, filter by hand."""

    name: ClassVar[str] = "sqlmodel_unscoped"

    def session(self, project_id: UUID) -> AsyncSession:  # the scoped peer needs it
        return AsyncSession(self.engine, expire_on_commit=False)

    async def get(self, project_id: UUID, ticket_id: UUID) -> Any:
        async with self.session(project_id) as session, session.begin():
            return await self._one(session, project_id, ticket_id)

    async def _one(self, session: AsyncSession, project_id: UUID, ticket_id: UUID) -> Ticket:
        return (await session.exec(select(Ticket).where(Ticket.project_id == project_id, Ticket.id == ticket_id))).one()

    async def list(self, project_id: UUID) -> Any:
        query = select(Ticket).where(Ticket.project_id == project_id)
        query = query.order_by(col(Ticket.created_at).desc(), col(Ticket.id).desc()).limit(LIST_LIMIT)
        async with self.session(project_id) as session, session.begin():
            return (await session.exec(query)).all()

    async def insert(self, project_id: UUID, number: int) -> Any:
        ticket = Ticket(project_id=project_id, **new_ticket(number))
        async with self.session(project_id) as session, session.begin():
            session.add(ticket)
        return ticket

    async def update(self, project_id: UUID, ticket_id: UUID, number: int) -> Any:
        async with self.session(project_id) as session, session.begin():
            ticket = await self._one(session, project_id, ticket_id)
            ticket.title = f"Totals drift, again {number}"
            ticket.version += 1
        return ticket

    async def spend(self, project_id: UUID) -> Decimal:
        async with self.session(project_id) as session, session.begin():
            total: Decimal = (await session.execute(_spend(project_id))).scalar_one()
            return total

    async def search(self, project_id: UUID, embedding: Sequence[float]) -> Any:
        async with self.session(project_id) as session, session.begin():
            for setting in _settings():
                await session.execute(setting)
            return (await session.execute(_search(project_id, embedding))).all()

    async def bulk(self, project_id: UUID, run_id: UUID, signals: Any) -> Any:
        rows = [{"project_id": project_id, "id": new_id(), "run_id": run_id, **row} for row in signals]
        async with self.session(project_id) as session, session.begin():
            await session.execute(sa.insert(Signal), rows)


class Scoped(Unscoped):
    """The same as the service, with the scope set by an event when a transaction begins."""

    name: ClassVar[str] = "sqlmodel_scoped"

    async def open(self, database: TestDatabase, workload: Workload) -> None:
        self._key = await scope_key(database)
        await super().open(database, workload)

    def _login(self, database: TestDatabase) -> ConnectionInfo:
        return database.service

    def session(self, project_id: UUID) -> AsyncSession:
        session = super().session(project_id)
        event.listen(session.sync_session, "after_begin", lambda *given: self._set_scope(project_id, given[2]))
        return session

    def _set_scope(self, project_id: UUID, connection: sa.Connection) -> None:
        pid = connection.connection.driver_connection.get_server_pid()  # type: ignore[union-attr]
        connection.execute(sa.text("SET LOCAL ROLE derwin_app"))
        connection.execute(sa.text("SELECT public.derwin_open(:token)"), {"token": token(self._key, project_id, pid)})


class AdvancedAlchemy(_SQLAlchemy):
    """advanced-alchemy's repository over a declarative model."""

    name: ClassVar[str] = "advanced_alchemy_unscoped"

    async def open(self, database: TestDatabase, workload: Workload) -> None:
        from advanced_alchemy.repository import SQLAlchemyAsyncRepository
        from sqlalchemy.ext.asyncio import async_sessionmaker

        class Tickets(SQLAlchemyAsyncRepository[MappedTicket]):
            model_type = MappedTicket

        class Signals(SQLAlchemyAsyncRepository[MappedSignal]):
            model_type = MappedSignal

        await super().open(database, workload)
        self._tickets: Any = Tickets
        self._signals: Any = Signals
        self._session = async_sessionmaker(self.engine, expire_on_commit=False)

    async def get(self, project_id: UUID, ticket_id: UUID) -> Any:
        async with self._session.begin() as session:
            return await self._tickets(session=session).get_one(project_id=project_id, id=ticket_id)

    async def list(self, project_id: UUID) -> Any:
        from advanced_alchemy.filters import LimitOffset, OrderBy

        async with self._session.begin() as session:
            return await self._tickets(session=session).list(
                LimitOffset(LIST_LIMIT, 0), OrderBy("created_at", "desc"), OrderBy("id", "desc"), project_id=project_id
            )

    async def insert(self, project_id: UUID, number: int) -> Any:
        async with self._session.begin() as session:
            return await self._tickets(session=session).add(MappedTicket(project_id=project_id, **new_ticket(number)))

    async def update(self, project_id: UUID, ticket_id: UUID, number: int) -> Any:
        async with self._session.begin() as session:
            tickets = self._tickets(session=session)
            ticket = await tickets.get_one(project_id=project_id, id=ticket_id)
            ticket.title = f"Totals drift, again {number}"
            ticket.version += 1
            return await tickets.update(ticket)

    async def spend(self, project_id: UUID) -> Decimal:
        async with self._session.begin() as session:
            total: Decimal = (await session.execute(_spend(project_id))).scalar_one()
            return total

    async def search(self, project_id: UUID, embedding: Sequence[float]) -> Any:
        async with self._session.begin() as session:
            for setting in _settings():
                await session.execute(setting)
            return (await session.execute(_search(project_id, embedding))).all()

    async def bulk(self, project_id: UUID, run_id: UUID, signals: Any) -> Any:
        async with self._session.begin() as session:
            rows = [MappedSignal(project_id=project_id, run_id=run_id, **row) for row in signals]
            await self._signals(session=session).add_many(rows)
