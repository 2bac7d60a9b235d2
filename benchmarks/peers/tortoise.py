"""Tortoise ORM, as the owner, filtered by hand. It has no vectors."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from tortoise import Tortoise, fields
from tortoise.functions import Sum
from tortoise.models import Model
from tortoise.transactions import in_transaction

from benchmarks.data import Workload
from benchmarks.peers.base import LIST_LIMIT, POOL_SIZE, Unsupported, month_ago, new_ticket
from derwin_db.fields.scalars import new_id
from derwin_db.testing import TestDatabase


class Ticket(Model):
    project_id = fields.UUIDField()
    id = fields.UUIDField(primary_key=True, default=new_id)
    created_at = fields.DatetimeField(auto_now_add=True)
    updated_at = fields.DatetimeField(auto_now=True)
    run_id = fields.UUIDField(null=True)
    title = fields.TextField()
    description = fields.TextField()
    steps_to_reproduce: Any = fields.JSONField()
    expected = fields.TextField(null=True)
    actual = fields.TextField(null=True)
    severity = fields.CharField(32)
    classification = fields.CharField(64)
    confidence = fields.FloatField()
    risk_score = fields.FloatField()
    fingerprint = fields.CharField(128, null=True)
    external_ref = fields.CharField(500, null=True)
    status = fields.CharField(32, default="OPEN")
    initial_bucket = fields.CharField(32, null=True)
    final_bucket = fields.CharField(32, null=True)
    duplicate_of_id = fields.UUIDField(null=True)
    resolved_at = fields.DatetimeField(null=True)
    version = fields.IntField(default=1)

    class Meta:
        """Where the tickets are."""

        table = "qa_tickets"


class Signal(Model):
    project_id = fields.UUIDField()
    id = fields.UUIDField(primary_key=True, default=new_id)
    run_id = fields.UUIDField()
    route = fields.CharField(32)
    title = fields.TextField()
    fingerprint = fields.CharField(128)
    severity_hint = fields.CharField(32, null=True)
    confidence = fields.FloatField()
    payload: Any = fields.JSONField()
    observed_at = fields.DatetimeField()

    class Meta:
        """Where the signals are."""

        table = "raw_signals"


class Spend(Model):
    project_id = fields.UUIDField()
    id = fields.UUIDField(primary_key=True)
    amount_usd = fields.DecimalField(14, 6)
    occurred_at = fields.DatetimeField()

    class Meta:
        """Where the entries are."""

        table = "spend_ledger"


class TortoiseOrm:
    name: ClassVar[str] = "tortoise_unscoped"

    async def open(self, database: TestDatabase, _workload: Workload) -> None:
        login = database.owner.connect_arguments()
        credentials = {name: login[name] for name in ("host", "port", "user", "database")}
        credentials.update(password=login.get("password"), minsize=POOL_SIZE, maxsize=POOL_SIZE)
        await Tortoise.init(
            config={
                "connections": {"default": {"engine": "tortoise.backends.asyncpg", "credentials": credentials}},
                "apps": {"models": {"models": [__name__], "default_connection": "default"}},
                "use_tz": True,
                "timezone": "UTC",
            },
            _enable_global_fallback=True,
        )

    async def close(self) -> None:
        await Tortoise.close_connections()

    async def get(self, project_id: UUID, ticket_id: UUID) -> Any:
        async with in_transaction() as connection:
            return await Ticket.get(project_id=project_id, id=ticket_id).using_db(connection)

    async def list(self, project_id: UUID) -> Any:
        async with in_transaction() as connection:
            query = Ticket.filter(project_id=project_id).order_by("-created_at", "-id").limit(LIST_LIMIT)
            return await query.using_db(connection)

    async def insert(self, project_id: UUID, number: int) -> Any:
        async with in_transaction() as connection:
            return await Ticket.create(project_id=project_id, **new_ticket(number), using_db=connection)

    async def update(self, project_id: UUID, ticket_id: UUID, number: int) -> Any:
        async with in_transaction() as connection:
            ticket = await Ticket.get(project_id=project_id, id=ticket_id).using_db(connection)
            ticket.title = f"Totals drift, again {number}"
            ticket.version += 1
            await ticket.save(using_db=connection, update_fields=["title", "version", "updated_at"])
            return ticket

    async def spend(self, project_id: UUID) -> Decimal:
        async with in_transaction() as connection:
            query = Spend.filter(project_id=project_id, occurred_at__gte=month_ago()).using_db(connection)
            rows = await query.annotate(total=Sum("amount_usd")).values("total")
            return rows[0]["total"] or Decimal(0)

    async def search(self, project_id: UUID, embedding: Sequence[float]) -> Any:
        raise Unsupported("Tortoise has no vector columns")

    def signals(self, rows: Sequence[dict[str, Any]]) -> Any:
        return rows

    async def bulk(self, project_id: UUID, run_id: UUID, signals: Any) -> Any:
        async with in_transaction() as connection:
            rows = [Signal(project_id=project_id, run_id=run_id, **row) for row in signals]
            await Signal.bulk_create(rows, batch_size=1000, using_db=connection)
