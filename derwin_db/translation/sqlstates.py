"""What each SQLSTATE, class of SQLSTATEs and constraint means to a caller. Source: PostgreSQL's appendix A."""

from derwin_db.errors import (
    UNIT_FAILED,
    AppendOnlyViolation,
    ConfigurationError,
    Conflict,
    DatabaseTimeout,
    DatabaseUnavailable,
    DerwinError,
    InvalidInput,
    InvalidReference,
    ProjectNotFound,
    RetentionLocked,
    SchemaOutOfDate,
    ScopeError,
    SqlState,
    StorageFull,
    TooLarge,
)

WRONG_TYPE = "A value does not fit its column's type."


_POOLER = (
    "Prepared statements do not survive between statements: a transaction pooler stands before the server. "
    "Add `pgbouncer=true` to the connection URL."
)


EXACT: dict[str, tuple[type[DerwinError], str | None]] = {
    SqlState.APPEND_ONLY: (AppendOnlyViolation, None),
    SqlState.RETENTION: (RetentionLocked, None),
    SqlState.UNKNOWN_PROJECT: (ProjectNotFound, None),
    SqlState.FOREIGN_SEAL: (
        ConfigurationError,
        "The scope key was rotated or restored: restart the service, with the new DERWIN_SCOPE_KEY where that is set.",
    ),
    SqlState.NO_SCOPE: (
        ScopeError,
        "No project is set where the statement ran: SQL in this unit of work ended its transaction, or took the scope away.",
    ),
    SqlState.SCOPE_ENDED: (
        DatabaseUnavailable,
        "The opening of the unit of work reached the server too late, or the server's clock was set meanwhile. Run it again.",
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


BY_CLASS: dict[str, tuple[type[DerwinError], str | None]] = {
    "08": (DatabaseUnavailable, None),
    "0A": (ScopeError, "The database can't do this in a unit of work."),
    "21": (InvalidInput, "The statement touches a row twice, or finds several where one is wanted."),
    "22": (InvalidInput, WRONG_TYPE),
    "23": (Conflict, None),
    "24": (ScopeError, "The cursor is not in a state that allows this."),
    "25": (ScopeError, "A statement is not allowed in the transaction's present state."),
    "28": (ConfigurationError, "The server refused the login. Check the connection URL."),
    "2D": (ScopeError, "SQL of a unit of work can't end its transaction: leave the block to commit, raise to roll back."),
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


BY_CONSTRAINT: dict[str, tuple[type[DerwinError], str | None]] = {
    "pk_projects": (Conflict, "A project with this slug exists already."),
    "uq_projects_slug": (Conflict, "A project with this slug exists already."),
}
