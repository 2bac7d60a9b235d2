"""QARun: one discovery pass over the product."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator
from sqlmodel import Field

from derwin_db.fields.columns import as_json, choice, nullable, timestamp
from derwin_db.fields.json import check_json_size
from derwin_db.fields.scalars import Count, LongText, ShortText, WebUrl
from derwin_db.fields.table import (
    SCHEMA,
    Changing,
    Fields,
    Input,
    JsonModel,
    ProjectTable,
    PydanticJson,
    owned_by_project,
    paged,
    primary_key,
)
from derwin_db.models.enums import DiscoveryRoute, ProjectMode


class RunTrigger(StrEnum):
    """What started the run."""

    MANUAL = "MANUAL"
    SCHEDULED = "SCHEDULED"
    DEPLOY = "DEPLOY"
    WEBHOOK = "WEBHOOK"


class RunStatus(StrEnum):
    """QUEUED -> RUNNING -> COMPLETED | FAILED; QUEUED | RUNNING -> CANCELLED; RUNNING -> QUEUED: stalled, or given back."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


TRANSITIONS: dict[RunStatus, tuple[RunStatus, ...]] = {
    RunStatus.QUEUED: (RunStatus.RUNNING,),
    RunStatus.RUNNING: (RunStatus.QUEUED,),
    RunStatus.COMPLETED: (RunStatus.RUNNING,),
    RunStatus.FAILED: (RunStatus.RUNNING,),
    RunStatus.CANCELLED: (RunStatus.QUEUED, RunStatus.RUNNING),
}
"""Where each status can be reached from; the database refuses every other move (derwin_db/sql/statuses.*.sql)."""


class RunStats(JsonModel):
    """What a run found. `by_route` counts signals."""

    signals: Count = 0
    duplicates: Count = 0
    tickets: Count = 0
    by_route: dict[DiscoveryRoute, Count] = {}


RoutesJson = Annotated[
    list[DiscoveryRoute],
    Field(min_length=1, max_length=len(DiscoveryRoute), sa_type=PydanticJson(list[DiscoveryRoute])),
    AfterValidator(check_json_size),
]


class QARunFields(Fields):
    """What a run is enqueued with."""

    trigger: Annotated[RunTrigger, choice(RunTrigger)]
    routes: RoutesJson
    target_url: WebUrl | None = nullable(WebUrl)
    commit_sha: ShortText | None = nullable(ShortText)


class QARunCreate(QARunFields, Input):
    """Input of `repos.qa_runs.enqueue`."""


class QARun(Changing, QARunFields, ProjectTable, table=True):
    """One discovery pass.

    Written by the queue's verbs (`enqueue`, `claim`, `complete`, ...); goes with its project or by `delete`, and its
    signals with it.
    """

    __tablename__: ClassVar[str] = "qa_runs"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        primary_key("qa_runs"),
        owned_by_project("qa_runs"),
        paged("qa_runs"),
        paged("qa_runs", "status"),
        {"schema": SCHEMA},
    )

    status: RunStatus = choice(RunStatus, default=RunStatus.QUEUED)
    mode: Annotated[ProjectMode, choice(ProjectMode)]
    claimed_by: str | None = nullable(ShortText)
    heartbeat_at: datetime | None = timestamp()
    started_at: datetime | None = timestamp()
    finished_at: datetime | None = timestamp()
    stats: RunStats = as_json(PydanticJson(RunStats), RunStats)
    error: str | None = nullable(LongText)
