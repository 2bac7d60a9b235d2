"""What the studio shows of each of the 13 tables: columns of its list, and what leads where."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_type_hints

from derwin_db import repos
from derwin_db.errors import NotFound
from derwin_db.repos.conditions import FilterType
from derwin_db.sql import PROJECT_TABLES

__all__ = ["REFERENCES", "VIEWS", "View", "view_of"]

REFERENCES = {
    "run_id": "qa_runs",
    "ticket_id": "qa_tickets",
    "duplicate_of_id": "qa_tickets",
    "fix_attempt_id": "qa_fix_attempts",
    "prompt_artifact_id": "audit_artifacts",
    "profile_id": "project_profiles",
    "doc_id": "ingested_docs",
    "superseded_by": "ingested_docs",
}
"""Which table an id names. Some are plain ids: what they name may be gone."""

_HIDDEN = {"id", "project_id", "embedding"}


@dataclass(frozen=True)
class View:
    """One table. Its first column names a row and leads to it."""

    name: str
    title: str
    columns: tuple[str, ...]
    empty: str
    """How the first row gets there."""

    @property
    def repository(self) -> Any:
        """The table's repository; all of them read alike, but not by one type."""
        return getattr(repos, self.name)

    @cached_property
    def filters(self) -> dict[str, tuple[str, ...] | None]:
        """Filters by one value of a column, and by time: each with its values, or None where it is free text."""
        hints = get_type_hints(self.repository.filters, include_extras=True)
        types = {name: FilterType(hint) for name, hint in hints.items()}
        return {name: _values(kind) for name, kind in types.items() if kind.takes_many or name in ("since", "until")}

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The columns of a row, in their order, but for its keys and the numbers of an embedding."""
        return tuple(column.name for column in self.repository.table.c if column.name not in _HIDDEN)

    @cached_property
    def children(self) -> tuple[tuple["View", str], ...]:
        """The tables that can be filtered by a row of this one, and by which column."""
        found = ((view, name) for view in VIEWS.values() for name in view.filters)
        return tuple((view, name) for view, name in found if REFERENCES.get(name) == self.name)


def _values(kind: FilterType) -> tuple[str, ...] | None:
    """Return the members of an enumeration."""
    members = getattr(kind.value, "__members__", None)
    return None if members is None else tuple(members)


VIEWS = {
    view.name: view
    for view in (
        View(
            "qa_tickets",
            "Tickets",
            ("title", "severity", "status", "final_bucket", "classification", "risk_score", "created_at"),
            "Triage writes tickets: repos.qa_tickets.create.",
        ),
        View(
            "raw_signals",
            "Signals",
            ("title", "route", "severity_hint", "status", "confidence", "ticket_id", "observed_at"),
            "A discovery run ingests them: repos.raw_signals.ingest.",
        ),
        View(
            "qa_runs",
            "Runs",
            ("created_at", "status", "trigger", "mode", "routes", "started_at", "finished_at"),
            "A run is enqueued: repos.qa_runs.enqueue.",
        ),
        View(
            "qa_fix_attempts",
            "Fix attempts",
            ("created_at", "attempt_no", "status", "outcome", "model", "cost_usd", "ticket_id", "concluded_at"),
            "An attempt is dispatched: repos.qa_fix_attempts.dispatch.",
        ),
        View(
            "audit_artifacts",
            "Artifacts",
            ("storage_uri", "kind", "byte_size", "compliance_mode", "retention_until", "legal_hold", "ticket_id"),
            "Evidence is recorded: repos.audit_artifacts.record.",
        ),
        View(
            "rag_corpus",
            "Past fixes",
            ("problem", "classification", "fix_summary", "use_count", "last_used_at", "created_at"),
            "A fix that worked is remembered: repos.rag_corpus.add.",
        ),
        View(
            "classification_trust",
            "Trust scores",
            ("classification", "score", "attempts", "successes", "reverts", "computed_at"),
            "Concluding an attempt writes its score: repos.qa_fix_attempts.conclude.",
        ),
        View(
            "spend_ledger",
            "Spend",
            ("occurred_at", "kind", "source", "model", "amount_usd", "input_tokens", "output_tokens"),
            "What is paid is appended: repos.spend_ledger.append.",
        ),
        View(
            "ingested_docs",
            "Documents",
            ("title", "source", "status", "mime_type", "byte_size", "processed_at", "created_at"),
            "A document is taken in: repos.ingested_docs.ingest.",
        ),
        View(
            "project_profiles",
            "Profile",
            ("summary", "version", "updated_at"),
            "The profile is created once: repos.project_profiles.create.",
        ),
        View(
            "profile_evolution_logs",
            "Profile changes",
            ("created_at", "to_version", "change", "actor", "reason", "doc_id"),
            "Every change of the profile writes one: repos.project_profiles.evolve.",
        ),
        View(
            "policies",
            "Policies",
            ("version", "is_active", "created_by", "note", "created_at"),
            "A policy is activated: repos.policies.activate.",
        ),
        View(
            "project_mode_logs",
            "Mode changes",
            ("created_at", "from_mode", "to_mode", "actor", "reason"),
            "Every change of the mode writes one: repos.projects.set_mode.",
        ),
    )
}
"""All tables of a project, in the order in which one looks at them."""


def _view_of_a_new_table(name: str) -> View:
    """Return the view of a table that nobody has arranged yet: its first columns, in their order."""
    fields = View(name, "", (), "").fields
    return View(name, name.replace("_", " ").capitalize(), fields[:6], f"Rows are written through repos.{name}.")


VIEWS.update({name: _view_of_a_new_table(name) for name in PROJECT_TABLES if name not in VIEWS})


def view_of(name: str) -> View:
    """Return the view of a table.

    Errors:
        NotFound.
    """
    try:
        return VIEWS[name]
    except KeyError:
        raise NotFound("There is no such table.") from None
