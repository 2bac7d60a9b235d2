"""What must type-check, with the types that come back."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import assert_type
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from derwin_db import AdminSession, Database, Page, ProjectSession, repos
from derwin_db.filters import IS_NULL, not_
from derwin_db.models import (
    Bucket,
    IngestResult,
    Project,
    ProjectCreate,
    ProjectType,
    QAFixAttempt,
    QATicket,
    QATicketBrief,
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


async def filters(session: ProjectSession, some_id: UUID) -> None:
    await repos.qa_tickets.list(session, status=[TicketStatus.OPEN, TicketStatus.TRIAGED])
    await repos.qa_tickets.list(session, status={TicketStatus.OPEN}, run_id=(some_id,), classification=["ui_bug"])
    await repos.qa_tickets.count(session, final_bucket=IS_NULL)
    await repos.qa_tickets.count(session, final_bucket=[IS_NULL, Bucket.NOISE])
    await repos.qa_tickets.count(session, final_bucket=not_(IS_NULL), status=not_(TicketStatus.DUPLICATE))
    await repos.qa_tickets.count(session, status=not_([TicketStatus.DUPLICATE, TicketStatus.REJECTED]))
    await repos.qa_tickets.count(session, classification=not_("ui_bug"), min_risk_score=0.5, classification_prefix="ui_")
    await repos.spend_ledger.count(session, min_amount_usd=Decimal(1), occurred_since=datetime.now(UTC))
    wanted: list[TicketStatus] | None = None
    await repos.qa_tickets.list(session, status=wanted)


async def shapes(session: ProjectSession, some_id: UUID) -> None:
    assert_type(await repos.qa_tickets.list(session, order="-risk_score", with_total=True), Page[QATicket])
    assert_type((await repos.qa_tickets.list(session)).total, int | None)
    assert_type(await repos.qa_tickets.list_brief(session, order="updated_at"), Page[QATicketBrief])
    assert_type(await repos.qa_tickets.get_many(session, [some_id]), dict[UUID, QATicket])
    assert_type(await repos.raw_signals.of_tickets(session, [some_id]), dict[UUID, Sequence[RawSignal]])
    assert_type(await repos.qa_fix_attempts.latest_of_tickets(session, [some_id]), dict[UUID, QAFixAttempt])


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
