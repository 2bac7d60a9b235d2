"""What the state machine believes about one project: plain dicts, and how they are told from what is stored."""

import math
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from derwin_db.fields.scalars import new_id
from derwin_db.models import FixOutcome, ProjectMode, RunStatus, TicketStatus
from tests.repos import test_qa_ticket_states
from tests.repos.filling import REPOSITORIES

Row = dict[str, Any]
Seen = dict[str, list[Any]]
"""All rows of a project as its repositories list them, by table, oldest first."""

Z = 1.959963984540054
KEYED = (
    "qa_runs",
    "raw_signals",
    "qa_tickets",
    "qa_fix_attempts",
    "ingested_docs",
    "audit_artifacts",
    "rag_corpus",
    "spend_ledger",
    "policies",
)
"""Tables that the model has by id. The others are the project, its profile, its trust and its two logs."""

RUN_EDGES = {
    (RunStatus.QUEUED, RunStatus.RUNNING),
    (RunStatus.RUNNING, RunStatus.COMPLETED),
    (RunStatus.RUNNING, RunStatus.FAILED),
    (RunStatus.QUEUED, RunStatus.CANCELLED),
    (RunStatus.RUNNING, RunStatus.CANCELLED),
    (RunStatus.RUNNING, RunStatus.QUEUED),
}
TICKET_EDGES = test_qa_ticket_states.LEGAL | {(status, TicketStatus.DUPLICATE) for status in test_qa_ticket_states.OPEN}
ATTEMPT_EDGES = {
    (("DISPATCHED", None), ("RUNNING", None)),
    (("DISPATCHED", None), ("CANCELLED", None)),
    (("RUNNING", None), ("CANCELLED", None)),
    *((("RUNNING", None), ("SUCCEEDED", outcome)) for outcome in ("MERGED", "PR_OPENED")),
    *((("RUNNING", None), ("FAILED", outcome)) for outcome in FixOutcome if outcome not in ("MERGED", "PR_OPENED")),
    (("SUCCEEDED", "PR_OPENED"), ("SUCCEEDED", "MERGED")),
    (("SUCCEEDED", "PR_OPENED"), ("FAILED", "REJECTED")),
    (("SUCCEEDED", "MERGED"), ("FAILED", "REVERTED")),
}


