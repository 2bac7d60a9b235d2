"""Settings from the environment or `.env`, and connection URLs as people have them. Public.

Nothing here opens a connection; what a server says lives in `derwin_db.connection.facts`.
"""

from derwin_db.settings.settings import Settings
from derwin_db.settings.url import ConnectionInfo

__all__ = ["ConnectionInfo", "Settings"]
