"""What SQLAlchemy raises by itself, as this package's errors: by class and code, never by text that may hold values."""

import re

from derwin_db.errors import (
    UNIT_FAILED,
    ConcurrentUse,
    DerwinError,
    InvalidInput,
    InvalidStatement,
    NotFound,
    ScopeError,
    StaleWrite,
)
from derwin_db.translation.sqlstates import WRONG_TYPE

_LOAD_IT = (
    "Load it in the query: `select(...).options(selectinload(...))`, or `await session.sql.refresh(row, [name])`. "
    "Nothing is read behind an attribute."
)

_BY_NAME: dict[str, tuple[type[DerwinError], str | None]] = {
    "PendingRollbackError": (ScopeError, UNIT_FAILED),
    "IllegalStateChangeError": (ConcurrentUse, None),
    "NoResultFound": (NotFound, None),
    "MultipleResultsFound": (InvalidStatement, "The query found several rows where one is wanted."),
    "StaleDataError": (StaleWrite, None),
    "StatementError": (InvalidInput, WRONG_TYPE.sentence()),
    "MissingGreenlet": (InvalidStatement, f"An attribute was read that is not loaded, outside of an await. {_LOAD_IT}"),
    "DetachedInstanceError": (
        InvalidStatement,
        f"An attribute was read that was not loaded while its unit of work was open. {_LOAD_IT}",
    ),
    "ObjectDeletedError": (NotFound, None),
    "UnmappedInstanceError": (InvalidStatement, "session.sql takes rows of mapped classes (`table=True`) here."),
    "UnmappedClassError": (InvalidStatement, "session.sql takes mapped classes (`table=True`) here."),
    "ResourceClosedError": (InvalidStatement, "The result has no rows, or they were read already."),
}

_MAPPER = re.compile(r"Mapper\[(\w{1,100})(?:\((\w{1,100})\))?\]")
_SETTING_UP = frozenset({"configure_mappers", "_configure_registries", "_check_configure"})
_HARMLESS = frozenset({"MissingGreenlet", "DetachedInstanceError"})


def from_sqlalchemy(error: BaseException) -> DerwinError:
    """Return the error for what SQLAlchemy raises by itself."""
    kind = type(error).__name__
    if getattr(error, "code", None) == "isce":
        return ConcurrentUse()
    if _is_of_mappers(error):
        return _mapping_error(error)
    if kind in _BY_NAME:
        chosen, message = _BY_NAME[kind]
        return chosen(message)
    return InvalidStatement(f"SQLAlchemy can't run this statement as it is written ({kind}). DERWIN_DEBUG=1 shows its reason.")


def is_harmless(error: BaseException) -> bool:
    """Tell whether the error is about classes and attributes alone: no value was near it, so it may be shown as the cause."""
    return type(error).__name__ in _HARMLESS or _is_of_mappers(error)


def _mapping_error(error: BaseException) -> InvalidStatement:
    found = _MAPPER.search(str(error))
    name = f" {found.group(1)}" if found else ""
    return InvalidStatement(
        f"A mapped class of this service{name} can't be set up: a relationship or a foreign key of it does not resolve. "
        "The cause says which. Give relationships the class itself, or its name with its module."
    )


def _is_of_mappers(error: BaseException) -> bool:
    """Tell whether it was raised while mapped classes were set up, which happens at the first use of any of them."""
    if not type(error).__module__.startswith("sqlalchemy") or hasattr(error, "statement"):
        return False
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_name in _SETTING_UP:
            return True
        traceback = traceback.tb_next
    return False
