"""The error tree, and the one translation from what the database and its driver raise.

No HTTP here: `derwin_db.fastapi` maps these classes to statuses. No message here ever carries a parameter's value, a
password or a row: of what a server says only names are repeated (`derwin_db.translation.names`); the rest is the error's
`__cause__` where an operator asks for it (DERWIN_DEBUG).

    DerwinError
    ├── ScopeError                  a programming error: no project, a closed or foreign session, a write where none may be
    │   └── ConcurrentUse           one unit of work used by two tasks at once
    ├── InvalidStatement            SQL by hand, or a mapping, that can't run as it is written
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
    │   ├── OutcomeUnknown          the commit may or may not have happened
    │   └── ReplicaBehind           the replica has not seen yet what a read was to wait for
    ├── DatabaseTimeout
    ├── StorageFull
    └── ConfigurationError          found at start
        ├── SchemaOutOfDate
        ├── ExtensionMissing
        └── IsolationNotEnforced
"""

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
        self.add_note(f"`derwin-db explain {self.code}` says what to do.")

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


class InvalidStatement(DerwinError):
    """SQL by hand, or a mapped class of the service, can't run as it is written. Fix the calling code."""

    code = "invalid_statement"
    default = "The database can't run this statement as it is written."


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


class ReplicaBehind(DatabaseUnavailable):
    """The replica did not reach the position in time. Read from the primary, or later."""

    code = "replica_behind"
    default = "The replica has not seen that write yet. Try again."


class DatabaseTimeout(DerwinError):
    """The statement took longer than its limit, or the server did not answer in time."""

    code = "database_timeout"
    default = "The database did not answer in time."


class StorageFull(DerwinError):
    """The database server has no room left, for its data or for its write-ahead log. The message says which, and what to do."""

    code = "storage_full"
    default = "The disk of the server's data is full. Reads go on. Free space on the server; no restart is needed."


class ConfigurationError(DerwinError):
    """A setting is missing or can't work. The message names the setting."""

    code = "configuration_error"
    default = "The configuration can't work."


class SchemaOutOfDate(ConfigurationError):
    """The database is behind or ahead of this code."""

    code = "schema_out_of_date"
    default = "The database schema does not match this version. Run `derwin-db migrate`."


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


def codes() -> frozenset[str]:
    """Return the codes of all errors."""

    def below(kind: type[DerwinError]) -> frozenset[str]:
        return frozenset({kind.code}).union(*(below(child) for child in kind.__subclasses__()))

    return below(DerwinError)


class SqlState:
    """SQLSTATEs that this package's own triggers and functions raise (class DW is free in PostgreSQL's appendix A)."""

    APPEND_ONLY = "DW001"
    RETENTION = "DW002"
    UNKNOWN_PROJECT = "DW003"
    FOREIGN_SEAL = "DW004"
    ILLEGAL_TRANSITION = "DW005"
    NO_SCOPE = "DW010"
    SCOPE_ENDED = "DW011"


UNIT_FAILED = (
    "An earlier statement of this unit of work failed, so nothing further can run in it. "
    "Wrap what may fail in `async with session.savepoint():`."
)
