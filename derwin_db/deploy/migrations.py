"""Migrations as functions: upgrade, downgrade, status. Alembic does the work; `alembic/env.py` says how it connects.

These are blocking calls, made by the command line, by tests and by services that migrate at start (in a thread:
`await asyncio.to_thread(upgrade, settings)`).
"""

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import asyncpg
from alembic.config import Config
from alembic.script import ScriptDirectory

from alembic import command
from derwin_db.connection.facts import connection_error, read_revision
from derwin_db.errors import ConfigurationError, DatabaseUnavailable, DerwinError, ExtensionMissing, SchemaOutOfDate
from derwin_db.settings import ConnectionInfo
from derwin_db.sql import RefusedMigration
from derwin_db.translation.driver_errors import sqlstate_of, translate

logger: logging.Logger = logging.getLogger("derwin_db.migrations")

MIGRATION_LOCK = 0x6465_7277_696E  # "derwin"
"""Key of the advisory lock that one starter holds while it migrates this database."""

_LOCK_NOT_AVAILABLE = "55P03"
_EXTENSION_STATES = frozenset({"0A000", "58P01"})
_PROBES = 3


@dataclass(frozen=True)
class MigrationSettings:
    """Where to migrate and how long to wait: for other starters, for locks, for one statement."""

    connection: ConnectionInfo
    wait_seconds: float = 600.0
    lock_timeout_ms: int = 800
    statement_timeout_ms: int = 3_600_000
    lock_attempts: int = 20


@dataclass(frozen=True)
class MigrationStatus:
    """What the database has, and what this code brings."""

    current: str | None
    head: str
    pending: list[str]

    @property
    def is_ahead(self) -> bool:
        """Whether the database has a revision that this code does not know."""
        return self.current is not None and self.current != self.head and not self.pending


def script_folder() -> Path:
    """Return the folder of revisions: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parent.parent
    folder = package / "alembic"
    return folder if folder.is_dir() else package.parent / "alembic"


def alembic_config(settings: MigrationSettings) -> Config:
    """Return Alembic's configuration for this connection."""
    config = Config()
    config.set_main_option("script_location", str(script_folder()).replace("%", "%%"))
    config.attributes["derwin_migration"] = settings
    return config


def migration_settings(config: Config) -> MigrationSettings:
    """Return what `alembic_config` put in; for a plain `alembic` command, what the environment says."""
    settings = config.attributes.get("derwin_migration")
    if settings is None:
        from derwin_db.deploy.targets import owner_connection

        settings = MigrationSettings(owner_connection())
    return cast("MigrationSettings", settings)


async def connect_directly(settings: MigrationSettings) -> asyncpg.Connection:
    """Connect as the owner. The schema is left out of the first search_path, so that Alembic always names it.

    By a statement: poolers refuse a search_path among what a connection starts with, in session mode too.
    """
    connection = await connect_plainly(settings.connection)
    await connection.execute("SET search_path = pg_catalog")
    return connection


async def connect_plainly(connection: ConnectionInfo) -> asyncpg.Connection:
    """Connect, and change nothing: behind a transaction pooler the next client would find it."""
    return await asyncpg.connect(
        **connection.connect_arguments(),
        timeout=connection.connect_timeout or 10,
        statement_cache_size=0,
        server_settings={"application_name": "derwin-db migrate"},
    )


def upgrade(settings: MigrationSettings, revision: str = "head") -> MigrationStatus:
    """Bring the database up to a revision. Returns the status afterwards.

    Errors:
        ConfigurationError (a transaction pooler, a missing privilege), ExtensionMissing, SchemaOutOfDate (the database is
        ahead), DatabaseUnavailable (unreachable, or a lock was not to be had in `lock_attempts`).

    Locks:
        An advisory lock on the database; each revision says its own.
    """
    asyncio.run(refuse_transaction_pooler(settings.connection))
    before = status(settings)
    if before.is_ahead:
        raise SchemaOutOfDate("The database is ahead of this code: deploy the newer version, or roll back with it first.")
    _run(settings, command.upgrade, revision)
    return status(settings)


