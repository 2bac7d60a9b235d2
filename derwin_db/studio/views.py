"""What the studio shows of each table: columns of its list, filters by column, and what leads where.

Our 13 tables are arranged by hand; one that nobody arranged, and those of a service, are shown by what their columns say.
"""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, cast

import sqlalchemy as sa

from derwin_db import repos
from derwin_db.errors import NotFound
from derwin_db.fields.money import MONEY
from derwin_db.fields.vector import Vector
from derwin_db.repos.conditions import FilterType, column_of
from derwin_db.repos.own import repositories
from derwin_db.repos.rules.own import own_tables
from derwin_db.session import ProjectSession
from derwin_db.sql import PROJECT_TABLES

__all__ = ["VIEWS", "Bound", "Choice", "View", "Views", "label_of"]

_REFERENCES = {
    "run_id": "qa_runs",
    "ticket_id": "qa_tickets",
    "duplicate_of_id": "qa_tickets",
    "fix_attempt_id": "qa_fix_attempts",
    "prompt_artifact_id": "audit_artifacts",
    "profile_id": "project_profiles",
    "doc_id": "ingested_docs",
    "superseded_by": "ingested_docs",
}
"""Which table an id of our own tables names. Some are plain ids: what they name may be gone."""

_HIDDEN = {"id", "project_id"}
_BOUNDS = {"min_": "at least", "max_": "at most", "since": "from", "until": "before", "_prefix": "begins with"}
_WORDS = {"id": "ID", "uri": "URI", "url": "URL", "sha": "SHA", "usd": "(USD)", "mime": "MIME", "pr": "PR", "no": "number"}


@dataclass(frozen=True)
class Bound:
    """A filter that bounds a column, or says how its text begins."""

    name: str
    label: str


@dataclass(frozen=True)
class Choice:
    """What can be asked of one column: some values or none, and bounds."""

    column: str
    takes_values: bool
    is_optional: bool
    values: tuple[str, ...] | None
    """What can be chosen; None for free text."""
    bounds: tuple[Bound, ...]
    kind: type[Any]
    """What a value is in Python."""

    @property
    def label(self) -> str:
        """How the column reads."""
        return label_of(self.column)

    @property
    def example(self) -> str:
        """A value of this kind, for an empty field."""
        return "2026-01-31" if self.kind.__name__ == "datetime" else ""

    @property
    def is_number(self) -> bool:
        """Whether values are numbers."""
        return self.kind.__name__ in ("int", "float", "Decimal")


