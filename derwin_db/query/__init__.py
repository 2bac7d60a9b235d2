"""From an expression to SQL and rows: the pieces of statements, the guard that refuses unscoped ones, the compiled statement.

Nothing here talks to a server or knows a session. What a table's queries are lives in `derwin_db.repos`.
"""
