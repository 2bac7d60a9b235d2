"""SpendLedger: money spent, per event."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

import sqlalchemy as sa
from pydantic import ConfigDict, model_validator
from pydantic.dataclasses import dataclass

from derwin_db.fields.columns import as_json, choice, nullable
from derwin_db.fields.json import JsonObject
from derwin_db.fields.money import Cost, Money
from derwin_db.fields.scalars import Count, Id, ShortText, Slug, Timestamp, Window, refuse
from derwin_db.fields.table import (
    GROWING,
    SCHEMA,
    Created,
    Fields,
    Input,
    ProjectTable,
    PydanticJson,
    index,
    paged,
    primary_key,
    unique,
)


class SpendKind(StrEnum):
    """CHARGE > 0, CREDIT < 0: a mistake is corrected by a credit, not an edit."""

    CHARGE = "CHARGE"
    CREDIT = "CREDIT"


class SpendSource(StrEnum):
    """Who was paid."""

    ANTHROPIC = "ANTHROPIC"
    EMBEDDING = "EMBEDDING"
    STORAGE = "STORAGE"
    COMPUTE = "COMPUTE"
    OTHER = "OTHER"


class SpendLedgerFields(Fields):
    """What an entry says. Its key makes repeating the write safe."""

    kind: Annotated[SpendKind, choice(SpendKind)]
    source: Annotated[SpendSource, choice(SpendSource)]
    model: ShortText | None = nullable(ShortText)
    amount_usd: Money
    input_tokens: Count | None = nullable(Count)
    output_tokens: Count | None = nullable(Count)
    run_id: Id | None = nullable(Id)
    ticket_id: Id | None = nullable(Id)
    fix_attempt_id: Id | None = nullable(Id)
    idempotency_key: ShortText
    occurred_at: Timestamp
    details: JsonObject = as_json(PydanticJson(dict[str, Any]), dict)


class SpendLedgerCreate(SpendLedgerFields, Input):
    """Input of `repos.spend_ledger.append`."""

    @model_validator(mode="after")
    def _sign_follows_kind(self) -> Self:
        if self.kind is SpendKind.CHARGE and self.amount_usd <= 0:
            raise refuse("money", "A CHARGE is above 0")
        if self.kind is SpendKind.CREDIT and self.amount_usd >= 0:
            raise refuse("money", "A CREDIT is below 0")
        return self


class SpendLedger(Created, SpendLedgerFields, ProjectTable, table=True):
    """One amount that was spent, or given back.

    Unique by its idempotency key. Append-only, and it stays when its project goes: money that was spent stays on the books.
    """

    __tablename__: ClassVar[str] = "spend_ledger"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        primary_key("spend_ledger"),
        unique("spend_ledger", "idempotency_key"),
        sa.CheckConstraint(
            "(kind = 'CHARGE' AND amount_usd > 0) OR (kind = 'CREDIT' AND amount_usd < 0)", name="ck_spend_ledger_sign"
        ),
        index("spend_ledger", "occurred_at"),
        index("spend_ledger", "run_id", where="run_id IS NOT NULL"),
        index("spend_ledger", "ticket_id", where="ticket_id IS NOT NULL"),
        index("spend_ledger", "fix_attempt_id", where="fix_attempt_id IS NOT NULL"),
        paged("spend_ledger"),
        {"schema": SCHEMA, "postgresql_with": GROWING},
    )

    project_slug: Slug


@dataclass(frozen=True, config=ConfigDict(hide_input_in_errors=True))
class SpendCap:
    """At most `usd` within the last `window`, by the database's clock at the write."""

    usd: Cost
    window: Window
