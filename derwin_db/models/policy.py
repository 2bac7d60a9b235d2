"""Policy: risk-tier rules, classification overrides and thresholds, by version."""

from typing import Annotated, Any, ClassVar

import sqlalchemy as sa
from pydantic import AfterValidator
from sqlmodel import Field

from derwin_db.fields.columns import nullable
from derwin_db.fields.json import check_json_size
from derwin_db.fields.money import Cost
from derwin_db.fields.scalars import Classification, Count, LongText, Score, ShortText
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
    unique,
)
from derwin_db.models.enums import Bucket


class RiskTierRule(JsonModel):
    """From this risk (0..1) upward, a ticket goes to this bucket and needs this many approvals."""

    tier: ShortText
    min_risk: Score
    bucket: Bucket
    required_approvals: Count = 0


class PolicyThresholds(JsonModel):
    """Bounds of what the platform may do by itself. Scores are 0..1, the limit is in US dollars a day."""

    min_trust_for_auto_fix: Score
    min_confidence: Score
    max_attempts_per_ticket: Count
    daily_spend_limit_usd: Cost | None = None


RulesJson = Annotated[list[RiskTierRule], AfterValidator(check_json_size), Field(sa_type=PydanticJson(list[RiskTierRule]))]
OverridesJson = Annotated[
    dict[Classification, Bucket],
    AfterValidator(check_json_size),
    Field(sa_type=PydanticJson(dict[str, Bucket])),
]
ThresholdsJson = Annotated[PolicyThresholds, AfterValidator(check_json_size), Field(sa_type=PydanticJson(PolicyThresholds))]


class PolicyFields(Fields):
    """What a policy version says."""

    risk_tier_rules: RulesJson
    classification_overrides: OverridesJson
    thresholds: ThresholdsJson
    created_by: ShortText
    note: LongText | None = nullable(LongText)


class PolicyCreate(PolicyFields, Input):
    """Input of `repos.policies.activate`."""


class Policy(Changing, PolicyFields, ProjectTable, table=True):
    """One version of the project's policy.

    Unique by its version; at most one is active. Written by `activate`, never edited: a change is a new version. Goes with
    its project.
    """

    __tablename__: ClassVar[str] = "policies"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        primary_key("policies"),
        owned_by_project("policies"),
        unique("policies", "version"),
        sa.Index("uq_policies_is_active", "project_id", unique=True, postgresql_where=sa.text("is_active")),
        paged("policies"),
        {"schema": SCHEMA},
    )

    version: Count
    is_active: bool = Field(default=False, sa_column_kwargs={"server_default": sa.text("false")})