@dataclass(frozen=True)
class View:
    """One table. Its first column names a row and leads to it."""

    name: str
    title: str
    columns: tuple[str, ...]
    empty: str
    """How the first row gets there."""
    one: str = "row"
    """What one of its rows is called."""
    naming: str = ""
    """How a row is called where something leads to it: a format of its columns. Its first column, where nothing is said."""
    is_own: bool = False
    """Whether it is a table of the service's own."""

    @property
    def repository(self) -> Any:
        """The table's repository; all of them read alike, but not by one type."""
        return repositories[self.name] if self.is_own else getattr(repos, self.name)

    @property
    def table(self) -> sa.Table:
        """The table."""
        return cast("sa.Table", self.repository.table)

    @cached_property
    def filters(self) -> dict[str, FilterType]:
        """All filters of the repository, and what each takes."""
        return dict(self.repository.filter_types)

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """The filters by the column that they are about, enumerations first."""
        names: dict[str, list[str]] = {}
        for name in self.filters:
            names.setdefault(column_of(self.table, name).name, []).append(name)
        found = [self._choice(column, filters) for column, filters in names.items()]
        return tuple(sorted(found, key=lambda choice: (choice.values is None, not choice.takes_values)))

    def _choice(self, column: str, names: list[str]) -> Choice:
        kind = self.filters.get(column)
        bounds = tuple(Bound(name, _bound_label(name)) for name in names if name != column)
        is_optional = kind is not None and kind.is_optional
        values = None if kind is None else _values(kind)
        return Choice(column, kind is not None, is_optional, values, bounds, self.table.c[column].type.python_type)

    @cached_property
    def orders(self) -> tuple[str, ...]:
        """The orders of the repository's list."""
        return tuple(self.repository.allowed_orders)

    @property
    def takes_text(self) -> bool:
        """Whether the repository searches by words."""
        return not self.is_own and hasattr(self.repository, "search")  # one of the service's takes what the service says

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The columns of a row, in their order, but for its keys and the numbers of an embedding."""
        columns = (column for column in self.table.c if not isinstance(column.type, Vector))
        return tuple(column.name for column in columns if column.name not in _HIDDEN)

    @cached_property
    def references(self) -> dict[str, str]:
        """Which column names a row of which table."""
        if not self.is_own:
            return {name: target for name, target in _REFERENCES.items() if name in self.table.c}
        keys = [(key.column_keys, [element.column for element in key.elements]) for key in self.table.foreign_key_constraints]
        return {
            names[-1]: columns[-1].table.name
            for names, columns in keys
            if [column.name for column in columns] == ["project_id", "id"]
        }

    def name_of(self, row: Any) -> Any:
        """Return how a row is called where something leads to it."""
        return self.naming.format(row=row) if self.naming else getattr(row, self.columns[0])

    def is_numeric(self, column: str) -> bool:
        """Tell whether a column holds numbers, which stand under each other."""
        kind = self.table.c[column].type.python_type
        return (kind is not bool and issubclass(kind, int | float)) or kind.__name__ == "Decimal"

    def is_money(self, column: str) -> bool:
        """Tell whether a column holds US dollars."""
        return self.table.c[column].type is MONEY


def label_of(name: str) -> str:
    """Return how the name of a column or a table reads: `amount_usd` is "Amount (USD)"."""
    words = [_WORDS.get(word, word) for word in name.removesuffix("_id").removesuffix("_at").split("_")]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def _bound_label(name: str) -> str:
    """Return how a bound reads beside the name of its column."""
    return next(label for part, label in _BOUNDS.items() if name.startswith(part) or name.endswith(part))


def _values(kind: FilterType) -> tuple[str, ...] | None:
    """Return what can be chosen: the values of an enumeration, or yes and no."""
    value: Any = getattr(kind.value, "__origin__", kind.value)  # of Annotated the type itself
    if value is bool:
        return ("true", "false")
    if isinstance(value, type) and issubclass(value, Enum):
        return tuple(str(member.value) for member in value)
    return None


VIEWS = {
    view.name: view
    for view in (
        View(
            "qa_tickets",
            "Tickets",
            ("title", "severity", "status", "final_bucket", "classification", "risk_score", "created_at"),
            "Triage writes tickets: repos.qa_tickets.create.",
            one="ticket",
        ),
        View(
            "raw_signals",
            "Signals",
            ("title", "route", "severity_hint", "status", "confidence", "ticket_id", "observed_at"),
            "A discovery run ingests them: repos.raw_signals.ingest.",
            one="signal",
        ),
        View(
            "qa_runs",
            "Runs",
            ("created_at", "status", "trigger", "mode", "routes", "started_at", "finished_at"),
            "A run is enqueued: repos.qa_runs.enqueue.",
            one="run",
            naming="{row.created_at:%Y-%m-%d %H:%M}",
        ),
        View(
            "qa_fix_attempts",
            "Fix attempts",
            ("created_at", "attempt_no", "status", "outcome", "model", "cost_usd", "ticket_id", "concluded_at"),
            "An attempt is dispatched: repos.qa_fix_attempts.dispatch.",
            one="attempt",
            naming="Attempt {row.attempt_no}",
        ),
        View(
            "audit_artifacts",
            "Artifacts",
            ("storage_uri", "kind", "byte_size", "compliance_mode", "retention_until", "legal_hold", "ticket_id"),
            "Evidence is recorded: repos.audit_artifacts.record.",
            one="artifact",
        ),
        View(
            "rag_corpus",
            "Past fixes",
            ("problem", "classification", "fix_summary", "use_count", "created_at"),
            "A fix that worked is remembered: repos.rag_corpus.add.",
            one="fix",
        ),
        View(
            "spend_ledger",
            "Spend",
            ("occurred_at", "kind", "source", "model", "amount_usd", "input_tokens", "output_tokens", "ticket_id"),
            "What is paid is appended: repos.spend_ledger.append.",
            one="entry",
        ),
        View(
            "classification_trust",
            "Trust scores",
            ("classification", "score", "attempts", "successes", "reverts", "computed_at"),
            "Concluding an attempt writes its score: repos.qa_fix_attempts.conclude.",
            one="score",
        ),
        View(
            "ingested_docs",
            "Documents",
            ("title", "source", "status", "mime_type", "byte_size", "processed_at", "created_at"),
            "A document is taken in: repos.ingested_docs.ingest.",
            one="document",
        ),
        View(
            "project_profiles",
            "Profiles",
            ("summary", "version", "updated_at"),
            "The profile is created once: repos.project_profiles.create.",
            one="profile",
            naming="Version {row.version}",
        ),
        View(
            "profile_evolution_logs",
            "Profile changes",
            ("created_at", "to_version", "change", "actor", "reason", "doc_id"),
            "Every change of the profile writes one: repos.project_profiles.evolve.",
            one="change",
            naming="Version {row.to_version}",
        ),
        View(
            "policies",
            "Policies",
            ("version", "is_active", "created_by", "note", "created_at"),
            "A policy is activated: repos.policies.activate.",
            one="policy",
            naming="Version {row.version}",
        ),
        View(
            "project_mode_logs",
            "Mode changes",
            ("created_at", "from_mode", "to_mode", "actor", "reason"),
            "Every change of the mode writes one: repos.projects.set_mode.",
            one="change",
            naming="{row.created_at:%Y-%m-%d %H:%M}",
        ),
    )
}
"""Our own tables, in the order in which one looks at them."""


def _unarranged(name: str, *, is_own: bool) -> View:
    """Return the view of a table that nobody has arranged: its first columns that are no references, in their order."""
    calls = name if is_own else f"repos.{name}"
    bare = View(name, "", (), "", is_own=is_own)
    named = [field for field in bare.fields if field not in ("created_at", "updated_at")]
    first = [field for field in named if field not in bare.references] or named or ["created_at"]
    columns = [*first, *(field for field in named if field not in first), "created_at"][:7]
    title = name.replace("_", " ").capitalize()
    return View(name, title, tuple(dict.fromkeys(columns)), f"Rows are written through {calls}.", is_own=is_own)


VIEWS.update({name: _unarranged(name, is_own=False) for name in PROJECT_TABLES if name not in VIEWS})


class Views:
    """The views of one app: our tables, and those of the service that are fenced there and whose repositories it has."""

    def __init__(self) -> None:
        self._own: dict[str, View] = {}
        self._has_looked = False
        self.unknown: list[str] = []
        """Fenced tables of the service whose repositories this process does not have."""

    async def look(self, session: ProjectSession) -> None:
        """See which tables of the service are there: one statement, once."""
        if self._has_looked:
            return
        there = [one.name for one in await own_tables(session) if one.is_fenced]
        self._own = {name: _unarranged(name, is_own=True) for name in there if name in repositories}
        self.unknown = sorted(set(there) - set(self._own))
        self._has_looked = True

    def all(self) -> list[View]:
        """Return the views, ours first."""
        return [*VIEWS.values(), *self._own.values()]

    def find(self, name: str) -> View | None:
        """Return the view of a table, if there is one."""
        return VIEWS.get(name) or self._own.get(name)

    def of(self, name: str) -> View:
        """Return the view of a table.

        Errors:
            NotFound.
        """
        found = self.find(name)
        if found is None:
            raise NotFound("There is no such table.")
        return found

    def children(self, view: View) -> list[tuple[View, str]]:
        """Return the tables that can be filtered by a row of this one, and by which column."""
        return [
            (child, name)
            for child in self.all()
            for name, target in child.references.items()
            if target == view.name and name in child.filters
        ]
