"""QAFixAttempt: one model dispatch and its outcome."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from derwin_db.fields.columns import as_json, choice, nullable, timestamp, unset, with_default
from derwin_db.fields.money import Cost
from derwin_db.fields.scalars import Count, Id, LongText, ShortText, WebUrl
from derwin_db.fields.table import (
    SCHEMA,
    Changing,
    Fields,
    Input,
    JsonModel,
    ProjectTable,
    PydanticJson,
    index,
    owned_by_project,
    paged,
    primary_key,
    reference,
    unique,
)


class FixStatus(StrEnum):
    """DISPATCHED -> RUNNING -> SUCCEEDED | FAILED; DISPATCHED | RUNNING -> CANCELLED; SUCCEEDED -> FAILED if reverted."""

    DISPATCHED = "DISPATCHED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


TRANSITIONS: dict[FixStatus, tuple[FixStatus, ...]] = {
    FixStatus.RUNNING: (FixStatus.DISPATCHED,),
    FixStatus.SUCCEEDED: (FixStatus.RUNNING,),
    FixStatus.FAILED: (FixStatus.RUNNING, FixStatus.SUCCEEDED),
    FixStatus.CANCELLED: (FixStatus.DISPATCHED, FixStatus.RUNNING),
}
"""Where each status can be reached from; the database refuses every other move (derwin_db/sql/statuses.*.sql)."""


class FixOutcome(StrEnum):
    """How an attempt ended. PR_OPENED may be concluded again, as MERGED or REJECTED."""

    MERGED = "MERGED"
    PR_OPENED = "PR_OPENED"
    TESTS_FAILED = "TESTS_FAILED"
    REJECTED = "REJECTED"
    REVERTED = "REVERTED"
    TIMED_OUT = "TIMED_OUT"
    ERROR = "ERROR"


class DiffStat(JsonModel):
    """Size of a diff, in files and lines."""

    files: Count = 0
    insertions: Count = 0
    deletions: Count = 0


class QAFixAttemptFields(Fields):
    """What an attempt is dispatched with, beside its ticket."""

    model: ShortText
    branch: ShortText | None = nullable(ShortText)
    prompt_artifact_id: Id | None = nullable(Id)


class QAFixAttemptCreate(QAFixAttemptFields, Input):
    """What `repos.qa_fix_attempts.dispatch` takes as keywords."""


class QAFixAttemptConclusion(Input):
    """What `repos.qa_fix_attempts.conclude` takes as keywords, beside the outcome."""

    branch: ShortText | None = unset()
    pr_url: WebUrl | None = unset()
    diff_stat: DiffStat | None = unset()
    input_tokens: Count = unset()
    output_tokens: Count = unset()
    cost_usd: Cost = unset()
    error: LongText | None = unset()


class QAFixAttempt(Changing, QAFixAttemptFields, ProjectTable, table=True):
    """One attempt to fix one ticket.

    Unique by its number within the ticket. Written by `dispatch`, `start`, `conclude`, `mark_reverted` and `cancel`; goes
    with its ticket or project.
    """

    __tablename__: ClassVar[str] = "qa_fix_attempts"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        primary_key("qa_fix_attempts"),
        owned_by_project("qa_fix_attempts"),
        reference("qa_fix_attempts", "ticket_id", "qa_tickets", ondelete="CASCADE"),
        unique("qa_fix_attempts", "ticket_id", "attempt_no"),
        index("qa_fix_attempts", "concluded_at"),
        paged("qa_fix_attempts"),
        paged("qa_fix_attempts", "status"),
        {"schema": SCHEMA},
    )

    ticket_id: Id
    attempt_no: Count
    status: FixStatus = choice(FixStatus, default=FixStatus.DISPATCHED)
    outcome: FixOutcome | None = choice(FixOutcome, default=None)
    pr_url: str | None = nullable(WebUrl)
    diff_stat: DiffStat | None = as_json(PydanticJson(DiffStat), lambda: None, server_default=None)
    input_tokens: int = with_default(Count, default=0, server_default="0")
    output_tokens: int = with_default(Count, default=0, server_default="0")
    cost_usd: Decimal = with_default(Cost, default=Decimal(0), server_default="0")
    error: str | None = nullable(LongText)
    started_at: datetime | None = timestamp()
    concluded_at: datetime | None = timestamp()
    prompt_artifact_id: UUID | None = nullable(Id)
