"""The one translation from what the database, its driver and SQLAlchemy raise to this package's errors.

By SQLSTATE, constraint and class, never by text: MESSAGE and DETAIL may hold values.
"""

import re
import ssl
from typing import NoReturn

from derwin_db.errors import (
    APPEND_ONLY_TABLES,
    UNIT_FAILED,
    AppendOnlyViolation,
    ConcurrentUse,
    ConfigurationError,
    Conflict,
    DatabaseTimeout,
    DatabaseUnavailable,
    DerwinError,
    InvalidInput,
    NotFound,
    ProjectNotFound,
    ScopeError,
    StaleWrite,
    TooLarge,
)
from derwin_db.translation.sqlstates import BY_CLASS, BY_CONSTRAINT, EXACT, WRONG_TYPE

_RUN_AGAIN = frozenset({"40001", "40P01", "55P03", "53300"})
"""SQLSTATEs that another try may not meet: collisions of two units, and a server that is full."""


_LOST = ("08", "57P")
"""Classes of SQLSTATEs that say that the connection is gone."""


_NO_TLS = "rejected SSL upgrade"


_CONCURRENT = "another operation"


_OUTDATED = frozenset({"InvalidCachedStatementError", "OutdatedSchemaCacheError"})


_SCHEMA_CHANGED = "The schema changed while the unit of work was running. Run it again (`db.run` does)."


_SQLALCHEMY: dict[str, tuple[type[DerwinError], str | None]] = {
    "PendingRollbackError": (ScopeError, UNIT_FAILED),
    "IllegalStateChangeError": (ConcurrentUse, None),
    "NoResultFound": (NotFound, None),
    "StaleDataError": (StaleWrite, None),
    "StatementError": (InvalidInput, WRONG_TYPE),
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
    if constraint in BY_CONSTRAINT:
        kind, message = BY_CONSTRAINT[constraint]
    elif state == "23503" and constraint and constraint.endswith("_project_id"):
        kind, message = ProjectNotFound, None
    else:
        kind, message = EXACT.get(state) or BY_CLASS.get(state[:2]) or (DerwinError, None)
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
    return InvalidInput(WRONG_TYPE) if kind == "DataError" else DatabaseUnavailable()


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
        return InvalidInput(WRONG_TYPE)  # an argument that can't be encoded
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
    """Raise this package's error for one of the driver, without the original behind it: its text may hold values."""
    translated = translate_any(error) if isinstance(error, Exception) else None
    if translated is None or translated is error:
        raise error
    try:
        raise translated from None
    finally:
        translated.__context__ = None