@dataclass
class World:
    """One project. A step of the machine changes one world and must leave the other as it is."""

    id: UUID
    slug: str
    mode: ProjectMode = ProjectMode.OBSERVE
    modes: list[tuple[ProjectMode | None, ProjectMode]] = field(default_factory=lambda: [(None, ProjectMode.OBSERVE)])
    profile: list[str] = field(default_factory=list)
    """The summary of each version of the profile."""
    doc_of_version: dict[int, UUID] = field(default_factory=dict)
    tables: dict[str, dict[UUID, Row]] = field(default_factory=lambda: {name: {} for name in KEYED})
    seen: Seen = field(default_factory=dict)
    """What was stored after the last step."""

    def pick(self, table: str, number: int, other: "World") -> tuple[UUID, Row | None]:
        """Return an id and what is known of it: a row of this project, or None for an unknown or foreign one."""
        foreign = list(other.tables[table])
        if number == 1 and foreign:
            return foreign[-1], None
        own = list(self.tables[table])
        if number < 2 or not own:
            return new_id(), None
        id = own[number % len(own)]
        return id, self.tables[table][id]

    def where(self, table: str, **values: Any) -> list[UUID]:
        """Return the ids of the rows that have these values."""
        return [id for id, row in self.tables[table].items() if all(row.get(name) == value for name, value in values.items())]

    def total(self) -> Decimal:
        return sum((row["amount_usd"] for row in self.tables["spend_ledger"].values()), Decimal(0))

    def trust(self) -> dict[str, tuple[int, int, int]]:
        """Attempts, successes and reverts by classification, from the attempts that the model has."""
        counts: dict[str, list[int]] = {}
        for row in self.tables["qa_fix_attempts"].values():
            if row["outcome"] not in (None, FixOutcome.PR_OPENED):
                numbers = counts.setdefault(self.tables["qa_tickets"][row["ticket_id"]]["classification"], [0, 0, 0])
                numbers[0] += 1
                numbers[1] += row["outcome"] is FixOutcome.MERGED
                numbers[2] += row["outcome"] is FixOutcome.REVERTED
        return {name: (attempts, successes, reverts) for name, (attempts, successes, reverts) in counts.items()}

    # --- what is stored against what is believed ----------------------------------------------------------------------

    def compare(self, seen: Seen) -> None:
        """Compare all tables with what is believed, and the steps since the last look with what is allowed."""
        for table, rows in seen.items():
            assert {row.project_id if table != "projects" else row.id for row in rows} <= {self.id}, f"{table}: foreign rows"
        for table in KEYED:
            assert {row.id for row in seen[table]} == set(self.tables[table]), f"{table}: other rows"
            for row in seen[table]:
                expected = self.tables[table][row.id]
                assert {name: getattr(row, name) for name in expected} == expected, f"{table}: another content"
        self._compare_logs(seen)
        self._compare_trust(seen["classification_trust"])
        self._check_steps(seen)
        self.seen = seen

    def _compare_logs(self, seen: Seen) -> None:
        assert [(row.from_mode, row.to_mode) for row in seen["project_mode_logs"]] == self.modes
        assert [row.mode for row in seen["projects"]] == [self.mode] == [self.modes[-1][1]]
        log, profiles = seen["profile_evolution_logs"], seen["project_profiles"]
        assert [(row.from_version, row.to_version) for row in log] == [(n, n + 1) for n in range(len(self.profile))]
        assert [(row.version, row.summary) for row in profiles] == [(len(self.profile), text) for text in self.profile[-1:]]
        assert {row.to_version: row.doc_id for row in log if row.doc_id} == self.doc_of_version
        active = [row.version for row in seen["policies"] if row.is_active]
        assert active == [len(seen["policies"])][: len(seen["policies"])]

    def _compare_trust(self, rows: list[Any]) -> None:
        expected = self.trust()
        stored = {row.classification: (row.attempts, row.successes, row.reverts) for row in rows}
        assert {name: numbers for name, numbers in stored.items() if any(numbers)} == expected
        for row in rows:
            assert math.isclose(row.score, lower_bound(row.successes, row.attempts), abs_tol=1e-12)

    def _check_steps(self, seen: Seen) -> None:
        if not self.seen:
            return
        for table in ("project_mode_logs", "profile_evolution_logs", "spend_ledger"):
            assert seen[table][: len(self.seen[table])] == self.seen[table], f"{table} did not only grow"
        steps = (
            ("qa_runs", RUN_EDGES, lambda row: row.status),
            ("qa_tickets", TICKET_EDGES, lambda row: row.status),
            ("qa_fix_attempts", ATTEMPT_EDGES, lambda row: (row.status, row.outcome)),
        )
        for table, edges, state in steps:
            before = {row.id: state(row) for row in self.seen[table]}
            moved = {(before[row.id], state(row)) for row in seen[table] if row.id in before}
            assert {(one, other) for one, other in moved if one != other} <= edges, f"{table}: an illegal edge"


def lower_bound(successes: int, attempts: int) -> float:
    """The Wilson bound, written as the root of its quadratic equation: another form than the one in the database."""
    if attempts == 0:
        return 0.0
    a, b, c = attempts + Z * Z, -(2 * successes + Z * Z), successes * successes / attempts
    return max((-b - math.sqrt(b * b - 4 * a * c)) / (2 * a), 0.0)


async def look(session: Any) -> Seen:
    """Read all 14 tables, as their repositories list them."""
    seen = {}
    for table, repo in REPOSITORIES.items():
        page = await repo.list(session, limit=500)
        assert page.next_cursor is None, "the machine was to stay small"
        seen[table] = page.items[::-1]
    return seen


def count_by(rows: dict[UUID, Row], name: str) -> Counter[Any]:
    return Counter(row[name] for row in rows.values())
