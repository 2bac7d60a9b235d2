"""What must type-check, with the types that come back."""

from collections.abc import AsyncIterator
from typing import assert_type
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from derwin_db import AdminSession, Database, Page, ProjectSession, repos
from derwin_db.models import (
    IngestResult,
    Project,
    ProjectCreate,
    ProjectType,
    QATicket,
    QATicketCreate,
    QATicketUpdate,
    RawSignal,
    RawSignalCreate,
    Severity,
    SpendCap,
    SpendLedger,
    SpendLedgerCreate,
    TicketStatus,
)
from derwin_db.testing import assert_isolated


async def units(db: Database, some_id: UUID) -> None:
    async with db.project("acme") as session:
        assert_type(session, ProjectSession)
        assert_type(session.project_id, UUID)
        assert_type(session.sql, AsyncSession)
        async with session.savepoint():
            await repos.qa_tickets.delete(session, some_id)
    async with db.project(some_id, read_only=True) as session:
        await repos.qa_tickets.count(session)
    async with db.admin(reason="onboarding") as admin:
        assert_type(admin, AdminSession)


async def reads(session: ProjectSession, admin: AdminSession, some_id: UUID) -> None:
    assert_type(await repos.qa_tickets.get(session, some_id), QATicket)
    assert_type(await repos.qa_tickets.find(session, some_id), QATicket | None)
    assert_type(await repos.qa_tickets.list(session, status=TicketStatus.OPEN, limit=10), Page[QATicket])
    assert_type(repos.raw_signals.stream(session, run_id=some_id), AsyncIterator[RawSignal])
    assert_type(await repos.qa_tickets.exists(session, some_id), bool)
    assert_type(await repos.projects.get(session, some_id), Project)
    assert_type(await repos.projects.get(admin, some_id), Project)
    assert_type((await repos.qa_tickets.list(session, severity=Severity.HIGH, since=None)).next_cursor, str | None)


async def writes(
    session: ProjectSession, admin: AdminSession, data: QATicketCreate, entry: SpendLedgerCreate, cap: SpendCap
) -> None:
    ticket = await repos.qa_tickets.create(session, data)
    assert_type(ticket, QATicket)
    await repos.qa_tickets.update(session, ticket.id, QATicketUpdate(severity=Severity.LOW), expected_version=1)
    assert_type(await repos.spend_ledger.append(session, entry, cap=cap), SpendLedger)
    await repos.projects.create(admin, ProjectCreate(slug="acme", name="Acme", type=ProjectType.ERP))


async def batches(session: ProjectSession, run_id: UUID, signals: list[RawSignalCreate]) -> IngestResult:
    return await repos.raw_signals.ingest(session, run_id, signals)


async def runs(db: Database) -> None:
    async def work(session: ProjectSession, limit: int) -> list[QATicket]:
        return (await repos.qa_tickets.list(session, limit=limit)).items

    assert_type(await db.run("acme", work, 5), list[QATicket])


async def isolated(db: Database) -> None:
    async def mine(session: ProjectSession) -> int:
        return await repos.qa_tickets.count(session)

    await assert_isolated(mine)
    await assert_isolated(mine, database=db)
