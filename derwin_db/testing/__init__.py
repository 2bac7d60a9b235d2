"""For tests, ours and a consumer's: a server to test on, a migrated template, clones of it, filled projects, isolation."""

from derwin_db.testing.filling import Filled, create_filled, fill
from derwin_db.testing.isolation import assert_isolated
from derwin_db.testing.server import TestDatabase, TestServer, choose_server

__all__ = ["Filled", "TestDatabase", "TestServer", "assert_isolated", "choose_server", "create_filled", "fill"]
