"""The tables as a stranger maps them: plain types, JSON as it comes, one registry a library."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pgvector.sqlalchemy import Vector
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry
from sqlmodel import Field, SQLModel

from derwin_db.fields.scalars import new_id
from derwin_db.fields.vector import VECTOR_SIZE

_NOW: dict[str, Any] = {"server_default": sa.text("now()")}
_TIME: Any = sa.DateTime(timezone=True)


class Plain(SQLModel, registry=registry()):
    """SQLModel with a registry of its own."""


class Ticket(Plain, table=True):
    __tablename__ = "qa_tickets"
    __table_args__ = {"schema": "public"}

    project_id: UUID = Field(primary_key=True)
    id: UUID = Field(default_factory=new_id, primary_key=True)
    created_at: datetime = Field(default=None, sa_type=_TIME, sa_column_kwargs=_NOW)
    updated_at: datetime = Field(default=None, sa_type=_TIME, sa_column_kwargs=_NOW)
    run_id: UUID | None = None
    title: str
    description: str
    steps_to_reproduce: list[str] = Field(sa_type=JSONB)
    expected: str | None = None
    actual: str | None = None
    severity: str
    classification: str
    confidence: float
    risk_score: float
    fingerprint: str | None = None
    external_ref: str | None = None
    status: str = "OPEN"
    initial_bucket: str | None = None
    final_bucket: str | None = None
    duplicate_of_id: UUID | None = None
    resolved_at: datetime | None = Field(default=None, sa_type=_TIME)
    version: int = 1


class Signal(Plain, table=True):
    __tablename__ = "raw_signals"
    __table_args__ = {"schema": "public"}

    project_id: UUID = Field(primary_key=True)
    id: UUID = Field(default_factory=new_id, primary_key=True)
    run_id: UUID
    route: str
    title: str
    fingerprint: str
    severity_hint: str | None = None
    confidence: float
    payload: dict[str, Any] = Field(sa_type=JSONB)
    observed_at: datetime = Field(sa_type=_TIME)


class Spend(Plain, table=True):
    __tablename__ = "spend_ledger"
    __table_args__ = {"schema": "public"}

    project_id: UUID = Field(primary_key=True)
    id: UUID = Field(primary_key=True)
    amount_usd: Decimal = Field(sa_type=sa.Numeric(14, 6))  # type: ignore[arg-type]
    occurred_at: datetime = Field(sa_type=_TIME)


ENTRIES = sa.Table(
    "rag_corpus",
    sa.MetaData(schema="public"),
    *(sa.Column(name, sa.Uuid) for name in ("project_id", "id", "ticket_id", "fix_attempt_id")),
    *(sa.Column(name, _TIME) for name in ("created_at", "updated_at", "last_used_at")),
    *(sa.Column(name, sa.Text) for name in ("classification", "problem", "fix_summary", "diff", "embedding_model")),
    *(sa.Column(name, sa.Integer) for name in ("token_count", "use_count")),
    sa.Column("embedding", Vector(VECTOR_SIZE)),
)


class Base(DeclarativeBase):
    """Declarative SQLAlchemy with a registry of its own."""

    type_annotation_map = {datetime: _TIME, dict[str, Any]: JSONB, list[str]: JSONB}


class MappedTicket(Base):
    __tablename__ = "qa_tickets"
    __table_args__ = {"schema": "public"}

    project_id: Mapped[UUID]
    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    created_at: Mapped[datetime] = mapped_column(server_default=sa.text("now()"))
    updated_at: Mapped[datetime] = mapped_column(server_default=sa.text("now()"))
    run_id: Mapped[UUID | None]
    title: Mapped[str]
    description: Mapped[str]
    steps_to_reproduce: Mapped[list[str]]
    expected: Mapped[str | None]
    actual: Mapped[str | None]
    severity: Mapped[str]
    classification: Mapped[str]
    confidence: Mapped[float]
    risk_score: Mapped[float]
    fingerprint: Mapped[str | None]
    external_ref: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="OPEN")
    initial_bucket: Mapped[str | None]
    final_bucket: Mapped[str | None]
    duplicate_of_id: Mapped[UUID | None]
    resolved_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1)


class MappedSignal(Base):
    __tablename__ = "raw_signals"
    __table_args__ = {"schema": "public"}

    project_id: Mapped[UUID]
    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    run_id: Mapped[UUID]
    route: Mapped[str]
    title: Mapped[str]
    fingerprint: Mapped[str]
    severity_hint: Mapped[str | None]
    confidence: Mapped[float]
    payload: Mapped[dict[str, Any]]
    observed_at: Mapped[datetime]
