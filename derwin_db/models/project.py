"""Project: the root of everything. Its enums, settings shape and inputs."""

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from uuid import UUID

import sqlalchemy as sa
from pydantic import AfterValidator
from sqlmodel import Field

from derwin_db.fields.columns import as_json, choice, nullable, timestamp, unset, with_default
from derwin_db.fields.json import JsonObject, check_json_size
from derwin_db.fields.scalars import Count, ShortText, Slug, WebUrl, refuse
from derwin_db.fields.table import SCHEMA, Changing, Fields, Input, JsonModel, PydanticJson, Table
from derwin_db.models.enums import ComplianceMode, ProjectMode


class ProjectType(StrEnum):
    """What kind of product the project is."""

    ERP = "ERP"
    CRM = "CRM"
    ECOMMERCE = "ECOMMERCE"
    MARKETPLACE = "MARKETPLACE"
    SAAS = "SAAS"
    CONTENT = "CONTENT"
    MOBILE = "MOBILE"
    API = "API"
    OTHER = "OTHER"


_SECRET_KEY = re.compile(r"secret|passw|token|api_?key|private_?key|credential", re.IGNORECASE)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict) and any(_SECRET_KEY.search(key) for key in value):
        raise refuse("secret", "Settings hold public values only: keep secrets in a secret store and name them here")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _without_secrets(inner)
    return value


class AdapterSettings(JsonModel):
    """Which adapter is used, and its public settings. Keys that name a secret are refused."""

    kind: ShortText
    settings: Annotated[JsonObject, AfterValidator(_without_secrets)] = {}


class ProjectSettings(JsonModel):
    """Where tickets go and documents come from."""

    ticket_adapter: AdapterSettings | None = None
    document_adapter: AdapterSettings | None = None


SettingsJson = Annotated[ProjectSettings, AfterValidator(check_json_size)]


class ProjectFields(Fields):
    """What a project is created with."""

    slug: Slug
    name: ShortText
    type: Annotated[ProjectType, choice(ProjectType)]
    mode: ProjectMode = choice(ProjectMode, default=ProjectMode.OBSERVE)
    compliance_mode: ComplianceMode = choice(ComplianceMode, default=ComplianceMode.STANDARD)
    repo_url: WebUrl | None = nullable(WebUrl)
    settings: SettingsJson = as_json(PydanticJson(ProjectSettings), ProjectSettings)


class ProjectCreate(ProjectFields, Input):
    """Input of `repos.projects.create`."""


class ProjectUpdate(Input):
    """Input of `repos.projects.update`. The slug never changes; the mode changes by `set_mode`."""

    name: ShortText = unset()
    type: ProjectType = unset()
    compliance_mode: ComplianceMode = unset()
    repo_url: WebUrl | None = unset()
    settings: SettingsJson = unset()


class Project(Changing, ProjectFields, Table, table=True):
    """One product that the platform looks after.

    Unique by its slug, which also makes its id. Written through the admin door, its mode through `set_mode`. Deleting it
    removes everything of it but the spend ledger.
    """

    __tablename__: ClassVar[str] = "projects"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
        sa.Index("uq_projects_slug", sa.text("lower(slug)"), unique=True),  # the plain slug would be read through it
        sa.Index("ix_projects_created_at_id", sa.text("created_at DESC"), sa.text("id DESC")),
        {"schema": SCHEMA},
    )

    id: UUID = Field(default=None, primary_key=True, sa_type=sa.Uuid)
    archived_at: datetime | None = timestamp()
    version: int = with_default(Count, default=1, server_default="1")
