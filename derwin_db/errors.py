"""The error tree, and the one translation from what the database and its driver raise.

No HTTP here: `derwin_db.fastapi` maps these classes to statuses. No message here ever carries a parameter's value, a
password or a row: what a server says in MESSAGE and DETAIL stays behind, only its structured fields are read.

    DerwinError
    ├── ScopeError                  a programming error: no project, a closed or foreign session, a write where none may be
    │   └── ConcurrentUse           one unit of work used by two tasks at once
    ├── InvalidInput                refused before a connection was taken
    │   ├── TooLarge
    │   ├── InvalidCursor
    │   └── InvalidReference        an id inside the data names nothing in this project
    ├── NotFound                    the id that a verb is about names nothing in this project
    │   └── ProjectNotFound
    ├── Conflict                    the row, or the key, is not in a state that allows it
    │   ├── StaleWrite
    │   ├── IllegalTransition
    │   ├── AppendOnlyViolation
    │   ├── RetentionLocked
    │   └── BudgetExceeded
    ├── DatabaseUnavailable         try again later
    │   └── OutcomeUnknown          the commit may or may not have happened
    ├── DatabaseTimeout
    ├── StorageFull
    └── ConfigurationError          found at start
        ├── SchemaOutOfDate
        ├── ExtensionMissing
        └── IsolationNotEnforced
"""

import re
import ssl
from typing import ClassVar

APPEND_ONLY_TABLES = ("profile_evolution_logs", "project_mode_logs", "spend_ledger")
"""Tables of which no application role may change or remove a row."""


class DerwinError(Exception):
    """Base of everything that this package raises. `code` is stable; the message says what to do."""

    code: ClassVar[str] = "derwin_error"
    default: ClassVar[str] = "The operation failed."
    sqlstate: str | None = None
    """The server's SQLSTATE, where the error began there."""
    constraint: str | None = None
    """The violated constraint's name, where there is one."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.default)

    @property
    def message(self) -> str:
        """The sentence, without values."""
        return str(self.args[0])


class ScopeError(DerwinError):
    """The call has no valid project scope, or does what a unit of work may not do. Fix the calling code."""

    code = "scope_error"
    default = "This call needs an open unit of work of one project: use `async with db.project(...) as session`."


class ConcurrentUse(ScopeError):
    """Two tasks used one unit of work at the same time. Open one unit of work in each task."""

    code = "concurrent_use"
    default = "This unit of work is busy in another task. Open one `db.project(...)` for each task."


class InvalidInput(DerwinError):
    """The input breaks a rule of the schema. The message names the field and the rule, never the value."""

    code = "invalid_input"
    default = "The input breaks a rule of the schema."


class TooLarge(InvalidInput):
    """A field or a batch is larger than its limit."""

    code = "too_large"
    default = "The input is larger than its limit."


class InvalidCursor(InvalidInput):
    """The cursor was not made by this query of this project. Start again without a cursor."""

    code = "invalid_cursor"
    default = "The cursor does not belong to this query. Start again without one."


class InvalidReference(InvalidInput):
    """An id inside the data names no row of this project."""

    code = "invalid_reference"
    default = "A referenced row does not exist in this project."


class NotFound(DerwinError):
    """No such row in this project."""

    code = "not_found"
    default = "No such row in this project."


class ProjectNotFound(NotFound):
    """No such project."""

    code = "project_not_found"
    default = "No such project."


class Conflict(DerwinError):
    """The write collides with what is stored."""

    code = "conflict"
    default = "The write collides with what is stored."


class StaleWrite(Conflict):
    """The row has another version by now. Read it again, then decide."""

    code = "stale_write"
    default = "The row was changed meanwhile. Read it again and repeat the change on its new version."


class IllegalTransition(Conflict):
    """The state machine has no such edge from the row's present state."""

    code = "illegal_transition"
    default = "The row's present state does not allow this."


class AppendOnlyViolation(Conflict):
    """Logs and the ledger only grow. Correct a ledger entry by a CREDIT of its own."""

    code = "append_only"
    default = "This table is append-only: rows are never changed or removed."


class RetentionLocked(Conflict):
    """Evidence is kept: its time has not come, or a legal hold is on it."""

    code = "retention_locked"
    default = "Audit artifacts that must be kept are in the way: their retention has not ended, or they are on hold."


class BudgetExceeded(Conflict):
    """The spend cap that was passed in leaves no room for this entry. Nothing was written."""

    code = "budget_exceeded"
    default = "The spend cap leaves no room for this entry."


