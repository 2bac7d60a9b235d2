"""What each SQLSTATE, class of SQLSTATEs and constraint means to a caller. Source: PostgreSQL's appendix A."""

from typing import NamedTuple

from derwin_db.errors import (
    UNIT_FAILED,
    AppendOnlyViolation,
    ConfigurationError,
    Conflict,
    DatabaseTimeout,
    DatabaseUnavailable,
    DerwinError,
    ExtensionMissing,
    IllegalTransition,
    InvalidInput,
    InvalidReference,
    InvalidStatement,
    ProjectNotFound,
    RetentionLocked,
    ScopeError,
    SqlState,
    StorageFull,
    TooLarge,
)


class Meaning(NamedTuple):
    """The error, what happened, and what to do. The names that the server's error holds stand between the two."""

    kind: type[DerwinError]
    what: str | None = None
    then: str = ""

    def sentence(self, names: str = "") -> str:
        """Return the message."""
        if self.what is None:
            return self.kind.default + (f" [{names}]" if names else "")
        told = f"{self.what} ({names})." if names else f"{self.what}."
        return f"{told} {self.then}" if self.then else told


COLLISIONS = frozenset({"40001", "40P01"})
"""Of units of work that met: one of them always gets through."""

WRONG_TYPE = Meaning(InvalidInput, "A value does not fit its column's type")

CHANGED_SCHEMA = Meaning(
    DatabaseUnavailable, "The schema changed while the unit of work was running", "Run it again (`db.run` does)."
)

_POOLER = "Add `pgbouncer=true` to the connection URL."
_WRITTEN = "Correct the statement."
_AGAIN = "Try again."


