"""The one translation from what the database, its driver and SQLAlchemy raise to this package's errors.

By SQLSTATE, constraint and class. Of a text only names are taken (`derwin_db.translation.names`): MESSAGE and DETAIL may hold
values.
"""

import logging
import re
import ssl
from itertools import permutations
from typing import NoReturn

from derwin_db.errors import (
    APPEND_ONLY_TABLES,
    AppendOnlyViolation,
    ConcurrentUse,
    ConfigurationError,
    DatabaseTimeout,
    DatabaseUnavailable,
    DerwinError,
    InvalidInput,
    InvalidStatement,
    ProjectNotFound,
    SchemaOutOfDate,
    TooLarge,
)
from derwin_db.sql import PROJECT_TABLES, VERSION_TABLE
from derwin_db.translation.debug import shows_causes
from derwin_db.translation.names import Names, names_of
from derwin_db.translation.sqlalchemy_errors import from_sqlalchemy, is_harmless
from derwin_db.translation.sqlstates import (
    BY_CLASS,
    BY_CONSTRAINT,
    CHANGED_SCHEMA,
    COLLISIONS,
    EXACT,
    FOREIGN_ROW,
    FULL_WAL,
    LOST_STATEMENT,
    LOST_VECTOR,
    NAMING_CLASSES,
    STILL_REFERRED_TO,
    WRONG_TYPE,
    Meaning,
)

logger: logging.Logger = logging.getLogger("derwin_db")

_RUN_AGAIN = COLLISIONS | {"55P03", "53300"}
"""SQLSTATEs that another try may not meet: collisions of two units, and a server that is full."""


_LOST = ("08", "57P")
"""Classes of SQLSTATEs that say that the connection is gone."""


_NO_TLS = "rejected SSL upgrade"


_CONCURRENT = "another operation"


_OUTDATED = frozenset({"InvalidCachedStatementError", "OutdatedSchemaCacheError"})


_OURS = frozenset({"projects", VERSION_TABLE, *PROJECT_TABLES})


_ARGUMENT = re.compile(
    r"(?:invalid input for )?query argument \$(?P<number>\d+)(?: in element #(?P<row>\d+) of executemany\(\) sequence)?:"
)
_COUNT = re.compile(r"the server expects (\d+) arguments? for this query, (\d+) ")
"""Sentences of the driver that begin with numbers alone."""

_WORD = re.compile(r"\w+")
_WAL_FOLDER = "pg_wal"
"""In the name of the file that could not be written, in every language of the server."""

_OF_THE_DRIVER = "__asyncpg_"
"""How the names of the driver's own prepared statements begin."""


def sqlstate_of(error: BaseException) -> str | None:
    """Return the SQLSTATE of a driver's error, also of one that SQLAlchemy wraps."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None


def breaks_connections(error: BaseException) -> bool:
    """Tell whether the connection, and others like it, should not be used again though it is open.

    The server did not answer in time, or the driver holds statements that were prepared for another schema.
    """
    return isinstance(error, TimeoutError) or type(error).__name__ in _OUTDATED


def is_connection_lost(error: BaseException) -> bool:
    """Tell whether the connection went away under a statement, or can't run it any more: another one may."""
    state = sqlstate_of(_driver_error(error))
    if state is not None:
        return state.startswith(_LOST) or type(error).__name__ in _OUTDATED
    translated = translate(error)
    return isinstance(translated, DatabaseUnavailable) and not isinstance(error, DerwinError)


def translate(error: BaseException) -> DerwinError | None:
    """Return this package's error for what a driver, SQLAlchemy or the network raised; None for anything else.

    A `DerwinError` is returned as it is. The result carries no text of the original: chain it with `from None`.
    """
    if isinstance(error, DerwinError):
        return error
    origin = _driver_error(error)
    state = sqlstate_of(origin)
    if state is None:
        return _from_builtin(origin) or (None if origin is error else from_sqlalchemy(error))
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
    names = names_of(error)
    if state == "42501" and _is_append_only(error):
        return AppendOnlyViolation()
    meaning = _meaning(error, state, names)
    result = meaning.kind(meaning.sentence(_told(error, state, names)))
    result.constraint = names.constraint if state.startswith("23") else None
    return result


