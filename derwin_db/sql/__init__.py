"""Frozen SQL entities: roles, grants, functions, policies and triggers, one version a file.

`<entity>.v<N>.sql` never changes once it has landed; a change is a new version and a revision that applies it. Migrations
import this module and nothing else of the package. `{{table}}` in a file is filled in by `read`.
"""

import re
from pathlib import Path
from typing import Any

from sqlalchemy.types import UserDefinedType

HEAD_REVISION = "b2f8d60a93e7"
"""The newest revision in alembic/versions: what this code expects of the database."""

VERSION_TABLE = "derwin_alembic_version"
"""Where Alembic keeps the revision. `alembic_version` belongs to the service, whose chain of revisions stands beside ours."""

PROJECT_IS_GONE = "NOT EXISTS (SELECT FROM public.projects WHERE id = OLD.project_id)"
"""Fills `{{project_is_gone}}` of the triggers. On Citus it is `true`: a look at another table inside a trigger is a
distributed query there, and the foreign keys allow no other cascade."""

PROJECT_TABLES = (
    "project_profiles",
    "ingested_docs",
    "profile_evolution_logs",
    "qa_runs",
    "raw_signals",
    "qa_tickets",
    "qa_fix_attempts",
    "classification_trust",
    "rag_corpus",
    "audit_artifacts",
    "policies",
    "project_mode_logs",
    "spend_ledger",
)
"""The 13 project-scoped tables."""


DERIVED_COLUMNS: dict[str, tuple[str, ...]] = {"rag_corpus": ("bits", "words"), "qa_tickets": ("words",)}
"""Columns that triggers fill for search. No model has them, nobody writes them, and an export leaves them out."""

CURRENT = {
    "admin_policies": "admin_policies.v1",
    "admin_writes": "admin_writes.v1",
    "append_only": "append_only.v3",
    "append_only_table": "append_only_table.v1",
    "check_ledger": "check_ledger.v2",
    "check_mode": "check_mode.v2",
    "distribute_table": "distribute_table.v1",
    "end_process": "end_process.v1",
    "grants": "grants.v1",
    "history": "history.v1",
    "keep_fences": "keep_fences.v1",
    "key_rotation": "key_rotation.v1",
    "no_shard_statistics": "no_shard_statistics.v1",
    "no_statistics": "no_statistics.v1",
    "node_commands": "node_commands.v1",
    "own_table": "own_table.v1",
    "plain_scope": "plain_scope.v2",
    "profile_log": "profile_log.v2",
    "projects_policies_plain": "projects_policies_plain.v2",
    "projects_policies_sealed": "projects_policies_sealed.v1",
    "projects_policies_sharded": "projects_policies_sharded.v1",
    "queue": "queue.v1",
    "retention": "retention.v1",
    "revoke_public": "revoke_public.v1",
    "revoke_temporary": "revoke_temporary.v1",
    "roles": "roles.v1",
    "scope_key": "scope_key.v1",
    "scope_on_shards": "scope_on_shards.v1",
    "scope_sealed": "scope_sealed.v3",
    "search_qa_tickets": "search_qa_tickets.v1",
    "search_rag_corpus": "search_rag_corpus.v2",
    "shared_stores": "shared_stores.v1",
    "signals": "signals.v1",
    "stamp_log": "stamp_log.v2",
    "stamps": "stamps.v1",
    "statuses": "statuses.v1",
    "table_policies_plain": "table_policies_plain.v2",
    "table_policies_sealed": "table_policies_sealed.v1",
    "table_policies_sharded": "table_policies_sharded.v1",
    "uuid7": "uuid7.v1",
    "version_table": "version_table.v1",
    "words": "words.v2",
}
"""The version of each entity that a database at the newest revision has: the one table of them. A revision names its own
versions and never reads this; all else asks here: `read_current`, `function_bodies`."""


class RefusedMigration(Exception):
    """What is stored does not allow the revision; nothing was changed. The message says what to correct."""


def folder() -> Path:
    """Return where the files are."""
    return Path(__file__).parent


def read(entity: str, **names: str) -> list[str]:
    """Return the statements of `<entity>.sql`, each `{{name}}` filled in.

    Errors:
        FileNotFoundError for an unknown entity.
    """
    text = (folder() / f"{entity}.sql").read_text(encoding="utf-8")
    for name, value in names.items():
        text = text.replace("{{" + name + "}}", value)
    return split(text)


def read_current(entity: str, **names: str) -> list[str]:
    """Return the statements of the entity's current version."""
    return read(CURRENT[entity], **names)


def split(script: str) -> list[str]:
    """Split a script into statements: one ends with a line that ends in `;`, outside of `$$ ... $$`."""
    statements: list[str] = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if line.rstrip().endswith(";") and pending.count("$$") % 2 == 0:
            statements.append(pending.strip())
            pending = ""
    return statements


def function_bodies(entity: str, **names: str) -> dict[str, str]:
    """Return the body of each function that the current version creates, by name, as the server keeps it."""
    text = "\n".join(read_current(entity, **names))
    head = r"CREATE (?:OR REPLACE )?FUNCTION [a-z_]+\.([a-z0-9_]+)\((?:(?!CREATE ).)*?"  # no other function in between
    return dict(re.findall(head + r"\bAS \$\$(.*?)\$\$;", text, re.DOTALL))


class ColumnType(UserDefinedType[Any]):
    """A column type by its SQL, for revisions: `ColumnType("vector(1536)")`."""

    cache_ok: bool | None = True

    def __init__(self, spec: str) -> None:
        self.spec = spec

    def get_col_spec(self, **_: Any) -> str:
        return self.spec
