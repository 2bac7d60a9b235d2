"""Migrations as functions: upgrade, downgrade, status. Alembic does the work; `alembic/env.py` says how it connects.

These are blocking calls, made by the command line, by tests, in notebooks, and by services that migrate at start (in a thread,
so that their event loop goes on: `await asyncio.to_thread(upgrade, settings)`).
"""

import configparser
import logging
import random
import re
import threading
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util.exc import CommandError

from alembic import command
from derwin_db import sql
from derwin_db.connection.driver import Connection
from derwin_db.connection.facts import LOCK_NOT_AVAILABLE, connect_steadily
from derwin_db.connection.refused import connection_error
from derwin_db.connection.schema import Schema, Standing, schema_of
from derwin_db.deploy.blocking import run
from derwin_db.deploy.obstacles import (
    MISSING_PRIVILEGE,
    check_new_database,
    check_references,
    check_roles,
    check_vector,
)
from derwin_db.deploy.version_table import read_note, read_version
from derwin_db.errors import ConfigurationError, DatabaseUnavailable, DerwinError, ExtensionMissing, SchemaOutOfDate
from derwin_db.settings import ConnectionInfo
from derwin_db.sql import RefusedMigration
from derwin_db.sql.revisions import script_folder
from derwin_db.translation.driver_errors import sqlstate_of, translate

logger: logging.Logger = logging.getLogger("derwin_db.migrations")

MIGRATION_LOCK = 0x6465_7277_696E  # "derwin"
"""Key of the advisory lock that one starter holds while it migrates this database."""

_EXTENSION_STATES = frozenset({"0A000", "58P01"})
_PROBES = 3
_RELATIVE = re.compile(r"[+-]\d{1,3}")
_SHORTEST = 4
_ROLES_REVISION = "b7e24a8c6d10"
"""The revision that creates the roles."""
_VECTOR_REVISION = "c3d58f0e7a42"
"""The revision that creates pgvector."""
_BEFORE_SEARCH = "f7c2a90e6b14"
"""The revision before the one that writes every row again which search looks at."""
_LAST_OF_SEARCH = "063c9eb5f2d8"
"""The revision that drops the index over all embeddings, which search of before looked at."""

_ONE_AT_A_TIME = threading.Lock()
"""Alembic keeps what it works on in globals of its module: threads that migrate wait for each other."""

T = TypeVar("T")


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
    standing: Standing = Standing.SAME

    @property
    def is_ahead(self) -> bool:
        """Whether the database has a revision that this code does not know, or several."""
        return self.standing in (Standing.COMPATIBLE, Standing.NEWER, Standing.UNCLEAR)

    @property
    def problem(self) -> str | None:
        """Why this code can't run on the database, nor migrate it from where it is: a sentence, or None."""
        return self.schema.sentence if self.standing in (Standing.NEWER, Standing.UNCLEAR) else None

    @property
    def schema(self) -> Schema:
        """The same, with its sentence."""
        return Schema(self.current, self.standing)


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


async def connect_directly(settings: MigrationSettings) -> Connection:
    """Connect as the owner. The schema is left out of the first search_path, so that Alembic always names it.

    By a statement: poolers refuse a search_path among what a connection starts with, in session mode too.
    """
    connection = await connect_plainly(settings.connection)
    await connection.execute("SET search_path = pg_catalog")
    return connection


async def connect_plainly(connection: ConnectionInfo) -> Connection:
    """Connect, and change nothing later on: behind a transaction pooler the next client would find it."""
    return await connect_steadily(connection, settings={"application_name": "derwin-db migrate"})


def upgrade(settings: MigrationSettings, revision: str = "head") -> MigrationStatus:
    """Bring the database up to a revision. Returns the status afterwards.

    Errors:
        ConfigurationError (a transaction pooler, a missing privilege), ExtensionMissing, SchemaOutOfDate (the database is
        ahead), DatabaseUnavailable (unreachable, or a lock was not to be had in `lock_attempts`).

    Locks:
        An advisory lock on the database; each revision says its own.
    """
    run(refuse_transaction_pooler(settings.connection))
    before = status(settings)
    if before.problem is not None:
        raise SchemaOutOfDate(before.problem)
    if before.standing is Standing.COMPATIBLE:
        logger.info("nothing to do: %s", before.schema.sentence)
        return before
    _known(settings, revision)
    applied = _applied(settings, before, revision) if before.pending else set()
    if applied:
        run(_look_ahead(settings, before, applied))
    if before.current is not None and _LAST_OF_SEARCH in applied and not _RELATIVE.fullmatch(revision):
        if _BEFORE_SEARCH in applied:
            _run(settings, command.upgrade, _BEFORE_SEARCH)
        run(_connected(settings, lambda connection: _drop_former_index(connection, settings)))
    _run(settings, command.upgrade, revision)
    return status(settings)


