"""All that a service needs to define tables of its own under the same fences as ours.

    class Webhook(Changing, WebhookFields, ProjectTable, table=True):
        __tablename__ = "webhooks"

    webhooks = Repository(Webhook, create=WebhookCreate, update=WebhookUpdate)

The revision that creates the table fences it: `derwin_db.migrations.fence(op, Webhook)`.
"""

from derwin_db.fields.columns import as_json, choice, nullable, timestamp, unset, with_default
from derwin_db.fields.described import describe
from derwin_db.fields.json import JsonObject
from derwin_db.fields.money import Cost, Money
from derwin_db.fields.own import ProjectTable, references
from derwin_db.fields.scalars import (
    AnyUri,
    ByteSize,
    Classification,
    Count,
    Fingerprint,
    Id,
    LongText,
    Score,
    Sha256,
    ShortText,
    Timestamp,
    WebUrl,
)
from derwin_db.fields.table import Changing, Created, Fields, Input, JsonModel, PydanticJson, index, paged, unique
from derwin_db.repos.own import Repository

__all__ = [
    "AnyUri",
    "ByteSize",
    "Changing",
    "Classification",
    "Cost",
    "Count",
    "Created",
    "Fields",
    "Fingerprint",
    "Id",
    "Input",
    "JsonModel",
    "JsonObject",
    "LongText",
    "Money",
    "ProjectTable",
    "PydanticJson",
    "Repository",
    "Score",
    "Sha256",
    "ShortText",
    "Timestamp",
    "WebUrl",
    "as_json",
    "choice",
    "describe",
    "index",
    "nullable",
    "paged",
    "references",
    "timestamp",
    "unique",
    "unset",
    "with_default",
]
