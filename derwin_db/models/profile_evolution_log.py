"""ProfileEvolutionLog: the append-only audit of every profile change."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import Field as PydanticField
from pydantic import SerializerFunctionWrapHandler, model_serializer
from sqlmodel import Field

from derwin_db.fields.columns import choice, nullable
from derwin_db.fields.scalars import Count, Id, LongText, ShortText
from derwin_db.fields.table import (
    SCHEMA,
    Created,
    Fields,
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


class ProfileChange(StrEnum):
    """Why the profile changed."""

    CREATED = "CREATED"
    DOC_INGESTED = "DOC_INGESTED"
    HUMAN_EDIT = "HUMAN_EDIT"
    LEARNED = "LEARNED"
    ROLLBACK = "ROLLBACK"


class PatchOperation(JsonModel):
    """One operation of a JSON Patch (RFC 6902). `value` is there for add, replace and test only, and may be null."""

    op: Literal["add", "remove", "replace", "move", "copy", "test"]
    path: LongText
    value: Any = None
    from_: LongText | None = PydanticField(default=None, alias="from")

    @model_serializer(mode="wrap")
    def _only_what_was_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        given = {"from" if name == "from_" else name for name in self.model_fields_set}
        written = handler(self)
        if "from_" in written:
            written["from"] = written.pop("from_")
        return {name: value for name, value in written.items() if name in given}


class ProfileEvolutionLogBrief(Fields):
    """One change of the profile without its patch: what `repos.profile_evolution_logs.list_brief` reads."""

    project_id: UUID
    id: UUID
    created_at: datetime
    profile_id: UUID
    from_version: int
    to_version: int
    change: ProfileChange
    actor: str
    reason: str
    doc_id: UUID | None


class ProfileEvolutionLog(Created, ProjectTable, table=True):
    """One change of the profile: a JSON Patch from the old version to the new.

    Unique by the version it led to. Written by the operation that it audits; goes only with its whole project.
    """

    __tablename__: ClassVar[str] = "profile_evolution_logs"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        primary_key("profile_evolution_logs"),
        owned_by_project("profile_evolution_logs"),
        reference("profile_evolution_logs", "profile_id", "project_profiles"),
        reference("profile_evolution_logs", "doc_id", "ingested_docs"),
        unique("profile_evolution_logs", "to_version"),
        paged("profile_evolution_logs"),
        index("profile_evolution_logs", "profile_id"),
        index("profile_evolution_logs", "doc_id"),
        {"schema": SCHEMA},
    )

    profile_id: Id
    from_version: Count
    to_version: Count
    change: Annotated[ProfileChange, choice(ProfileChange)]
    actor: ShortText
    reason: ShortText
    patch: Annotated[list[PatchOperation], Field(sa_type=PydanticJson(list[PatchOperation]))]
    doc_id: UUID | None = nullable(Id)