def downgrade(settings: MigrationSettings, revision: str) -> MigrationStatus:
    """Take the database down to a revision (`-1`, an id or `base`).

    Errors:
        As for `upgrade`.
    """
    run(refuse_transaction_pooler(settings.connection))
    before = status(settings)
    if before.is_ahead:
        raise SchemaOutOfDate(before.problem or f"{before.schema.sentence} Rolling back takes the newer version, too.")
    _known(settings, revision)
    if revision == "base" and before.current is not None:
        run(_connected(settings, lambda connection: check_references(connection, "The tables can't be removed")))
    _run(settings, command.downgrade, revision)
    return status(settings)


def upgrade_service(settings: MigrationSettings, alembic_ini: Path, revision: str = "head") -> None:
    """Bring a service's own chain of revisions to a revision, after ours. Its `env.py` calls `derwin_db.migrations.run`.

    Errors:
        ConfigurationError for a file that is not there, or is no alembic.ini; what a revision raises.
    """
    _run(settings, command.upgrade, revision, _service_config(settings, alembic_ini))


def downgrade_service(settings: MigrationSettings, alembic_ini: Path, revision: str) -> None:
    """Take a service's own chain down to a revision.

    Errors:
        As for `upgrade_service`.
    """
    _run(settings, command.downgrade, revision, _service_config(settings, alembic_ini))


def _service_config(settings: MigrationSettings, alembic_ini: Path) -> Config:
    if not alembic_ini.is_file():
        raise ConfigurationError(f"There is no {alembic_ini}: the alembic.ini of the service's own revisions is wanted.")
    config = Config(str(alembic_ini))
    try:
        config.get_main_option("script_location")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{alembic_ini} is no alembic.ini: {type(error).__name__}.") from error
    config.attributes["derwin_migration"] = settings
    return config


def check(settings: MigrationSettings) -> None:
    """Compare models and database.

    Errors:
        Alembic's AutogenerateDiffsDetected where they differ.
    """
    with _ONE_AT_A_TIME:
        command.check(alembic_config(settings))


def status(settings: MigrationSettings) -> MigrationStatus:
    """Return where the database stands.

    Errors:
        ConfigurationError, DatabaseUnavailable.
    """
    script = _scripts(settings)
    head = cast("str", script.get_current_head())
    known = {revision.revision for revision in script.walk_revisions()}
    current, note = run(_current_revision(settings, known))
    standing = schema_of(current, note).standing
    if current is not None and current not in known:
        return MigrationStatus(current, head, [], standing)
    steps = script.iterate_revisions(head, current or "base")
    return MigrationStatus(current, head, [revision.revision for revision in reversed(list(steps))], standing)


def _scripts(settings: MigrationSettings) -> ScriptDirectory:
    """Return the revisions.

    Errors:
        ConfigurationError unless they end in one head.
    """
    script = ScriptDirectory.from_config(alembic_config(settings))
    try:
        heads = script.get_heads()
    except (RevisionError, KeyError):  # of a down_revision that is nowhere
        raise ConfigurationError(
            "The revisions in alembic/versions can't be read in one order: see their down_revision."
        ) from None
    if len(heads) != 1:
        raise ConfigurationError(
            f"The revisions in alembic/versions have {len(heads)} heads: {', '.join(sorted(heads))}. Set the down_revision of "
            "the one that landed last to the other."
        )
    return script


def check_revisions() -> None:
    """See that the revisions end where this code says.

    Errors:
        ConfigurationError.
    """
    nowhere = MigrationSettings(ConnectionInfo(host="", port=0, user="", database=""))
    head = _scripts(nowhere).get_current_head()
    if head != sql.HEAD_REVISION:
        raise ConfigurationError(
            f"The newest revision is {head}, and this code expects {sql.HEAD_REVISION}: set HEAD_REVISION."
        )


