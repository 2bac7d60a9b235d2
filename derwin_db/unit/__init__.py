"""Units of work: the transaction with its savepoints, the SQLAlchemy session on it, and what both need of their `Database`.

Begin, commit and rollback happen here and nowhere else. What a unit offers to callers is in `derwin_db.session`.
"""
