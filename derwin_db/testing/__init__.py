"""For tests, ours and a consumer's: databases, factories, fixtures (`derwin_db.testing.plugin`), attacks on custom queries.

Names are loaded at their first use: pytest imports this package in every project that has derwin-db installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from derwin_db.testing import factories
    from derwin_db.testing.filling import Filled, create_filled, fill
    from derwin_db.testing.isolation import assert_isolated
    from derwin_db.testing.override import override_scoped
    from derwin_db.testing.server import TestDatabase, TestServer, choose_server

__all__ = [
    "OTHER_PROJECT",
    "PROJECT",
    "Filled",
    "TestDatabase",
    "TestServer",
    "assert_isolated",
    "choose_server",
    "create_filled",
    "factories",
    "fill",
    "override_scoped",
]

PROJECT = "test-project"
"""Slug of the project that `project_session` is of, in every database of the fixtures."""

OTHER_PROJECT = "other-test-project"
"""Slug of the project that `other_project_session` is of."""

_HOMES = {
    "Filled": "derwin_db.testing.filling",
    "create_filled": "derwin_db.testing.filling",
    "fill": "derwin_db.testing.filling",
    "assert_isolated": "derwin_db.testing.isolation",
    "TestDatabase": "derwin_db.testing.server",
    "TestServer": "derwin_db.testing.server",
    "choose_server": "derwin_db.testing.server",
    "override_scoped": "derwin_db.testing.override",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "factories":
        return import_module("derwin_db.testing.factories")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
