"""RAGCorpus: successful past fixes, as in-context examples."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field as PydanticField
from sqlmodel import Field

from derwin_db.fields.columns import nullable, timestamp, unset, with_default
from derwin_db.fields.scalars import Classification, Count, Id, LongText, ShortText
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
)
from derwin_db.fields.vector import Embedding, Vector


class RAGCorpusFields(Fields):
    """What a past fix is remembered with."""

    ticket_id: Id | None = nullable(Id)
    fix_attempt_id: Id | None = nullable(Id)
    classification: Classification
    problem: LongText
    fix_summary: LongText
    diff: LongText
    embedding: Embedding | None = Field(default=None, sa_type=Vector)
    embedding_model: ShortText | None = nullable(ShortText)
    token_count: Count = with_default(Count, default=0, server_default="0")


class RAGCorpusCreate(RAGCorpusFields, Input):
    """Input of `repos.rag_corpus.add`."""


class RAGCorpusBrief(Fields):
    """A past fix without its texts and its embedding: what `repos.rag_corpus.list_brief` reads."""

    project_id: UUID
    id: UUID
    created_at: datetime
    updated_at: datetime
    ticket_id: UUID | None
    fix_attempt_id: UUID | None
    classification: str
    embedding_model: str | None
    token_count: int
    use_count: int
    last_used_at: datetime | None


class RAGCorpusUpdate(Input):
    """Input of `repos.rag_corpus.update`."""

    ticket_id: Id | None = unset()
    fix_attempt_id: Id | None = unset()
    classification: Classification = unset()
    problem: LongText = unset()
    fix_summary: LongText = unset()
    diff: LongText = unset()
    embedding: Embedding | None = unset()
    embedding_model: ShortText | None = unset()
    token_count: Count = unset()


class RAGCorpus(Changing, RAGCorpusFields, ProjectTable, table=True):
    """One past fix.

    Written by `add` and `add_many`; outlives the ticket and the attempt it came from, and goes with its project or by
    `delete`. Its embedding is left out of what is read unless it is asked for.
    """

    __tablename__: ClassVar[str] = "rag_corpus"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        primary_key("rag_corpus"),
        owned_by_project("rag_corpus"),
        paged("rag_corpus"),
        paged("rag_corpus", "classification text_pattern_ops"),
        index("rag_corpus", "ticket_id", where="ticket_id IS NOT NULL"),
        index("rag_corpus", "fix_attempt_id", where="fix_attempt_id IS NOT NULL"),
        sa.Index(
            "ix_rag_corpus_bits",
            "project_id",
            "id",
            postgresql_include=["classification", "bits"],
            postgresql_where=sa.text("bits IS NOT NULL"),
        ),
        {"schema": SCHEMA, "postgresql_with": TURNING_OVER},
    )

    use_count: int = with_default(Count, default=0, server_default="0")
    last_used_at: datetime | None = timestamp()


@dataclass(frozen=True, slots=True)
class Match:
    """A past fix and its cosine similarity to what was searched for, -1..1; None without an embedding on either side."""

    entry: Annotated[RAGCorpus, PydanticField(description="The past fix, without its embedding.")]
    similarity: Annotated[
        float | None,
        PydanticField(description="Cosine similarity, -1 to 1; null without an embedding on either side.", examples=[0.89]),
    ]
