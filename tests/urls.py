"""Connection URLs of tests, changed: over TCP they have no parameters yet, over a socket they have some."""

from derwin_db.settings import ConnectionInfo
from derwin_db.testing.server import url_of


def of_few(connection: ConnectionInfo, number: int = 1) -> str:
    """Return the URL with a limit of so many connections."""
    url = url_of(connection)
    return f"{url}{'&' if '?' in url else '?'}connection_limit={number}"
