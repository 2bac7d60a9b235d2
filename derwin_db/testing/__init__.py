"""For tests, ours and a consumer's: a server to test on, a migrated template, clones of it."""

from derwin_db.testing.server import TestDatabase, TestServer, choose_server

__all__ = ["TestDatabase", "TestServer", "choose_server"]
