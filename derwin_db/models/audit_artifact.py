"""AuditArtifact: persistent evidence, kept for as long as the project's compliance mode demands."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar

import sqlalchemy as sa
from sqlmodel import Field

from derwin_db.fields.columns import choice, nullable
from derwin_db.fields.scalars import AnyUri, ByteSize, Id, Sha256, ShortText, Timestamp
from derwin_db.fields.table import (
    SCHEMA,
    TURNING_OVER,
    Changing,
    Fields,
    Input,
    ProjectTable,
    index,
    owned_by_project,
    paged,
    primary_key,
    reference,
)
from derwin_db.models.enums import ComplianceMode


class ArtifactKind(StrEnum):
    """What the evidence is."""

    SCREENSHOT = "SCREENSHOT"
    VIDEO = "VIDEO"
    PROMPT = "PROMPT"
    DIFF = "DIFF"
    LOG = "LOG"
    TRACE = "TRACE"
    HAR = "HAR"
    REPORT = "REPORT"


RETENTION: dict[ComplianceMode, str] = {
    ComplianceMode.STANDARD: "90 days",
    ComplianceMode.GDPR: "30 days",
    ComplianceMode.SOC2: "13 months",
    ComplianceMode.PCI_DSS: "13 months",
    ComplianceMode.HIPAA: "6 years",
    ComplianceMode.SOX: "7 years",
}
"""How long evidence is kept, as calendar intervals of PostgreSQL.

Source: STANDARD is our own default. GDPR art. 5(1)(e) asks for no longer than necessary and gives no number. SOC2 has no
fixed period; 12 months are custom, and one more is margin. PCI DSS 4.0.1 req. 10.5.1: 12 months, and one more. HIPAA: 45
CFR 164.316(b)(2)(i). SOX: 17 CFR 210.2-06.
"""


class AuditArtifactFields(Fields):
    """What evidence is recorded with. The bytes themselves live where `storage_uri` says."""

    run_id: Id | None = nullable(Id)
    ticket_id: Id | None = nullable(Id)
    fix_attempt_id: Id | None = nullable(Id)
    kind: Annotated[ArtifactKind, choice(ArtifactKind)]
    storage_uri: AnyUri
    mime_type: ShortText
    byte_size: ByteSize
    content_hash: Sha256


class AuditArtifactCreate(AuditArtifactFields, Input):
    """Input of `repos.audit_artifacts.record`. Its retention is computed by the database."""


class AuditArtifact(Changing, AuditArtifactFields, ProjectTable, table=True):
    """One piece of evidence.

    Written by `record`. What it points to can't be deleted while it is kept. Goes by `prune_expired` after its time and
    without a hold, or with its project.
    """

    __tablename__: ClassVar[str] = "audit_artifacts"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        primary_key("audit_artifacts"),
        owned_by_project("audit_artifacts"),
        reference("audit_artifacts", "run_id", "qa_runs"),
        reference("audit_artifacts", "ticket_id", "qa_tickets"),
        reference("audit_artifacts", "fix_attempt_id", "qa_fix_attempts"),
        index("audit_artifacts", "run_id"),
        index("audit_artifacts", "ticket_id"),
        index("audit_artifacts", "fix_attempt_id"),
        index("audit_artifacts", "retention_until"),
        paged("audit_artifacts"),
        {"schema": SCHEMA, "postgresql_with": TURNING_OVER},
    )

    compliance_mode: Annotated[ComplianceMode, choice(ComplianceMode)]
    retention_until: Timestamp
    legal_hold: bool = Field(default=False, sa_column_kwargs={"server_default": sa.text("false")})


@dataclass(frozen=True, slots=True)
class PruneResult:
    """What one batch of pruning removed, and how many expired artifacts without a hold are left."""

    pruned: int
    remaining: int