class DatabaseUnavailable(DerwinError):
    """The database can't be reached or can't serve now. `retry_after` is in seconds."""

    code = "database_unavailable"
    default = "The database is not available at the moment. Try again."
    retry_after: ClassVar[int] = 1
    may_run_again: bool = True
    """Whether nothing of the unit of work can be stored, and running it again at once may help (`db.run` does)."""


class OutcomeUnknown(DatabaseUnavailable):
    """The connection was lost during COMMIT: the work is stored as a whole, or not at all. An idempotency key tells."""

    code = "outcome_unknown"
    default = (
        "The connection was lost during the commit: the work is stored as a whole or not at all. Look before you repeat it."
    )
    may_run_again = False


class DatabaseTimeout(DerwinError):
    """The statement took longer than its limit, or the server did not answer in time."""

    code = "database_timeout"
    default = "The database did not answer in time."


class StorageFull(DerwinError):
    """The database server has no room left. Reads go on; free space on the server."""

    code = "storage_full"
    default = "The database server has no room left. Free space on the server; no restart is needed."


class ConfigurationError(DerwinError):
    """A setting is missing or can't work. The message names the setting."""

    code = "configuration_error"
    default = "The configuration can't work."


class SchemaOutOfDate(ConfigurationError):
    """The database is behind or ahead of this code."""

    code = "schema_out_of_date"
    default = "The database schema does not match this version. Run `make migrate` (or `derwin-db migrate`)."


class ExtensionMissing(ConfigurationError):
    """pgvector is not installed on the server, or this login may not create it."""

    code = "extension_missing"
    default = (
        "The server has no pgvector, or this login may not create it. "
        "As an administrator, install pgvector on the server and run `CREATE EXTENSION vector` in this database."
    )


class IsolationNotEnforced(ConfigurationError):
    """A fence of the database does not stand. Nothing is served before it does."""

    code = "isolation_not_enforced"
    default = "The database does not enforce project isolation. `derwin-db doctor` names what is missing."


class SqlState:
    """SQLSTATEs that this package's own triggers and functions raise (class DW is free in PostgreSQL's appendix A)."""

    APPEND_ONLY = "DW001"
    RETENTION = "DW002"
    UNKNOWN_PROJECT = "DW003"
    FOREIGN_SEAL = "DW004"


UNIT_FAILED = (
    "An earlier statement of this unit of work failed, so nothing further can run in it. "
    "Wrap what may fail in `async with session.savepoint():`."
)

_WRONG_TYPE = "A value does not fit its column's type."

_POOLER = (
    "Prepared statements do not survive between statements: a transaction pooler stands before the server. "
    "Add `pgbouncer=true` to the connection URL."
)

_EXACT: dict[str, tuple[type[DerwinError], str | None]] = {
    SqlState.APPEND_ONLY: (AppendOnlyViolation, None),
    SqlState.RETENTION: (RetentionLocked, None),
    SqlState.UNKNOWN_PROJECT: (ProjectNotFound, None),
    SqlState.FOREIGN_SEAL: (
        ConfigurationError,
        "The scope key was rotated or restored: restart the service, with the new DERWIN_SCOPE_KEY where that is set.",
    ),
    "23502": (InvalidInput, "A required column has no value."),
    "23503": (InvalidReference, None),
    "23505": (Conflict, "A row with the same key exists already."),
    "23514": (InvalidInput, "A value breaks a check of its column."),
    "25006": (ScopeError, "This unit of work is read-only: open `db.project(...)` without `read_only=True` to write."),
    "25P02": (ScopeError, UNIT_FAILED),
    "25P03": (
        DatabaseUnavailable,
        "The unit of work was idle for too long and the server ended it. Keep other work outside of it.",
    ),
    "25P04": (DatabaseTimeout, "The unit of work took longer than the server allows."),
    "40001": (DatabaseUnavailable, "Two units of work collided. Run this one again (`db.run` does)."),
    "40P01": (DatabaseUnavailable, "Two units of work waited for each other. Run this one again (`db.run` does)."),
    "42501": (
        ScopeError,
        "The database refused this: the role of a unit of work may not do it, or the row is of another project.",
    ),
    "53100": (StorageFull, None),
    "53200": (DatabaseUnavailable, "The database server is out of memory. Try again."),
    "53300": (DatabaseUnavailable, "The database server has no free connection slot. Try again, or lower the pool size."),
    "55P03": (DatabaseUnavailable, "A lock was not to be had in time. Try again."),
    "57014": (DatabaseTimeout, "The statement took longer than its limit and was cancelled."),
    "3D000": (ConfigurationError, "The database named in the connection URL does not exist. Create it first."),
    "28P01": (ConfigurationError, "The server refused the login: user or password is wrong. Check the connection URL."),
    "28000": (
        ConfigurationError,
        "The server refused the login: this user may not log in from here. Check the connection URL.",
    ),
    "26000": (ConfigurationError, _POOLER),
    "42P01": (SchemaOutOfDate, None),
    "42P05": (ConfigurationError, _POOLER),
    "42703": (SchemaOutOfDate, None),
}