def _meaning(error: BaseException, state: str, names: Names) -> Meaning:
    """Return what this error means: by its constraint, by what it is about, or by its SQLSTATE alone."""
    by_subject = _about(error, state)
    if by_subject is not None:
        return by_subject
    is_ours = names.schema in (None, "public")
    if state.startswith("23") and is_ours and names.constraint in BY_CONSTRAINT:
        return BY_CONSTRAINT[names.constraint]
    if state == "23503" and _is_still_referred_to(error, names):
        return STILL_REFERRED_TO
    if state == "23503" and is_ours and names.constraint == f"fk_{names.table}_project_id" and names.table in _OURS:
        return Meaning(ProjectNotFound)
    if state in ("42P01", "42703", "42883") and any(_is_of_the_schema(name) for name in _places(state, names.written)):
        return Meaning(SchemaOutOfDate)
    return EXACT.get(state) or BY_CLASS.get(state[:2]) or Meaning(DerwinError)


def _about(error: BaseException, state: str) -> Meaning | None:
    """Return what an error means that the server's own words tell apart from others of its SQLSTATE."""
    message = str(getattr(error, "message", "") or "")
    if type(error).__name__ in _OUTDATED:
        return CHANGED_SCHEMA
    if state in ("26000", "42P05") and _OF_THE_DRIVER in message:
        return LOST_STATEMENT
    if state == "53100" and _WAL_FOLDER in message:
        return FULL_WAL
    if state in ("42704", "42883", "42P01") and _is_about_vectors(error):
        return LOST_VECTOR
    return FOREIGN_ROW if state == "42501" and not _is_denied(error) else None


def _told(error: BaseException, state: str, names: Names) -> str:
    """Return what of the error is repeated: names, and the place of a syntax error, whose words may be a value's."""
    if state == "42601":
        position = str(getattr(error, "position", "") or "")
        return f"at character {position}" if position.isdigit() else ""
    if state[:2] not in NAMING_CLASSES:
        names = Names(names.schema, names.table, names.column, names.constraint, names.data_type)
    argument = _argument_of(error) if state == "22000" else ""
    return argument or str(names)


def _argument_of(error: BaseException) -> str:
    """Return which argument the driver could not encode: it says so in words of its own, the value behind them."""
    found = _ARGUMENT.match(str(error))
    if found is None:
        return ""
    row = f" of row {found['row']}" if found["row"] else ""
    return f"argument {found['number']}{row}"


def _is_append_only(error: BaseException) -> bool:
    """Tell whether a privilege is missing on a table that only grows: its name is a word of the server's sentence."""
    if not _is_denied(error):
        return False
    named = set(_WORD.findall(str(error))) & set(APPEND_ONLY_TABLES)
    return any(_is_in_public(table, str(getattr(error, "query", "") or "")) for table in named)


def _is_in_public(table: str, statement: str) -> bool:
    """Tell whether the statement means the table of ours, and not one of the same name in a schema of the service."""
    schemas = re.findall(rf'(\w+)"?\s*\.\s*"?{table}\b', statement)
    return not schemas or "public" in schemas


def _is_denied(error: BaseException) -> bool:
    """Tell a privilege that is missing from a row that a policy refuses: both are 42501, and name the table in their text."""
    return getattr(error, "server_source_function", None) != "ExecWithCheckOptions"


def _is_still_referred_to(error: BaseException, names: Names) -> bool:
    """Tell the row that others refer to from the one that refers to nothing.

    The server has one SQLSTATE for both. It names the table that refers before the constraint where its own row is at fault,
    and behind it where the other's is; in every language.
    """
    message = str(getattr(error, "message", "") or "")
    if not names.constraint or not names.table or names.constraint not in message:
        return False
    return names.table in message.rpartition(names.constraint)[2]