EXACT: dict[str, Meaning] = {
    SqlState.APPEND_ONLY: Meaning(AppendOnlyViolation),
    SqlState.RETENTION: Meaning(RetentionLocked),
    SqlState.UNKNOWN_PROJECT: Meaning(ProjectNotFound),
    SqlState.FOREIGN_SEAL: Meaning(
        ConfigurationError,
        "The scope key was rotated or restored",
        "Restart the service with the new key where DERWIN_SCOPE_KEY is set; else see that DERWIN_SCOPE_KEY_FILE, ADMIN_URL or "
        "DIRECT_URL are of this database.",
    ),
    SqlState.ILLEGAL_TRANSITION: Meaning(
        IllegalTransition,
        "A status does not change this way",
        "The verbs of its repository know each move that there is.",
    ),
    SqlState.NO_SCOPE: Meaning(
        ScopeError,
        "No project is set where the statement ran",
        "SQL in this unit of work ended its transaction, or took the scope away.",
    ),
    SqlState.SCOPE_ENDED: Meaning(
        DatabaseUnavailable,
        "The opening of the unit of work reached the server too late, or the server's clock was set meanwhile",
        "Run it again.",
    ),
    "08P01": Meaning(DatabaseUnavailable, "The server and the driver, or a pooler between them, misunderstood each other"),
    "22000": WRONG_TYPE,
    "22001": Meaning(InvalidInput, "A text is longer than its column takes"),
    "22002": Meaning(InvalidInput, "A value is NULL where none may be"),
    "22003": Meaning(InvalidInput, "A number lies outside of its type's range"),
    "22004": Meaning(InvalidInput, "A value is NULL where none may be"),
    "22007": Meaning(InvalidInput, "A text does not read as a date or time"),
    "22008": Meaning(InvalidInput, "A date or time lies outside of its range"),
    "22009": Meaning(InvalidInput, "A time zone is not known"),
    "2200F": Meaning(InvalidInput, "A text is empty where none may be"),
    "22011": Meaning(InvalidInput, "A substring has a negative length"),
    "22012": Meaning(InvalidInput, "The statement divides by zero"),
    "22013": Meaning(InvalidInput, "A window function has a frame of an invalid size"),
    "22014": Meaning(InvalidInput, "ntile() takes a number above zero"),
    "22016": Meaning(InvalidInput, "nth_value() takes a number above zero"),
    "22019": Meaning(InvalidInput, "The escape of a pattern is not one character"),
    "2201B": Meaning(InvalidInput, "A regular expression can't be parsed"),
    "2201E": Meaning(InvalidInput, "A logarithm is taken of zero or a negative number"),
    "2201F": Meaning(InvalidInput, "A power has no real result"),
    "2201G": Meaning(InvalidInput, "width_bucket() has a count or bounds that can't be"),
    "2201W": Meaning(InvalidInput, "LIMIT is negative"),
    "2201X": Meaning(InvalidInput, "OFFSET is negative"),
    "2202E": Meaning(InvalidInput, "An array has a subscript or dimensions that can't be"),
    "2202H": Meaning(InvalidInput, "TABLESAMPLE has a percentage that can't be"),
    "22021": Meaning(InvalidInput, "A text holds a character that the database can't store, such as NUL"),
    "22023": Meaning(InvalidInput, "An argument or a setting has a value that the server does not take"),
    "22024": Meaning(InvalidInput, "A C string does not end"),
    "22025": Meaning(InvalidInput, "An escape in a text or pattern can't be read"),
    "22026": Meaning(InvalidInput, "A text or bit string has another length than its type"),
    "22030": Meaning(InvalidInput, "A JSON object has a key twice"),
    "22031": Meaning(InvalidInput, "A JSON path function got an argument that it can't take"),
    "22032": Meaning(InvalidInput, "A text is not JSON"),
    "22033": Meaning(InvalidInput, "A JSON array has no item of this number"),
    "22034": Meaning(InvalidInput, "A JSON path found several items where one is wanted"),
    "22035": Meaning(InvalidInput, "A JSON path found no item"),
    "22036": Meaning(InvalidInput, "A JSON path found an item that is no number"),
    "22037": Meaning(InvalidInput, "A JSON object has a key that is not unique"),
    "22038": Meaning(InvalidInput, "A JSON path found several items where one is wanted"),
    "22039": Meaning(InvalidInput, "A JSON path wants an array where none is"),
    "2203A": Meaning(InvalidInput, "A JSON path found no member of this name"),
    "2203B": Meaning(InvalidInput, "A JSON path wants a number where none is"),
    "2203C": Meaning(InvalidInput, "A JSON path wants an object where none is"),
    "2203D": Meaning(InvalidInput, "A JSON array has too many items"),
    "2203E": Meaning(InvalidInput, "A JSON object has too many members"),
    "2203F": Meaning(InvalidInput, "A JSON path wants a single value where none is"),
    "2203G": Meaning(InvalidInput, "A JSON item can't be cast to the type that is wanted"),
    "2200L": Meaning(InvalidInput, "A text is not an XML document"),
    "2200M": Meaning(InvalidInput, "A text is not an XML document"),
    "2200N": Meaning(InvalidInput, "A text is not XML content"),
    "22P01": Meaning(InvalidInput, "A floating point operation has no result"),
    "22P02": Meaning(InvalidInput, "A text does not read as a value of its type"),
    "22P03": Meaning(InvalidInput, "A value does not have the binary form of its type"),
    "22P04": Meaning(InvalidInput, "Data of a COPY do not have its format"),
    "22P05": Meaning(InvalidInput, "A text holds a character that can't be converted, such as an escaped NUL in JSON"),
    "22P06": Meaning(InvalidInput, "A text has an escape that is not standard"),
    "23001": Meaning(Conflict, "Other rows refer to this one", "Remove or change those first."),
    "23502": Meaning(InvalidInput, "A required column has no value"),
    "23503": Meaning(InvalidReference, "A referenced row does not exist in this project"),
    "23505": Meaning(Conflict, "A row with the same key exists already"),
    "23514": Meaning(InvalidInput, "A value breaks a check of its column"),
    "23P01": Meaning(Conflict, "A row that excludes this one exists already"),
    "25006": Meaning(ScopeError, "This unit of work is read-only", "Open `db.project(...)` without `read_only=True` to write."),
    "25P02": Meaning(ScopeError, UNIT_FAILED.partition(". ")[0], UNIT_FAILED.partition(". ")[2]),
    "25P03": Meaning(
        DatabaseUnavailable,
        "The unit of work was idle for longer than DERWIN_IDLE_IN_TRANSACTION_TIMEOUT, and the server ended it",
        "Do what takes long (a model's answer, a download) before or after it, not inside.",
    ),
    "25P04": Meaning(
        DatabaseTimeout,
        "The unit of work took longer than DERWIN_TRANSACTION_TIMEOUT, and the server ended it",
        "Split its work over several units.",
    ),
    "2BP01": Meaning(Conflict, "Other objects of the database depend on this one", "Remove those first."),
    "3B001": Meaning(InvalidStatement, "There is no such savepoint in this unit of work", _WRITTEN),
    "3F000": Meaning(InvalidStatement, "The statement names a schema that does not exist", _WRITTEN),
    "40001": Meaning(DatabaseUnavailable, "Two units of work collided", "Run this one again (`db.run` does)."),
    "40P01": Meaning(DatabaseUnavailable, "Two units of work waited for each other", "Run this one again (`db.run` does)."),
    "42501": Meaning(ScopeError, "The database refused this: the role of a unit of work may not do it"),
    "42601": Meaning(InvalidStatement, "The statement has a syntax error", _WRITTEN),
    "42602": Meaning(InvalidStatement, "The statement holds an invalid name", _WRITTEN),
    "42611": Meaning(InvalidStatement, "The statement defines a column in a way that can't be", _WRITTEN),
    "42622": Meaning(InvalidStatement, "The statement holds a name that is too long", _WRITTEN),
    "42701": Meaning(InvalidStatement, "The statement names a column twice, or adds one that exists", _WRITTEN),
    "42702": Meaning(
        InvalidStatement, "The statement names a column that several of its tables have", "Qualify it with its table."
    ),
    "42703": Meaning(InvalidStatement, "The statement names a column that does not exist", _WRITTEN),
    "42704": Meaning(
        InvalidStatement, "The statement names a type, role, setting or other object that does not exist", _WRITTEN
    ),
    "42710": Meaning(InvalidStatement, "The statement makes an object that exists already", _WRITTEN),
    "42712": Meaning(InvalidStatement, "The statement gives two of its tables one name", _WRITTEN),
    "42723": Meaning(InvalidStatement, "The statement makes a function that exists already", _WRITTEN),
    "42725": Meaning(InvalidStatement, "The statement calls a function or operator that several fit", "Cast its arguments."),
    "42803": Meaning(InvalidStatement, "The statement groups its rows, and selects a column that is not grouped by", _WRITTEN),
    "42804": Meaning(InvalidStatement, "The statement puts a value of one type where another is wanted", "Cast it."),
    "42809": Meaning(InvalidStatement, "The statement uses an object of another kind than it takes", _WRITTEN),
    "42830": Meaning(InvalidStatement, "A foreign key refers to columns that no unique key has", _WRITTEN),
    "42846": Meaning(InvalidStatement, "The statement casts a value to a type that it can't have", _WRITTEN),
    "42883": Meaning(
        InvalidStatement,
        "The statement calls a function or operator that does not exist for these types",
        "Correct the statement, or cast its arguments.",
    ),
    "42P01": Meaning(InvalidStatement, "The statement names a table that does not exist", _WRITTEN),
    "42P02": Meaning(InvalidStatement, "The statement has a parameter that nothing was given for", _WRITTEN),
    "42P06": Meaning(InvalidStatement, "The statement makes a schema that exists already", _WRITTEN),
    "42P07": Meaning(InvalidStatement, "The statement makes a table or index that exists already", _WRITTEN),
    "42P08": Meaning(InvalidStatement, "A parameter of the statement could have several types", "Cast it."),
    "42P10": Meaning(
        InvalidStatement, "The statement names columns that it can't, such as ON CONFLICT without a unique key", _WRITTEN
    ),
    "42P16": Meaning(InvalidStatement, "The statement defines a table in a way that can't be", _WRITTEN),
    "42P18": Meaning(InvalidStatement, "A parameter of the statement could have any type", "Cast it."),
    "42P19": Meaning(InvalidStatement, "The statement has a recursion that can't be", _WRITTEN),
    "42P20": Meaning(InvalidStatement, "The statement uses a window function where none may stand", _WRITTEN),
    "42P22": Meaning(InvalidStatement, "The statement compares texts without saying in which order", "Add COLLATE."),
    "53100": Meaning(StorageFull),
    "53200": Meaning(DatabaseUnavailable, "The database server is out of memory", _AGAIN),
    "53300": Meaning(
        DatabaseUnavailable, "The database server has no free connection slot", "Try again, or lower the pool size."
    ),
    "53400": Meaning(DatabaseUnavailable, "The statement needs more than a limit of the server's configuration allows"),
    "54001": Meaning(TooLarge, "The statement is nested deeper than the server takes"),
    "54011": Meaning(TooLarge, "The statement has more columns than the server takes"),
    "54023": Meaning(TooLarge, "The statement calls a function with more arguments than the server takes"),
    "55000": Meaning(InvalidStatement, "An object is not in the state that the statement needs", _WRITTEN),
    "55006": Meaning(Conflict, "An object is in use", _AGAIN),
    "55P02": Meaning(InvalidStatement, "The statement changes a setting that can't be changed now", _WRITTEN),
    "55P03": Meaning(
        DatabaseUnavailable,
        "A lock was not to be had in time: somebody holds it for longer than DERWIN_LOCK_TIMEOUT, or NOWAIT was said",
        _AGAIN,
    ),
    "55P04": Meaning(InvalidStatement, "The statement uses a value of an enumeration in the unit that added it", _WRITTEN),
    "57014": Meaning(
        DatabaseTimeout,
        "The statement was cancelled: it took longer than DERWIN_STATEMENT_TIMEOUT, or somebody cancelled it",
        "Ask for less at once, or raise the limit.",
    ),
    "57P01": Meaning(DatabaseUnavailable, "The server ended the connection: an administrator did, or it shuts down", _AGAIN),
    "57P02": Meaning(DatabaseUnavailable, "The server ended the connection: another one crashed", _AGAIN),
    "57P03": Meaning(DatabaseUnavailable, "The server takes no connections now: it starts, recovers or shuts down", _AGAIN),
    "57P04": Meaning(ConfigurationError, "The database was dropped"),
    "57P05": Meaning(
        DatabaseUnavailable, "The server ended a connection that was idle for longer than its idle_session_timeout", _AGAIN
    ),
    "58P01": Meaning(DatabaseUnavailable, "A file that the server needs does not exist on its machine"),
    "58P02": Meaning(DatabaseUnavailable, "A file exists already on the server's machine"),
    "3D000": Meaning(ConfigurationError, "The database named in the connection URL does not exist", "Create it first."),
    "28P01": Meaning(
        ConfigurationError, "The server refused the login: user or password is wrong", "Check the connection URL."
    ),
    "28000": Meaning(
        ConfigurationError, "The server refused the login: this user may not log in from here", "Check the connection URL."
    ),
    "26000": Meaning(InvalidStatement, "There is no such prepared statement on this connection", _WRITTEN),
    "42P05": Meaning(InvalidStatement, "A prepared statement of this name exists already", _WRITTEN),
    "P0001": Meaning(Conflict, "A function or trigger of the database refused this"),
    "P0002": Meaning(InvalidStatement, "A function of the database found no row where it wants one"),
    "P0003": Meaning(InvalidStatement, "A function of the database found several rows where it wants one"),
    "P0004": Meaning(InvalidStatement, "A function or trigger of the database found an assertion of it broken"),
    "XX001": Meaning(DatabaseUnavailable, "The server found damaged data", "Its log says where; an administrator has to look."),
    "XX002": Meaning(DatabaseUnavailable, "The server found a damaged index", "Its log says which; REINDEX makes it anew."),
}


