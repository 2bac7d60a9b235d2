"""RawSignal: what a discovery route emits before triage."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import Field as PydanticField
from sqlmodel import Field

from derwin_db.fields.columns import choice, nullable
from derwin_db.fields.json import JsonObject
from derwin_db.fields.scalars import Fingerprint, Id, Score, ShortText, Timestamp
from derwin_db.fields.table import (
    SCHEMA,
    TURNING_OVER,
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
    unique,
)
from derwin_db.models.enums import DiscoveryRoute, Severity


class SignalStatus(StrEnum):
    """What triage made of the signal."""

    NEW = "NEW"
    TRIAGED = "TRIAGED"
    DUPLICATE = "DUPLICATE"
    DISCARDED = "DISCARDED"


class RawSignalFields(Fields):
    """What a signal is ingested with. Its run is named once for the whole batch."""

    route: Annotated[DiscoveryRoute, choice(DiscoveryRoute)]
    title: ShortText
    fingerprint: Fingerprint
    severity_hint: Severity | None = choice(Severity, default=None)
    confidence: Score
    payload: Annotated[JsonObject, Field(sa_type=PydanticJson(dict[str, Any]))]
    observed_at: Timestamp


class RawSignalCreate(RawSignalFields, Input):
    """Input of `repos.raw_signals.ingest`."""


class RawSignalBrief(Fields):
    """A signal without its payload: what `repos.raw_signals.list_brief` reads."""

    project_id: UUID
    id: UUID
    created_at: datetime
    updated_at: datetime
    run_id: UUID
    route: DiscoveryRoute
    title: str
    fingerprint: str
    severity_hint: Severity | None
    confidence: float
    status: SignalStatus
    ticket_id: UUID | None
    observed_at: datetime


class RawSignal(Changing, RawSignalFields, ProjectTable, table=True):
    """One finding of one run.

    Unique by its fingerprint within the run. Written in bulk by `ingest`; goes with its run, its project, or by `delete`.
    """

    __tablename__: ClassVar[str] = "raw_signals"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        primary_key("raw_signals"),
        owned_by_project("raw_signals"),
        reference("raw_signals", "run_id", "qa_runs", ondelete="CASCADE"),
        reference("raw_signals", "ticket_id", "qa_tickets"),
        unique("raw_signals", "run_id", "fingerprint"),
        index("raw_signals", "run_id", "status"),
        index("raw_signals", "ticket_id"),
        index("raw_signals", "fingerprint text_pattern_ops"),
        paged("raw_signals"),
        paged("raw_signals", "status"),
        {"schema": SCHEMA, "postgresql_with": TURNING_OVER},
    )

    run_id: Id
    status: SignalStatus = choice(SignalStatus, default=SignalStatus.NEW)
    ticket_id: UUID | None = nullable(Id)


@dataclass(frozen=True, slots=True)
class IngestResult:
    """How many signals of a batch were new, and how many the run had already."""

    inserted: Annotated[int, PydanticField(description="Signals that were new.", examples=[12])]
    duplicates: Annotated[int, PydanticField(description="Signals that the run had already.", examples=[3])]
