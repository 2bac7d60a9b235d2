"""Migrations for services: ours at their start or in a script, and their own chain of revisions beside ours. Public.

    from derwin_db.migrations import MigrationSettings, upgrade

    await asyncio.to_thread(upgrade, MigrationSettings(connection))

The calls block. How they work lives in `derwin_db.deploy`, which is not public. A service that adds tables:

    # env.py of the service
    from alembic import context
    from derwin_db.migrations import run
    import my_service.tables  # fills the metadata

    run(context)

    # the revision that creates the table
    def upgrade() -> None:
        op.create_table("webhooks", ...)
        fence(op, "webhooks")

The chain keeps its revision in `alembic_version`; ours is in `derwin_alembic_version`, and neither proposes to drop the other's
tables. Run ours first: `derwin-db migrate`, or both by `derwin-db migrate --then alembic.ini`.
"""

import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from derwin_db import sql
from derwin_db.deploy import blocking
from derwin_db.deploy.migrations import (
    MigrationSettings,
    MigrationStatus,
    check,
    downgrade,
    migration_settings,
    refuse_transaction_pooler,
    status,
    upgrade,
)
from derwin_db.deploy.running import render_item, run_online, tell
from derwin_db.errors import ConfigurationError
from derwin_db.fields.own import OWN_REGISTRY, ProjectTable

__all__ = [
    "MigrationSettings",
    "MigrationStatus",
    "check",
    "downgrade",
    "fence",
    "include_name",
    "include_object",
    "render_item",
    "run",
    "status",
    "unfence",
    "upgrade",
]

_OURS = frozenset({"projects", *sql.PROJECT_TABLES, sql.VERSION_TABLE})
_NAME = re.compile(r"[a-z][a-z0-9_]{0,29}", re.ASCII)
_SHARD_OF_LEDGER = re.compile(r"spend_ledger_[0-9]+")
"""What a shard of the ledger is named, for the triggers of logs (`derwin_refuse_change`)."""
_CHANGES = "SELECT, INSERT, UPDATE, DELETE"
_ADDITIONS = "SELECT, INSERT"
_TRIGGERS = ("derwin_append_only_row", "derwin_append_only_statement", "derwin_append_only_truncate")

_SEEN = """
SELECT
    to_regclass('public.' || :name) IS NOT NULL AS is_there,
    to_regclass('public.' || :version_table) IS NOT NULL AS has_schema,
    CASE WHEN to_regprocedure('public.derwin_open(text)') IS NULL THEN 'plain'
        WHEN to_regprocedure('public.derwin_scope_on_shard()') IS NULL THEN 'sealed' ELSE 'sharded' END AS scope,
    EXISTS (
        SELECT FROM pg_catalog.pg_constraint c WHERE c.conrelid = to_regclass('public.' || :name) AND c.contype = 'p'
        AND ARRAY(
            SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY AS k (number, place)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number ORDER BY k.place
        ) = ARRAY['project_id', 'id']
    ) AS has_key,
    EXISTS (
        SELECT FROM pg_catalog.pg_constraint c WHERE c.conrelid = to_regclass('public.' || :name) AND c.contype = 'f'
        AND c.confrelid = to_regclass('public.projects') AND c.confdeltype = 'c'
    ) AS goes_with_project
"""


def fence(op: Any, table: type[ProjectTable] | str, *, append_only: bool | None = None) -> None:
    """Fence a table of the service, in the revision that creates it: policies, grants and, for a log, its triggers.

    It is what our own tables have, in the form that the server takes. Where the others are distributed, so is this one.
    `append_only` is the class's own unless it is said; a revision that is to stay what it is names the table by its name.

    Errors:
        ConfigurationError where the table is not there, or lacks its keys, or our schema is not there yet.

    Locks:
        ACCESS EXCLUSIVE on the table, for an instant: it is new.
    """
    name, is_log = _named(table, append_only)
    if is_log and _SHARD_OF_LEDGER.fullmatch(name):
        raise ConfigurationError(
            "fence: spend_ledger_ and a number is what a shard of our ledger is named. Rows of the ledger stay when their "
            "project goes, so that the project could not go: give the log another name."
        )
    context = op.get_context()
    if context.as_sql:
        raise ConfigurationError("fence looks at the server, and writes no script: run the revision online.")
    seen = op.get_bind().execute(sa.text(_SEEN), {"name": name, "version_table": sql.VERSION_TABLE}).mappings().one()
    _check(name, seen)
    statements = [
        *sql.read_current("revoke_public", objects=f"public.{name}"),
        *sql.read_current(f"table_policies_{seen['scope']}", table=name),
        *sql.read_current("admin_policies", table=name),
        *sql.read_current("own_table", table=name, privileges=_ADDITIONS if is_log else _CHANGES),
        *(sql.read_current("append_only_table", table=name) if is_log else []),
        *sql.read_current("no_statistics", table=name),
        *sql.read_current("distribute_table", table=name),
    ]
    for statement in statements:
        op.execute(statement)


