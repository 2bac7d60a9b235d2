"""Connections: the only folder that calls asyncpg. Pools, what is known of a server, and the replica.

What runs on a connection, and when it commits, is decided in `derwin_db.unit`.
"""
