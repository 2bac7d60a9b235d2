"""IngestedDoc: a source document that fed the profile."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from uuid import UUID

from derwin_db.fields.columns import as_json, choice, nullable, timestamp, unset
from derwin_db.fields.json import JsonObject
from derwin_db.fields.scalars import AnyUri, ByteSize, Id, LongText, Sha256, ShortText
from derwin_db.fields.table import (
    SCHEMA,
    Changing,
    Fields,
    Input,
    ProjectTable,
    PydanticJson,
    owned_by_project,
    paged,
    primary_key,
    unique,
)


class DocSource(StrEnum):
    """Where the document came from."""

    UPLOAD = "UPLOAD"
    URL = "URL"
    REPOSITORY = "REPOSITORY"
    TICKET_ADAPTER = "TICKET_ADAPTER"
    DOCUMENT_ADAPTER = "DOCUMENT_ADAPTER"


class DocStatus(StrEnum):
    """How far the document got."""

    PENDING = "PENDING"
    PROCESSED = "PROCESSED"
    FAILED = "FAILED"
    SUPERSEDED = "SUPERSEDED"


class IngestedDocFields(Fields):
    """What a document is ingested with."""

    source: Annotated[DocSource, choice(DocSource)]
    source_uri: AnyUri
    title: ShortText
    mime_type: ShortText
    byte_size: ByteSize
    content_hash: Sha256
    details: JsonObject = as_json(PydanticJson(dict[str, Any]), dict)


class IngestedDocCreate(IngestedDocFields, Input):
    """Input of `repos.ingested_docs.ingest`."""


class IngestedDocUpdate(Input):
    """Input of `repos.ingested_docs.update`. The content, its hash and size never change."""

    source_uri: AnyUri = unset()
    title: ShortText = unset()
    mime_type: ShortText = unset()
    details: JsonObject = unset()


class IngestedDoc(Changing, IngestedDocFields, ProjectTable, table=True):
    """One version of one document.

    Unique by its content hash. Written by `ingest`, which finds the row of a content that is known; goes with its project
    or by `delete`.
    """

    __tablename__: ClassVar[str] = "ingested_docs"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        primary_key("ingested_docs"),
        owned_by_project("ingested_docs"),
        unique("ingested_docs", "content_hash"),
        paged("ingested_docs"),
        paged("ingested_docs", "status"),
        {"schema": SCHEMA},
    )

    status: DocStatus = choice(DocStatus, default=DocStatus.PENDING)
    error: str | None = nullable(LongText)
    processed_at: datetime | None = timestamp()
    superseded_by: UUID | None = nullable(Id)
