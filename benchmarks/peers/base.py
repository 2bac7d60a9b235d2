"""What a peer is: the same seven operations, each the whole unit of work, by one library."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Protocol
from uuid import UUID

from benchmarks.data import Workload
from derwin_db.testing import TestDatabase

POOL_SIZE = 16
LIST_LIMIT = 50
SEARCH_LIMIT = 10

STEPS = ["Open the invoice", "Add a line with a discount", "Save it", "Compare the total with the lines"]

COLUMNS = (
    "project_id", "id", "created_at", "updated_at", "run_id", "title", "description", "steps_to_reproduce", "expected",
    "actual", "severity", "classification", "confidence", "risk_score", "fingerprint", "external_ref", "status",
    "initial_bucket", "final_bucket", "duplicate_of_id", "resolved_at", "version",
)  # fmt: skip
"""The columns of a ticket."""

ENTRY_COLUMNS = (
    "project_id", "id", "created_at", "updated_at", "ticket_id", "fix_attempt_id", "classification", "problem", "fix_summary",
    "diff", "embedding_model", "token_count", "use_count", "last_used_at",
)  # fmt: skip
"""The columns of a past fix that a search returns: all but its 1,536 numbers."""

SIGNAL_COLUMNS = (
    "project_id", "id", "run_id", "route", "title", "fingerprint", "severity_hint", "confidence", "payload", "observed_at",
)  # fmt: skip


class Unsupported(Exception):
    """The peer has no such operation; the message says why."""


def new_ticket(number: int) -> dict[str, Any]:
    """Return what a caller has who writes a ticket: plain values."""
    return {
        "title": f"Totals drift on invoice {number}",
        "description": "The total differs from its lines. " * 9,
        "steps_to_reproduce": STEPS,
        "expected": "The total is the sum of the lines.",
        "actual": "The total is off by the discount of the last line.",
        "severity": "HIGH",
        "classification": "ui_bug",
        "confidence": 0.75,
        "risk_score": 0.5,
        "fingerprint": f"{number:032x}",
        "external_ref": f"QA-{number}",
    }


def new_signals(count: int) -> list[dict[str, Any]]:
    """Return the signals of one bulk write, plain values."""
    now = datetime.now(UTC)
    return [
        {
            "route": "E2E_CRAWL",
            "title": f"Console error {number}",
            "fingerprint": f"{number * 2654435761 % 2**32:032x}",
            "severity_hint": "LOW",
            "confidence": 0.5,
            "payload": {"url": f"https://app.example.com/invoices/{number}", "status": 500},
            "observed_at": now,
        }
        for number in range(count)
    ]


def month_ago() -> datetime:
    """Return where the sum of 30 days begins."""
    return datetime.now(UTC) - timedelta(days=30)


class Peer(Protocol):
    """One library. `open` and `close` are not measured; every operation is one unit of work, committed."""

    name: ClassVar[str]

    async def open(self, database: TestDatabase, workload: Workload) -> None: ...

    async def close(self) -> None: ...

    async def get(self, project_id: UUID, ticket_id: UUID) -> Any: ...

    async def list(self, project_id: UUID) -> Any: ...

    async def insert(self, project_id: UUID, number: int) -> Any: ...

    async def update(self, project_id: UUID, ticket_id: UUID, number: int) -> Any: ...

    async def spend(self, project_id: UUID) -> Decimal: ...

    async def search(self, project_id: UUID, embedding: Sequence[float]) -> Any: ...

    def signals(self, rows: Sequence[dict[str, Any]]) -> Any:
        """Return the signals in the form that the library takes. Not measured."""

    async def bulk(self, project_id: UUID, run_id: UUID, signals: Any) -> Any: ...