def _known(settings: MigrationSettings, revision: str) -> None:
    """Refuse what names no revision. Alembic's relative forms (`-1`, `+2`) pass.

    Errors:
        ConfigurationError.
    """
    if revision in ("head", "heads", "base") or _RELATIVE.fullmatch(revision):
        return
    script = _scripts(settings)
    known = [one.revision for one in script.walk_revisions()]
    if sum(one.startswith(revision) for one in known) != 1 or len(revision) < _SHORTEST:
        raise ConfigurationError(f"There is no such revision. There are, newest first: {', '.join(known)}; and head, base, -1.")


def _applied(settings: MigrationSettings, before: MigrationStatus, revision: str) -> set[str]:
    """Return the revisions that will be applied; for Alembic's relative forms, all that may be."""
    if _RELATIVE.fullmatch(revision):
        return set(before.pending)
    steps = _scripts(settings).iterate_revisions(revision, before.current or "base")
    return {one.revision for one in steps} & set(before.pending)


async def _look_ahead(settings: MigrationSettings, before: MigrationStatus, applied: set[str]) -> None:
    async def look(connection: Connection) -> None:
        if before.current is None:
            await check_new_database(connection)
        if _ROLES_REVISION in applied:
            await check_roles(connection)
        if _VECTOR_REVISION in applied:
            await check_vector(connection)

    await _connected(settings, look)


async def _drop_former_index(connection: Connection, settings: MigrationSettings) -> None:
    """Drop the index over all embeddings before rows are written again: it would take in each of them, to be dropped later.

    In a million entries that would be most of the time. Code of before finds the same without the index, more slowly.
    """
    await connection.execute("SET lock_timeout = 0")
    await connection.execute(f"SET statement_timeout = '{settings.statement_timeout_ms}ms'")
    await connection.execute("DROP INDEX CONCURRENTLY IF EXISTS public.ix_rag_corpus_embedding")


async def _connected(settings: MigrationSettings, look: Callable[[Connection], Awaitable[T]]) -> T:
    """Look at the database on a connection of its own."""
    try:
        connection = await connect_plainly(settings.connection)
        try:
            return await look(connection)
        finally:
            await connection.close()
    except DerwinError:
        raise
    except Exception as error:
        raise connection_error(error, settings.connection) from None


def _run(settings: MigrationSettings, action: Any, revision: str, config: Config | None = None) -> None:
    """Run an Alembic command, again where a lock was not to be had: finished revisions stay, so it goes on from there."""
    for _ in range(settings.lock_attempts):
        try:
            with _ONE_AT_A_TIME:
                action(config or alembic_config(settings), revision)
            return
        except Exception as error:
            if _state_of(error) != LOCK_NOT_AVAILABLE:
                raise _migration_error(error) from error
            logger.info("live traffic holds a lock that the revision needs; trying again")
            time.sleep(random.uniform(0.2, 1.0))  # noqa: S311  # spreads starters, guards nothing
    raise DatabaseUnavailable("A lock that the migration needs was not to be had. Try again when there is less traffic.")


def _state_of(error: BaseException) -> str | None:
    return sqlstate_of(getattr(error, "orig", None) or error)


def _migration_error(error: Exception) -> Exception:
    if isinstance(error, RefusedMigration):
        return ConfigurationError(str(error))
    if isinstance(error, CommandError):
        return ConfigurationError("Alembic can't go there from the database's revision. `derwin-db status` says where it is.")
    state = _state_of(error)
    if state in _EXTENSION_STATES:
        return ExtensionMissing()
    if state == "42501":
        return ConfigurationError(MISSING_PRIVILEGE)
    if isinstance(error, TimeoutError):
        return DatabaseUnavailable("Another starter is migrating this database and did not finish in time.")
    translated = translate(error)
    if translated is None or isinstance(translated, ConfigurationError):
        return translated or error
    failed = type(translated)(f"The migration stopped, and its last revision was undone: {translated.message}")
    failed.sqlstate, failed.constraint = translated.sqlstate, translated.constraint
    return failed


async def _current_revision(settings: MigrationSettings, known: Collection[str]) -> tuple[str | None, str | None]:
    async def look(connection: Connection) -> tuple[str | None, str | None]:
        return await read_version(connection, known), await read_note(connection)

    return await _connected(settings, look)


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
    opened: list[Connection] = []
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