BY_CLASS: dict[str, Meaning] = {
    "03": Meaning(ScopeError, "The server has not finished the statement before this one"),
    "08": Meaning(DatabaseUnavailable),
    "09": Meaning(InvalidStatement, "A trigger of the database failed"),
    "0A": Meaning(InvalidStatement, "The server does not support what the statement asks for", _WRITTEN),
    "0B": Meaning(ScopeError, "A transaction can't be begun here"),
    "0F": Meaning(InvalidStatement, "A large object is used in a way that can't be", _WRITTEN),
    "0L": Meaning(ScopeError, "This role may not grant what the statement grants"),
    "0Z": Meaning(InvalidStatement, "A function of the database asks for an error where there is none"),
    "10": Meaning(InvalidInput, "An XQuery expression failed"),
    "0P": Meaning(InvalidStatement, "The statement names a role that can't be used here", _WRITTEN),
    "20": Meaning(InvalidStatement, "A function of the database has no case for a value"),
    "21": Meaning(
        InvalidInput, "The statement found several rows where one is wanted, or touches one twice", "Narrow it, or its rows."
    ),
    "22": Meaning(InvalidInput, "A value is not one that the statement can work with"),
    "23": Meaning(Conflict, "A constraint of the database does not allow this"),
    "24": Meaning(ScopeError, "The cursor is not in a state that allows this"),
    "25": Meaning(ScopeError, "A statement is not allowed in the transaction's present state"),
    "26": Meaning(InvalidStatement, "There is no such prepared statement on this connection", _WRITTEN),
    "27": Meaning(InvalidStatement, "A trigger of the database changed the row that the statement changes"),
    "28": Meaning(ConfigurationError, "The server refused the login", "Check the connection URL."),
    "2B": Meaning(Conflict, "Other objects of the database depend on this one", "Remove those first."),
    "2D": Meaning(
        ScopeError, "SQL of a unit of work can't end its transaction", "Leave the block to commit, raise to roll back."
    ),
    "2F": Meaning(InvalidStatement, "A function of the database did what it may not"),
    "34": Meaning(InvalidStatement, "There is no such cursor in this unit of work", _WRITTEN),
    "38": Meaning(InvalidStatement, "A function of the database failed"),
    "39": Meaning(InvalidStatement, "A function or trigger of the database returned what it may not"),
    "3B": Meaning(ScopeError, "A savepoint is not in a state that allows this"),
    "40": Meaning(DatabaseUnavailable, "The server rolled the unit of work back", "Run it again (`db.run` does)."),
    "42": Meaning(InvalidStatement, "The database can't run this statement as it is written", _WRITTEN),
    "44": Meaning(ScopeError, "The row lies outside of the view that it is written through"),
    "53": Meaning(DatabaseUnavailable, "The server is out of a resource", _AGAIN),
    "54": Meaning(TooLarge, "The statement or a value in it is larger than the server takes"),
    "55": Meaning(InvalidStatement, "An object is not in the state that the statement needs", _WRITTEN),
    "57": Meaning(DatabaseUnavailable, "Somebody, or the server itself, ended the statement", _AGAIN),
    "58": Meaning(DatabaseUnavailable, "The server's machine failed it: its log says how"),
    "72": Meaning(
        DatabaseUnavailable, "The unit of work read too old a state of the database", "Run it again (`db.run` does)."
    ),
    "F0": Meaning(DatabaseUnavailable, "The server's configuration has an error"),
    "HV": Meaning(DatabaseUnavailable, "A foreign table's own server failed"),
    "P0": Meaning(InvalidStatement, "A function or trigger of the database failed"),
    "XX": Meaning(DatabaseUnavailable, "The server reports an internal error: its log has it"),
}


BY_CONSTRAINT: dict[str, Meaning] = {
    "pk_projects": Meaning(Conflict, "A project with this slug exists already"),
    "uq_projects_slug": Meaning(Conflict, "A project with this slug exists already"),
}

STILL_REFERRED_TO = EXACT["23001"]

LOST_STATEMENT = Meaning(
    ConfigurationError,
    "Prepared statements do not survive between statements: a transaction pooler stands before the server",
    _POOLER,
)

FULL_WAL = Meaning(
    StorageFull,
    "The disk of the server's write-ahead log (pg_wal) is full, and the server stops",
    "Free space there, then start the server again where it does not come back by itself.",
)
"""A full disk of the data stops writes alone; without its log the server can't go on."""

LOST_VECTOR = Meaning(
    ExtensionMissing,
    "The database finds no pgvector: it was dropped, or moved to another schema after this service started",
    "Where it moved, start the service again; else, as an administrator, run `CREATE EXTENSION vector`.",
)

FOREIGN_ROW = Meaning(ScopeError, "The database refused this row: a policy of its table does not allow it in this project")

NAMING_CLASSES = frozenset({"26", "2B", "34", "3B", "3F", "42"})
"""Classes whose messages repeat names of the statement. Those of other classes may repeat values."""
