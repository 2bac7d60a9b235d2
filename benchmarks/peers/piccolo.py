"""Piccolo, as the owner, filtered by hand. It has no vectors."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from piccolo import columns
from piccolo.columns import JSONB, DoublePrecision, Integer, Numeric, Text, Timestamptz
from piccolo.engine.postgres import PostgresEngine
from piccolo.query.functions import Sum
from piccolo.table import Table

from benchmarks.data import Workload
from benchmarks.peers.base import LIST_LIMIT, POOL_SIZE, Unsupported, month_ago, new_ticket
from derwin_db.fields.scalars import new_id
from derwin_db.testing import TestDatabase


class Ticket(Table, tablename="qa_tickets", schema="public"):
    project_id = columns.UUID()
    id = columns.UUID(primary_key=True)
    created_at = Timestamptz()
    updated_at = Timestamptz()
    run_id = columns.UUID(null=True, default=None)
    title = Text()
    description = Text()
    steps_to_reproduce = JSONB()
    expected = Text(null=True)
    actual = Text(null=True)
    severity = Text()
    classification = Text()
    confidence = DoublePrecision()
    risk_score = DoublePrecision()
    fingerprint = Text(null=True)
    external_ref = Text(null=True)
    status = Text(default="OPEN")
    initial_bucket = Text(null=True, default=None)
    final_bucket = Text(null=True, default=None)
    duplicate_of_id = columns.UUID(null=True, default=None)
    resolved_at = Timestamptz(null=True, default=None)
    version = Integer(default=1)


class Signal(Table, tablename="raw_signals", schema="public"):
    project_id = columns.UUID()
    id = columns.UUID(primary_key=True)
    run_id = columns.UUID()
    route = Text()
    title = Text()
    fingerprint = Text()
    severity_hint = Text(null=True)
    confidence = DoublePrecision()
    payload = JSONB()
    observed_at = Timestamptz()


class Spend(Table, tablename="spend_ledger", schema="public"):
    project_id = columns.UUID()
    id = columns.UUID(primary_key=True)
    amount_usd = Numeric((14, 6))
    occurred_at = Timestamptz()


class Piccolo:
    name: ClassVar[str] = "piccolo_unscoped"

    async def open(self, database: TestDatabase, _workload: Workload) -> None:
        login = database.owner.connect_arguments()
        config = {name: login[name] for name in ("host", "port", "user", "database")}
        self._engine = PostgresEngine(config=config, log_queries=False)
        await self._engine.start_connection_pool(min_size=POOL_SIZE, max_size=POOL_SIZE)
        for table in (Ticket, Signal, Spend):
            table._meta._db = self._engine

    async def close(self) -> None:
        await self._engine.close_connection_pool()

    async def get(self, project_id: UUID, ticket_id: UUID) -> Any:
        async with self._engine.transaction():
            query = Ticket.select().where(Ticket.project_id == project_id, Ticket.id == ticket_id)
            return await query.first().output(load_json=True)

    async def list(self, project_id: UUID) -> Any:
        async with self._engine.transaction():
            query = Ticket.select().where(Ticket.project_id == project_id)
            query = query.order_by(Ticket.created_at, Ticket.id, ascending=False)
            return await query.limit(LIST_LIMIT).output(load_json=True)

    async def insert(self, project_id: UUID, number: int) -> Any:
        async with self._engine.transaction():
            row = Ticket(project_id=project_id, id=new_id(), **new_ticket(number))
            return await Ticket.insert(row).returning(*Ticket.all_columns())

    async def update(self, project_id: UUID, ticket_id: UUID, number: int) -> Any:
        async with self._engine.transaction():
            changes: dict[Any, Any] = {Ticket.title: f"Totals drift, again {number}", Ticket.version: Ticket.version + 1}
            query = Ticket.update(changes).where(Ticket.project_id == project_id, Ticket.id == ticket_id)
            return await query.returning(*Ticket.all_columns())

    async def spend(self, project_id: UUID) -> Decimal:
        async with self._engine.transaction():
            query = Spend.select(Sum(Spend.amount_usd)).where(Spend.project_id == project_id, Spend.occurred_at >= month_ago())
            row = await query.first()
            return (row or {}).get("sum") or Decimal(0)

    async def search(self, project_id: UUID, embedding: Sequence[float]) -> Any:
        raise Unsupported("Piccolo has no vector columns")

    def signals(self, rows: Sequence[dict[str, Any]]) -> Any:
        return rows

    async def bulk(self, project_id: UUID, run_id: UUID, signals: Any) -> Any:
        async with self._engine.transaction():
            for start in range(0, len(signals), 1000):  # a parameter each: a statement takes 32,767
                batch = signals[start : start + 1000]
                await Signal.insert(*(Signal(project_id=project_id, id=new_id(), run_id=run_id, **row) for row in batch))
