"""How our chain of revisions runs: see `derwin_db.deploy.running`. Here is what is particular to it."""

from typing import Any

import sqlalchemy as sa
from sqlmodel import SQLModel

import derwin_db.models  # noqa: F401  # fills SQLModel.metadata
from alembic import context
from derwin_db import sql
from derwin_db.deploy.blocking import run
from derwin_db.deploy.compatibility import leave_note
from derwin_db.deploy.migrations import migration_settings
from derwin_db.deploy.running import render_item, run_online, tell
from derwin_db.deploy.version_table import MOVED, give_back, take_over

KNOWN = {step.revision for step in context.script.walk_revisions()}
OLDER = {step.revision for step in context.script.iterate_revisions(MOVED, "base")} - {MOVED}
TABLES = {"projects", *sql.PROJECT_TABLES}


def is_ours(name: str | None, kind: str, parent_names: Any) -> bool:
    """Look at the schema public only, and at our tables: a service may keep its own beside them.

    Columns that the database derives are in no model.
    """
    if kind == "schema":
        return name == "public"
    if kind == "table":
        return name in TABLES
    if kind == "column":
        return name not in sql.DERIVED_COLUMNS.get(parent_names["table_name"], ())
    return True


def is_a_model_of_ours(table: Any, name: str | None, kind: str, *_: Any) -> bool:
    """Leave out the tables that a service's own SQLModel classes have put beside ours, into the same metadata."""
    return kind != "table" or (table.schema == "public" and name in TABLES)


def run_on(connection: sa.Connection) -> None:
    """Configure Alembic for this connection and run the revisions, each in its own transaction."""
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        include_schemas=True,
        include_name=is_ours,
        include_object=is_a_model_of_ours,
        render_item=render_item,
        version_table=sql.VERSION_TABLE,
        version_table_schema="public",
        compare_type=True,
        transaction_per_migration=True,
        on_version_apply=(tell, leave_note),
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    raise SystemExit(
        "The revisions look at the server while they run (Citus, pgvector, rows to convert), so there is no script of them. "
        "Let `derwin-db migrate` run as the owner, or `derwin-db migrate --to <revision>` one by one."
    )
run(
    run_online(
        migration_settings(context.config),
        run_on,
        before=lambda lock: take_over(lock, KNOWN, OLDER),
        after=lambda lock: give_back(lock, OLDER),
    )
)
