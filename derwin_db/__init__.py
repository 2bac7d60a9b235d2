"""derwin-db: the state of the Derwin QA platform in PostgreSQL, scoped by project in the API, by policies and by keys.

from derwin_db import Database, repos
"""

from derwin_db import repos
from derwin_db.database import Database
from derwin_db.paging import Page
from derwin_db.session import AdminSession, ProjectSession

__all__ = ["AdminSession", "Database", "Page", "ProjectSession", "repos"]
__version__ = "0.1.0"
