"""QATicket: the structured bug ticket, and its state machine."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import AfterValidator
from sqlmodel import Field

from derwin_db.fields.columns import choice, nullable, timestamp, unset, with_default
from derwin_db.fields.json import check_json_size
from derwin_db.fields.scalars import Classification, Count, Fingerprint, Id, LongText, Score, ShortText
from derwin_db.fields.table import (
    SCHEMA,
    Changing,
    Fields,
    Input,
    ProjectTable,
    PydanticJson,
    index,
    owned_by_project,
    paged,
    primary_key,
    reference,
)
from derwin_db.models.enums import Bucket, Severity


class TicketStatus(StrEnum):
    """OPEN -> TRIAGED -> IN_PROGRESS -> FIX_PROPOSED -> RESOLVED, and the ways out; `TRANSITIONS` has every edge."""

    OPEN = "OPEN"
    TRIAGED = "TRIAGED"
    IN_PROGRESS = "IN_PROGRESS"
    FIX_PROPOSED = "FIX_PROPOSED"
    RESOLVED = "RESOLVED"
    DUPLICATE = "DUPLICATE"
    REJECTED = "REJECTED"
    WONT_FIX = "WONT_FIX"


OPEN_STATUSES = (TicketStatus.OPEN, TicketStatus.TRIAGED, TicketStatus.IN_PROGRESS, TicketStatus.FIX_PROPOSED)
"""A ticket in one of these waits for work."""

TRANSITIONS: dict[TicketStatus, tuple[TicketStatus, ...]] = {
    TicketStatus.OPEN: (TicketStatus.RESOLVED,),
    TicketStatus.TRIAGED: (TicketStatus.OPEN,),
    TicketStatus.IN_PROGRESS: (TicketStatus.TRIAGED, TicketStatus.FIX_PROPOSED),
    TicketStatus.FIX_PROPOSED: (TicketStatus.IN_PROGRESS,),
    TicketStatus.RESOLVED: (TicketStatus.FIX_PROPOSED,),
    TicketStatus.REJECTED: OPEN_STATUSES,
    TicketStatus.WONT_FIX: OPEN_STATUSES,
}
"""Where each status can be reached from by `transition`. DUPLICATE is reached by `mark_duplicate` alone.

The database refuses every other move, and one to DUPLICATE that names no ticket (derwin_db/sql/statuses.*.sql)."""

StepsJson = Annotated[list[LongText], AfterValidator(check_json_size), Field(sa_type=PydanticJson(list[str]))]


class QATicketFields(Fields):
    """What a ticket is written with."""

    run_id: Id | None = nullable(Id)
    title: ShortText
    description: LongText
    steps_to_reproduce: StepsJson
    expected: LongText | None = nullable(LongText)
    actual: LongText | None = nullable(LongText)
    severity: Annotated[Severity, choice(Severity)]
    classification: Classification
    confidence: Score
    risk_score: Score
    fingerprint: Fingerprint | None = nullable(Fingerprint)
    external_ref: ShortText | None = nullable(ShortText)


class QATicketCreate(QATicketFields, Input):
    """Input of `repos.qa_tickets.create`."""


class QATicketBrief(Fields):
    """A ticket without its long texts: what `repos.qa_tickets.list_brief` reads."""

    project_id: UUID
    id: UUID
    created_at: datetime
    updated_at: datetime
    run_id: UUID | None
    title: str
    severity: Severity
    classification: str
    status: TicketStatus
    initial_bucket: Bucket | None
    final_bucket: Bucket | None
    confidence: float
    risk_score: float
    fingerprint: str | None
    duplicate_of_id: UUID | None
    external_ref: str | None
    resolved_at: datetime | None
    version: int


class QATicketUpdate(Input):
    """Input of `repos.qa_tickets.update`. Status, bucket and duplicate have verbs of their own."""

    run_id: Id | None = unset()
    title: ShortText = unset()
    description: LongText = unset()
    steps_to_reproduce: StepsJson = unset()
    expected: LongText | None = unset()
    actual: LongText | None = unset()
    severity: Severity = unset()
    classification: Classification = unset()
    confidence: Score = unset()
    risk_score: Score = unset()
    fingerprint: Fingerprint | None = unset()
    external_ref: ShortText | None = unset()


class QATicket(Changing, QATicketFields, ProjectTable, table=True):
    """One bug.

    Written by triage and by people; its status moves along `TRANSITIONS` only. Goes with its project or by `delete`,
    unless evidence of it must be kept.
    """

    __tablename__: ClassVar[str] = "qa_tickets"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        primary_key("qa_tickets"),
        owned_by_project("qa_tickets"),
        reference("qa_tickets", "run_id", "qa_runs"),
        reference("qa_tickets", "duplicate_of_id", "qa_tickets"),
        index("qa_tickets", "run_id"),
        index("qa_tickets", "duplicate_of_id"),
        index("qa_tickets", "fingerprint text_pattern_ops"),
        paged("qa_tickets"),
        paged("qa_tickets", "status"),
        paged("qa_tickets", "final_bucket"),
        paged("qa_tickets", "classification text_pattern_ops"),
        index("qa_tickets", "risk_score DESC", "id DESC"),
        {"schema": SCHEMA},
    )

    status: TicketStatus = choice(TicketStatus, default=TicketStatus.OPEN)
    initial_bucket: Bucket | None = choice(Bucket, default=None)
    final_bucket: Bucket | None = choice(Bucket, default=None)
    duplicate_of_id: UUID | None = nullable(Id)
    resolved_at: datetime | None = timestamp()
    version: int = with_default(Count, default=1, server_default="1")
