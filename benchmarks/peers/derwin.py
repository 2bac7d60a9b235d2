"""derwin-db, as a service uses it."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from benchmarks.data import Workload
from benchmarks.peers.base import LIST_LIMIT, POOL_SIZE, SEARCH_LIMIT, month_ago, new_ticket
from derwin_db import Database, repos
from derwin_db.models import QATicketCreate, QATicketUpdate, RawSignalCreate
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase


class Derwin:
    """Ours."""

    name: ClassVar[str] = "derwin"

    async def open(self, database: TestDatabase, _workload: Workload) -> None:
        self.database = Database(**database.urls, settings=Settings(pool_size=POOL_SIZE))
        await self.database.start()

    async def close(self) -> None:
        await self.database.close()

    async def get(self, project_id: UUID, ticket_id: UUID) -> Any:
        async with self.database.project(project_id) as session:
            return await repos.qa_tickets.get(session, ticket_id)

    async def list(self, project_id: UUID) -> Any:
        async with self.database.project(project_id) as session:
            return await repos.qa_tickets.list(session, limit=LIST_LIMIT)

    async def insert(self, project_id: UUID, number: int) -> Any:
        async with self.database.project(project_id) as session:
            return await repos.qa_tickets.create(session, QATicketCreate(**new_ticket(number)))

    async def update(self, project_id: UUID, ticket_id: UUID, number: int) -> Any:
        async with self.database.project(project_id) as session:
            return await repos.qa_tickets.update(session, ticket_id, QATicketUpdate(title=f"Totals drift, again {number}"))

    async def three_reads(self, project_id: UUID, ticket_id: UUID) -> Any:
        async with self.database.project(project_id) as session:
            return [await repos.qa_tickets.get(session, ticket_id) for _ in range(3)]

    async def read_write(self, project_id: UUID, ticket_id: UUID, number: int) -> Any:
        async with self.database.project(project_id) as session:
            row = await repos.qa_tickets.get(session, ticket_id)
            return await repos.qa_tickets.update(session, row.id, QATicketUpdate(title=f"Totals drift, again {number}"))

    async def spend(self, project_id: UUID) -> Decimal:
        async with self.database.project(project_id) as session:
            return await repos.spend_ledger.total(session, since=month_ago())

    async def search(self, project_id: UUID, embedding: Sequence[float]) -> Any:
        async with self.database.project(project_id) as session:
            return await repos.rag_corpus.search(session, embedding, limit=SEARCH_LIMIT)

    def signals(self, rows: Sequence[dict[str, Any]]) -> Any:
        return [RawSignalCreate(**row) for row in rows]

    async def bulk(self, project_id: UUID, run_id: UUID, signals: Any) -> Any:
        async with self.database.project(project_id) as session:
            return await repos.raw_signals.ingest(session, run_id, signals)