def downgrade(settings: MigrationSettings, revision: str) -> MigrationStatus:
    """Take the database down to a revision (`-1`, an id or `base`). Errors as for `upgrade`."""
    asyncio.run(refuse_transaction_pooler(settings.connection))
    _run(settings, command.downgrade, revision)
    return status(settings)


def check(settings: MigrationSettings) -> None:
    """Compare models and database.

    Errors:
        Alembic.util.exc.AutogenerateDiffsDetected.
    """
    command.check(alembic_config(settings))


def status(settings: MigrationSettings) -> MigrationStatus:
    """Return where the database stands.

    Errors:
        ConfigurationError, DatabaseUnavailable.
    """
    script = ScriptDirectory.from_config(alembic_config(settings))
    head = cast("str", script.get_current_head())
    current = asyncio.run(_current_revision(settings))
    known = {revision.revision for revision in script.walk_revisions()}
    if current is not None and current not in known:
        return MigrationStatus(current, head, [])
    steps = script.iterate_revisions(head, current or "base")
    return MigrationStatus(current, head, [revision.revision for revision in reversed(list(steps))])


def _run(settings: MigrationSettings, action: Any, revision: str) -> None:
    """Run an Alembic command, again where a lock was not to be had: finished revisions stay, so it goes on from there."""
    for _ in range(settings.lock_attempts):
        try:
            action(alembic_config(settings), revision)
            return
        except Exception as error:
            if _state_of(error) != _LOCK_NOT_AVAILABLE:
                raise _migration_error(error) from error
            logger.info("live traffic holds a lock that the revision needs; trying again")
            time.sleep(random.uniform(0.2, 1.0))  # noqa: S311  # spreads starters, guards nothing
    raise DatabaseUnavailable("A lock that the migration needs was not to be had. Try again when there is less traffic.")


def _state_of(error: BaseException) -> str | None:
    return sqlstate_of(getattr(error, "orig", None) or error)


def _migration_error(error: Exception) -> Exception:
    if isinstance(error, RefusedMigration):
        return ConfigurationError(str(error))
    state = _state_of(error)
    if state in _EXTENSION_STATES:
        return ExtensionMissing()
    if state == "42501":
        return ConfigurationError(
            "The login of DIRECT_URL may not do what the migration needs. It has to own the database, have CREATEROLE, and "
            "ADMIN on derwin_app, derwin_admin and derwin_backfill where these exist already: as an administrator, "
            "GRANT derwin_app, derwin_admin, derwin_backfill TO <login> WITH ADMIN OPTION."
        )
    if isinstance(error, TimeoutError):
        return DatabaseUnavailable("Another starter is migrating this database and did not finish in time.")
    return translate(error) or error


async def _current_revision(settings: MigrationSettings) -> str | None:
    try:
        connection = await connect_plainly(settings.connection)
        try:
            return await read_revision(connection)
        finally:
            await connection.close()
    except Exception as error:
        raise connection_error(error, settings.connection) from None


async def refuse_transaction_pooler(connection: ConnectionInfo) -> None:
    """Raise ConfigurationError behind a transaction pooler: two clients there share one server session.

    A pooler in session mode passes.

    Cost:
        Four short connections.
    """
    message = (
        "Migrations can't run through a transaction pooler: the lock that keeps starters apart would protect nothing. "
        "Set DIRECT_URL to the server itself or to a pooler in session mode."
    )
    if connection.is_pooled:
        raise ConfigurationError(message)
    opened: list[asyncpg.Connection] = []
    try:
        first = await connect_plainly(connection)
        opened.append(first)
        seen = await first.fetchval("SELECT pg_backend_pid()")
        if seen == first.get_server_pid():
            return
        for _ in range(_PROBES):
            other = await connect_plainly(connection)
            opened.append(other)
            await other.execute("BEGIN")
            if await other.fetchval("SELECT pg_backend_pid()") == seen:
                raise ConfigurationError(message)
    except DerwinError:
        raise
    except Exception as error:
        raise connection_error(error, connection) from None
    finally:
        for one in opened:
            one.terminate()
