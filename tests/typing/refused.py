"""What must not type-check: each line with a marker is an error for both checkers, and no other line is."""

from typing import Any
from uuid import UUID

from derwin_db import AdminSession, Database, ProjectSession, repos
from derwin_db.filters import IS_NULL, not_
from derwin_db.models import (
    ProjectCreate,
    ProjectType,
    QARunCreate,
    QATicketCreate,
    QATicketUpdate,
    Severity,
    TicketStatus,
)


async def without_a_project(db: Database) -> None:
    db.project()  # E:
    db.project(None)  # E:
    db.project(1)  # E:
    db.project(b"acme")  # E:
    db.project("acme", "globex")  # E:
    db.project("acme", readonly=True)  # E:


async def without_a_reason(db: Database) -> None:
    db.admin()  # E:
    db.admin("a reason")  # E:
    db.admin(reason=None)  # E:


async def without_a_session(some_id: UUID) -> None:
    await repos.qa_tickets.list()  # E:
    await repos.qa_tickets.list(None)  # E:
    await repos.qa_tickets.list("acme")  # E:
    await repos.qa_tickets.list(some_id)  # E:
    await repos.qa_tickets.get(some_id)  # E:
    await repos.qa_tickets.count(status=TicketStatus.OPEN)  # E:
    repos.qa_tickets.stream()  # E:
    await repos.spend_ledger.total()  # E:


async def with_the_database(db: Database, some_id: UUID) -> None:
    await repos.qa_tickets.get(db, some_id)  # E:
    await repos.qa_tickets.list(db.project("acme").sql)  # E:


async def admin_for_a_project(admin: AdminSession, some_id: UUID, data: QATicketCreate) -> None:
    await repos.qa_tickets.get(admin, some_id)  # E:
    await repos.qa_tickets.list(admin)  # E:
    await repos.qa_tickets.create(admin, data)  # E:
    await repos.rag_corpus.search(admin, [0.0])  # E:
    await repos.projects.current(admin)  # E:
    await repos.spend_ledger.total(admin)  # E:
    await repos.audit_artifacts.hold(admin, some_id)  # E:


async def project_for_the_admin(session: ProjectSession, some_id: UUID) -> None:
    data = ProjectCreate(slug="acme", name="Acme", type=ProjectType.ERP)
    await repos.projects.create(session, data)  # E:
    await repos.projects.delete(session, some_id)  # E:
    await repos.projects.archive(session, some_id)  # E:
    await repos.spend_ledger.totals_by_project(session)  # E:


async def other_filters(session: ProjectSession, some_id: UUID) -> None:
    await repos.qa_tickets.list(session, status="OPEN")  # E:
    await repos.qa_tickets.list(session, stauts=TicketStatus.OPEN)  # E:
    await repos.qa_tickets.list(session, project_id=some_id)  # E:
    await repos.qa_tickets.count(session, severity=TicketStatus.OPEN)  # E:
    await repos.qa_tickets.list(session, limit="50")  # E:
    await repos.qa_tickets.list(session, offset=10)  # E:
    await repos.qa_runs.list(session, classification="ui_bug")  # E:
    repos.raw_signals.stream(session, run_id=1)  # E:
    await repos.qa_tickets.list(session, status=["OPEN"])  # E:
    await repos.qa_tickets.list(session, status=IS_NULL)  # E:
    await repos.qa_tickets.list(session, status=not_(Severity.LOW))  # E:
    await repos.qa_tickets.list(session, min_risk_score="0.5")  # E:
    await repos.qa_tickets.list(session, min_risk_score=not_(0.5))  # E:
    await repos.spend_ledger.count(session, min_amount_usd=1.5)  # E:
    await repos.qa_tickets.list(session, order="title")  # E:
    await repos.qa_runs.list(session, order="-risk_score")  # E:
    await repos.qa_tickets.list(session, with_total="yes")  # E:
    await repos.qa_tickets.get_many(session, "x")  # E:
    _ = (await repos.qa_tickets.list_brief(session)).items[0].description  # E:


async def other_data(
    session: ProjectSession, some_id: UUID, run: QARunCreate, change: QATicketUpdate, row: dict[str, Any]
) -> None:
    await repos.qa_tickets.create(session, run)  # E:
    await repos.qa_tickets.create(session, row)  # E:
    await repos.qa_tickets.create(session, change)  # E:
    await repos.qa_tickets.update(session, change)  # E:
    await repos.qa_tickets.transition(session, some_id, "RESOLVED")  # E:
    await repos.spend_ledger.totals_by(session, "month")  # E:
    await repos.qa_tickets.get(session, "not-a-uuid")  # E:


async def columns_of_the_repository(some_id: UUID) -> None:
    QATicketUpdate(project_id=some_id)  # E:
    QATicketUpdate(status=TicketStatus.OPEN)  # E:
    QATicketUpdate(severity=Severity.LOW, id=some_id)  # E:


async def another_scope(session: ProjectSession, some_id: UUID) -> None:
    session.project_id = some_id  # E:
    await session.commit()  # E:
    session.project("globex")  # E:


class Mine(ProjectSession):  # E:
    """A session of somebody's own."""


async def not_a_unit(db: Database) -> None:
    async def takes_no_session(number: int) -> int:
        return number

    await db.run("acme", takes_no_session)  # E:
    with db.project("acme"):  # E:
        pass