_BY_CLASS: dict[str, tuple[type[DerwinError], str | None]] = {
    "08": (DatabaseUnavailable, None),
    "0A": (ScopeError, "The database can't do this in a unit of work."),
    "21": (InvalidInput, "The statement touches a row twice, or finds several where one is wanted."),
    "22": (InvalidInput, _WRONG_TYPE),
    "23": (Conflict, None),
    "24": (ScopeError, "The cursor is not in a state that allows this."),
    "25": (ScopeError, "A statement is not allowed in the transaction's present state."),
    "28": (ConfigurationError, "The server refused the login. Check the connection URL."),
    "34": (ScopeError, "There is no such cursor in this unit of work."),
    "42": (ScopeError, "The database can't run this statement as it is written."),
    "44": (ScopeError, "The row is of another project, or outside of the view it is written through."),
    "53": (DatabaseUnavailable, None),
    "54": (TooLarge, "The statement or a value in it is larger than the server takes."),
    "55": (DatabaseUnavailable, None),
    "57": (DatabaseUnavailable, None),
    "58": (DatabaseUnavailable, None),
    "XX": (DatabaseUnavailable, None),
}

_RUN_AGAIN = frozenset({"40001", "40P01", "55P03", "53300"})
"""SQLSTATEs that another try may not meet: collisions of two units, and a server that is full."""

_LOST = ("08", "57P")
"""Classes of SQLSTATEs that say that the connection is gone."""

_BY_CONSTRAINT: dict[str, tuple[type[DerwinError], str | None]] = {
    "pk_projects": (Conflict, "A project with this slug exists already."),
    "uq_projects_slug": (Conflict, "A project with this slug exists already."),
}

_NO_TLS = "rejected SSL upgrade"
_CONCURRENT = "another operation"
_OUTDATED = frozenset({"InvalidCachedStatementError", "OutdatedSchemaCacheError"})
_SCHEMA_CHANGED = "The schema changed while the unit of work was running. Run it again (`db.run` does)."

_SQLALCHEMY: dict[str, tuple[type[DerwinError], str | None]] = {
    "PendingRollbackError": (ScopeError, UNIT_FAILED),
    "IllegalStateChangeError": (ConcurrentUse, None),
    "NoResultFound": (NotFound, None),
    "StaleDataError": (StaleWrite, None),
    "StatementError": (InvalidInput, _WRONG_TYPE),
}
"""What SQLAlchemy raises by itself, by the name of its class."""

_CITUS_SHARD = re.compile(r"_\d{5,}$")
_QUOTED_NAME = re.compile(r'"((?:pk|uq|fk|ck|ix)_[a-z0-9_]+)"')


def constraint_of(error: BaseException) -> str | None:
    """Return the violated constraint's name, without the shard suffix that a distributed server adds."""
    name = getattr(error, "constraint_name", None)
    if not name:
        found = _QUOTED_NAME.search(str(getattr(error, "message", "") or ""))
        name = found.group(1) if found else None
    return _CITUS_SHARD.sub("", name) if name else None