def unfence(op: Any, table: type[ProjectTable] | str, *, append_only: bool | None = None) -> None:
    """Undo `fence`, in a downgrade that keeps the table: nobody but its owner reaches it then. Dropping it needs no call.

    Locks:
        ACCESS EXCLUSIVE on the table, for an instant.
    """
    name, is_log = _named(table, append_only)
    for trigger in _TRIGGERS if is_log else ():
        op.execute(f"DROP TRIGGER {trigger} ON public.{name}")
    for policy in ("derwin_app_rows", "derwin_scope", "derwin_admin_reads"):
        op.execute(f"DROP POLICY IF EXISTS {policy} ON public.{name}")  # where the scope is plain there are two
    op.execute(f"REVOKE ALL ON public.{name} FROM derwin_app, derwin_admin")
    op.execute(f"ALTER TABLE public.{name} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY")


def _named(table: type[ProjectTable] | str, append_only: bool | None) -> tuple[str, bool]:
    name = table if isinstance(table, str) else getattr(table, "__tablename__", "")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None or name in _OURS:
        raise ConfigurationError("fence: the name of a table of the service: 1 to 30 of a-z, 0-9 and underscore.")
    return name, bool(getattr(table, "append_only", False) if append_only is None else append_only)


def _check(name: str, seen: Any) -> None:
    wrong = {
        "has_schema": "the schema of derwin-db is not there yet: run `derwin-db migrate` first",
        "is_there": f"public.{name} is not there: create it before, in the same revision",
        "has_key": f"the primary key of {name} has to be (project_id, id)",
        "goes_with_project": f"{name} needs a foreign key (project_id) to public.projects with ON DELETE CASCADE",
    }
    for what, sentence in wrong.items():
        if not seen[what]:
            raise ConfigurationError(f"fence: {sentence}.")


# --- env.py of a service ----------------------------------------------------------------------------------------------


def include_name(name: str | None, kind: str, _parents: Any) -> bool:
    """Tell Alembic's autogenerate to look at the schema public, and past our tables."""
    if kind == "schema":
        return name == "public"
    return kind != "table" or name not in _OURS


def include_object(item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:  # noqa: ARG001
    """Tell Alembic's autogenerate to leave our tables alone, also those that a metadata names."""
    return kind != "table" or name not in _OURS


def run(context: Any, metadata: sa.MetaData | Sequence[sa.MetaData] = OWN_REGISTRY.metadata, **options: Any) -> None:
    """Run a service's chain from its `env.py`, as ours runs: as the owner (DIRECT_URL), one starter at a time, bounded waits.

    `metadata` is that of `ProjectTable` unless it is said; `options` go to Alembic's `context.configure`.

    Errors:
        ConfigurationError behind a transaction pooler.
    """

    def revisions(connection: sa.Connection) -> None:
        context.configure(
            **{
                "connection": connection,
                "target_metadata": metadata,
                "include_schemas": True,
                "include_name": include_name,
                "include_object": include_object,
                "render_item": render_item,
                "version_table_schema": "public",
                "compare_type": True,
                "transaction_per_migration": True,
                "on_version_apply": tell,
                **options,
            }
        )
        with context.begin_transaction():
            context.run_migrations()

    if context.is_offline_mode():
        raise ConfigurationError("Revisions run online: fences look at the server.")
    settings = migration_settings(context.config)
    blocking.run(refuse_transaction_pooler(settings.connection))
    blocking.run(run_online(settings, revisions))
