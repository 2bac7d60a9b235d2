"""How errors of the server, its driver and SQLAlchemy become this package's own. The classes are in `derwin_db.errors`."""
