"""derwin-db: the state of the Derwin QA platform in PostgreSQL, scoped by project in the API, by policies and by keys.

    from derwin_db import Database, repos

Names are loaded at their first use, so that `derwin-db --help` does not wait for what it does not need.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from derwin_db import repos
    from derwin_db.database import Database
    from derwin_db.paging import Page
    from derwin_db.session import AdminSession, ProjectSession

__all__ = ["AdminSession", "Database", "Page", "ProjectSession", "repos"]
__version__ = "0.1.0"

_HOMES = {
    "AdminSession": "derwin_db.session",
    "Database": "derwin_db.database",
    "Page": "derwin_db.paging",
    "ProjectSession": "derwin_db.session",
}


def __getattr__(name: str) -> Any:
    if name == "repos":
        return import_module("derwin_db.repos")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