def sqlstate_of(error: BaseException) -> str | None:
    """Return the SQLSTATE of a driver's error, also of one that SQLAlchemy wraps."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None


def breaks_connections(error: BaseException) -> bool:
    """Tell whether the connection, and others like it, should not be used again though it is open.

    The server did not answer in time, or the driver holds statements that were prepared for another schema.
    """
    return isinstance(error, TimeoutError) or type(error).__name__ in _OUTDATED


def translate(error: BaseException) -> DerwinError | None:
    """Return this package's error for what a driver, SQLAlchemy or the network raised; None for anything else.

    A `DerwinError` is returned as it is. The result carries no text of the original: chain it with `from None`.
    """
    if isinstance(error, DerwinError):
        return error
    origin = _driver_error(error)
    state = sqlstate_of(origin)
    if state is None:
        return _from_builtin(origin) or (None if origin is error else _from_sqlalchemy(error))
    result = _from_sqlstate(origin, state)
    result.sqlstate = state
    if isinstance(result, DatabaseUnavailable):
        result.may_run_again = state in _RUN_AGAIN or state.startswith(_LOST) or type(origin).__name__ in _OUTDATED
    return result


def _driver_error(error: BaseException) -> BaseException:
    """Unwrap SQLAlchemy's DBAPIError: `orig` is its adapter's error, whose cause is the driver's own.

    Where the server said why it closed the connection, that is the cause of the driver's error.
    """
    adapted: BaseException | None = getattr(error, "orig", None)
    if adapted is not None:
        error = adapted.__cause__ or adapted
    is_lost = sqlstate_of(error) == "08003" and error.__cause__ is not None and sqlstate_of(error.__cause__) is not None
    return error.__cause__ if is_lost and error.__cause__ is not None else error


def _from_sqlstate(error: BaseException, state: str) -> DerwinError:
    if state == "42501" and _is_denied(error) and any(name in str(error) for name in APPEND_ONLY_TABLES):
        return AppendOnlyViolation()
    if type(error).__name__ in _OUTDATED:
        return DatabaseUnavailable(_SCHEMA_CHANGED)
    constraint = constraint_of(error) if state.startswith("23") else None
    if constraint in _BY_CONSTRAINT:
        kind, message = _BY_CONSTRAINT[constraint]
    elif state == "23503" and constraint and constraint.endswith("_project_id"):
        kind, message = ProjectNotFound, None
    else:
        kind, message = _EXACT.get(state) or _BY_CLASS.get(state[:2]) or (DerwinError, None)
    result = kind(f"{message or kind.default} [{constraint}]" if constraint and kind is not Conflict else message)
    result.constraint = constraint
    return result


def _is_denied(error: BaseException) -> bool:
    """Tell a privilege that is missing from a row that a policy refuses: both are 42501, and name the table in their text."""
    return getattr(error, "server_source_function", None) != "ExecWithCheckOptions"


def _from_builtin(error: BaseException) -> DerwinError | None:
    module = type(error).__module__
    if isinstance(error, ssl.SSLError):
        return _from_tls(error)
    if isinstance(error, TimeoutError):
        return DatabaseTimeout()
    if type(error) is ConnectionError and _NO_TLS in str(error):
        return ConfigurationError(
            "The server offers no TLS. Turn TLS on there, or set sslmode=disable in the connection URL on purpose."
        )
    if isinstance(error, (OSError, EOFError)):
        return DatabaseUnavailable()
    if module.startswith("asyncpg"):
        return _from_driver(error)
    if module.startswith("sqlalchemy"):
        return _from_sqlalchemy(error)
    return None


def _from_tls(error: ssl.SSLError) -> DerwinError:
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
        return DatabaseUnavailable()  # the peer went away
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConfigurationError(
            "TLS failed: the server's certificate can't be verified for this host. Set sslrootcert in the connection URL to "
            "the certificate of its authority, or sslmode=require to go without verification on purpose."
        )
    return ConfigurationError("TLS failed: the server and this machine agree on no protocol, or the server wants none.")


def _from_driver(error: BaseException) -> DerwinError:
    """Return the error for what asyncpg raises by itself: only its type and, for want of one, two words of its own."""
    kind = type(error).__name__
    if kind == "InterfaceError" and _CONCURRENT in str(error):
        return ConcurrentUse()
    if kind in _OUTDATED:
        return DatabaseUnavailable(_SCHEMA_CHANGED)
    if kind == "ClientConfigurationError":
        return ConfigurationError("The driver can't use the connection settings. Check the URL and the PG* variables.")
    return InvalidInput(_WRONG_TYPE) if kind == "DataError" else DatabaseUnavailable()


def _from_sqlalchemy(error: BaseException) -> DerwinError:
    kind = type(error).__name__
    if getattr(error, "code", None) == "isce":
        return ConcurrentUse()
    if kind in _SQLALCHEMY:
        chosen, message = _SQLALCHEMY[kind]
        return chosen(message)
    return ScopeError(f"SQLAlchemy can't run this statement in a unit of work ({kind}).")


def translate_any(error: Exception) -> DerwinError:
    """Return this package's error for whatever came out of a call of the driver, builtins included."""
    translated = translate(error)
    if translated is not None:
        return translated
    if isinstance(error, MemoryError):
        return TooLarge()
    if isinstance(error, ValueError | TypeError | ArithmeticError | LookupError | AttributeError | RecursionError):
        return InvalidInput(_WRONG_TYPE)  # an argument that can't be encoded
    return DatabaseUnavailable()
