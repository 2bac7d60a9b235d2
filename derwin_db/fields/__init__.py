"""What a column can be: scalar types with their bounds, money, JSON, vectors, and the base classes of tables.

Each rule of a field is written here once, for Pydantic and for the database. No table of the domain, no query, no session.
"""