def _is_about_vectors(error: BaseException) -> bool:
    """Tell whether pgvector's type, or an operator on it, is what was not found."""
    return re.search(r'"vector"|\bvector\b *(?:<|\))|(?:<[=#+-]>|<->).*\bvector\b', str(error)) is not None


def _places(state: str, written: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names; those of a column and of its table, as an UPDATE's are told apart, as one, whichever comes first."""
    return tuple(map(".".join, permutations(written))) if state == "42703" and len(written) == 2 else written


def _is_of_the_schema(name: str) -> bool:
    """Tell whether this package's own schema has a table, a column or a function of the name: then it is behind the code."""
    from sqlmodel import SQLModel

    last = name.rpartition(".")[2]
    if last in _OURS or last.startswith("derwin_"):
        return not name.count(".") or name.split(".")[-2] == "public" or last.startswith("derwin_")
    tables = {table.name: table for table in SQLModel.metadata.tables.values() if table.schema == "public"}
    table = tables.get(name.split(".")[-2]) if name.count(".") else None
    return table is not None and table.name in _OURS and last in table.columns


def _from_builtin(error: BaseException) -> DerwinError | None:
    module = type(error).__module__
    if isinstance(error, ssl.SSLError):
        return _from_tls(error)
    if isinstance(error, TimeoutError):
        return DatabaseTimeout("The database did not answer within DERWIN_COMMAND_TIMEOUT. Ask for less at once, or raise it.")
    if type(error) is ConnectionError and _NO_TLS in str(error):
        return ConfigurationError(
            "The server offers no TLS. Turn TLS on there, or set sslmode=disable in the connection URL on purpose."
        )
    if isinstance(error, (OSError, EOFError)):
        return DatabaseUnavailable()
    if module.startswith("asyncpg"):
        return _from_driver(error)
    if module.startswith("sqlalchemy"):
        return from_sqlalchemy(error)
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
    if counts := _COUNT.match(str(error)):
        return InvalidStatement(f"The statement has {counts[1]} parameters, and was given {counts[2]} values.")
    if kind == "InterfaceError" and _ARGUMENT.match(str(error)):
        return InvalidInput(WRONG_TYPE.sentence(_argument_of(error)))
    if kind in _OUTDATED:
        return DatabaseUnavailable(CHANGED_SCHEMA.sentence())
    if kind == "ClientConfigurationError":
        return ConfigurationError("The driver can't use the connection settings. Check the URL and the PG* variables.")
    return InvalidInput(WRONG_TYPE.sentence(_argument_of(error))) if kind == "DataError" else DatabaseUnavailable()


def translate_any(error: Exception) -> DerwinError:
    """Return this package's error for whatever came out of a call of the driver, builtins included."""
    translated = translate(error)
    if translated is not None:
        return translated
    if isinstance(error, MemoryError):
        return TooLarge()
    if isinstance(error, ValueError | TypeError | ArithmeticError | LookupError | AttributeError | RecursionError):
        return InvalidInput(WRONG_TYPE.sentence())  # an argument that can't be encoded
    return DatabaseUnavailable()


def is_of_the_driver(error: BaseException) -> bool:
    """Tell whether an exception that leaves the block began in the driver or SQLAlchemy, and not in the caller's own code."""
    if isinstance(error, DerwinError) or not isinstance(error, Exception):
        return False
    if type(error).__module__.startswith(("asyncpg", "sqlalchemy")):
        return True
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and str(traceback.tb_frame.f_globals.get("__name__", "")).startswith(("asyncpg", "sqlalchemy"))


def raise_translated(error: BaseException) -> NoReturn:
    """Raise this package's error for one of the driver.

    The original stays behind, for its text may hold values; unless it can't, or the operator wants to see it.
    """
    translated = translate_any(error) if isinstance(error, Exception) else None
    if translated is None or translated is error:
        raise error
    if shows_causes() or is_harmless(error):
        raise translated from error
    try:
        raise translated from None
    finally:
        translated.__context__ = None
